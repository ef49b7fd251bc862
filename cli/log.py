"""`tidemark log`: which life of each topic is read, and the operator's word that a topic was made anew.

Offsets of a topic that was deleted and made again mean nothing in the new one. A worker that notices stops. `renew`
counts the topic's life on, in Redis: its events are then a source of their own, read from the beginning, and what was
learned stays.
"""

import asyncio
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detection.errors import InputError, OperatorError

if TYPE_CHECKING:
    from settings import Settings
    from state.store import StateStore

_TOPICS = ("calls", "observations")
_ASK_SECONDS = 5.0


class Action(StrEnum):
    """What `tidemark log` can do."""

    show = "show"
    renew = "renew"


def log(
    action: Annotated[Action, typer.Argument(help="`show` the lives and the progress, or `renew` a topic's life.")],
    topic: Annotated[str, typer.Argument(help="calls or observations; for `renew` only.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Renew although Kafka says that workers are alive.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")] = False,
) -> None:
    """Show which life of the topics is read, or say that a topic was made anew."""
    import orjson

    from settings import load

    if (action is Action.renew) != (topic in _TOPICS) or (action is Action.show and topic):
        raise InputError(f"tidemark log show, or tidemark log renew {' | '.join(_TOPICS)}")
    settings = load()
    if action is Action.show:
        facts = asyncio.run(_with_store(settings, facts_of))
    else:
        workers = asyncio.run(members(settings))
        if workers and not force:
            raise OperatorError(
                f"{workers} of the group {settings.kafka_group!r} are alive: stop the workers first, and wait for "
                f"TIDEMARK_KAFKA_SESSION_SECONDS ({settings.kafka_session_seconds:g} s) if one was killed; --force "
                "renews all the same, should the broker be wrong"
            )
        if workers is None:
            typer.echo("Kafka does not say whether workers are alive: make sure that none is.", err=True)
        if not yes:
            typer.confirm(f"Was {topic} deleted and made anew? Its offsets will then begin again", abort=True, err=True)

        async def renew(store: "StateStore") -> dict[str, Any]:
            life = await store.renew_log(topic, now_ms=time.time_ns() // 1_000_000)
            return {"topic": topic, "life": life}

        facts = asyncio.run(_with_store(settings, renew))
    print(orjson.dumps(facts, option=orjson.OPT_INDENT_2).decode() if json else text_of(facts))


async def _with_store(settings: "Settings", work: Any) -> dict[str, Any]:
    from state.redis_store import RedisStore

    store = RedisStore.connect(settings.redis(), settings.policy())
    try:
        found: dict[str, Any] = await work(store)
        return found
    finally:
        await store.aclose()


async def facts_of(store: "StateStore") -> dict[str, Any]:
    """The lives of the topics, and how far each source is."""
    from detection.hours import iso

    lives = await store.log_lives()
    progress = await store.progress()
    return {
        "topics": {
            topic: {"life": one.life, "renewed": one.renewed, "recreated": one.recreated, "noticed": one.noticed}
            for topic, one in sorted(lives.items())
        },
        "progress": {
            source: {"offset": one.offset, "time": iso(one.time_ms) if one.time_ms >= 0 else "", "record": one.record}
            for source, one in sorted(progress.items())
        },
    }


def text_of(facts: dict[str, Any]) -> str:
    """The same, for people."""
    if "life" in facts:
        return f"{facts['topic']} is in life {facts['life']} now: start the workers, they read it from its beginning"
    lines = [
        f"{topic}: life {one['life']}{', renewed ' + one['renewed'] if one['renewed'] else ''}"
        + (f", found made anew {one['recreated']} times, last {one['noticed']}" if one["recreated"] else "")
        for topic, one in facts["topics"].items()
    ]
    lines += [f"{source}: {one['offset']}  {one['time']}" for source, one in facts["progress"].items()]
    return "\n".join(lines) or "no topic was read yet"


async def members(settings: "Settings") -> int | None:
    """How many workers the group has now, None where Kafka does not say."""
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    admin = AIOKafkaAdminClient(**settings.brokers().options())
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            await admin.start()
            responses = await admin.describe_consumer_groups([settings.kafka_group])
            return sum(len(group[5]) for response in responses for group in response.groups)
    except (KafkaError, TimeoutError, OSError):
        return None
    finally:
        await admin.close()
