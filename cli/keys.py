"""`tidemark keys`: who may ask the API for what. Asks Redis itself: whoever has its URL may make keys."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from detection.errors import InputError

if TYPE_CHECKING:
    from state.api_keys import ApiKey
    from state.redis_api_keys import RedisApiKeys

Result = TypeVar("Result")

_DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000

keys = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make, list, rotate and take back API keys.")

KeyId = Annotated[str, typer.Argument(metavar="ID", help="Id of the key, as `tidemark keys list` shows it.")]
Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Who is to use it, for the audit and for people.")],
    scope: Annotated[list[str], typer.Option(help="read, ingest, train or admin; may be given several times.")],
    subject: Annotated[
        list[str] | None,
        typer.Option(help="Glob of the subjects it reaches, such as 'biller:acme-*'; may be given several times."),
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="Days until it expires; never by default.")] = None,
    per_second: Annotated[int | None, typer.Option(min=1, help="Most requests in a second.")] = None,
    json: Json = False,
) -> None:
    """Make a key and show it, once: only a digest of it is kept."""
    from state.api_keys import EVERYTHING, new_key

    now_ms = _now_ms()
    kept, text = new_key(
        name,
        scope,
        subjects=subject or EVERYTHING,
        now_ms=now_ms,
        expires_ms=None if days is None else now_ms + days * _DAY_MS,
        per_second=per_second,
    )

    async def keep(stored: "RedisApiKeys") -> None:
        from state.api_keys import MOST_KEYS

        if len(await stored.all()) >= MOST_KEYS:
            raise InputError(f"there are {MOST_KEYS} keys already: take back what nobody uses")
        await stored.keep(kept)

    _asked(keep)
    _show_new(kept, text, json=json)


@keys.command(name="list")
def list_keys(json: Json = False) -> None:
    """Show every key: what it may do, which subjects it reaches, and until when. Not the keys themselves."""
    found = sorted(_asked(lambda stored: stored.all()).values(), key=lambda one: (one.name, one.created_ms))
    if json:
        _print_json([_facts(one) for one in found])
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    # Whole times and ids, on however many lines: they are for copying.
    narrow = ("id", "made", "expires")
    columns = ("id", "name", "scopes", "subjects", "made", "expires", "a second")
    table = Table(*(Column(name, no_wrap=name in narrow) for name in columns))
    for one in found:
        facts = _facts(one)
        expires = facts["expires"] or "never"
        table.add_row(
            one.id,
            escape(one.name),
            " ".join(one.scopes),
            escape(" ".join(one.subjects)),
            facts["created"],
            expires if one.is_valid(_now_ms()) else f"{expires} (over)",
            str(one.per_second or "-"),
        )
    Console(highlight=False).print(table if found else "There are no keys: `tidemark keys create` makes one.")


@keys.command()
def rotate(
    key_id: KeyId,
    grace_hours: Annotated[int, typer.Option(min=0, max=8760, help="Hours for which the old key is still taken.")] = 24,
    json: Json = False,
) -> None:
    """Make another key that may do the same; the old one expires after the grace."""
    from msgspec.structs import replace

    from state.api_keys import new_key

    async def renew(stored: "RedisApiKeys") -> tuple["ApiKey", str]:
        now_ms = _now_ms()
        old = _known(await stored.all(), key_id)
        lifetime_ms = None if old.expires_ms is None else max(old.expires_ms - old.created_ms, _HOUR_MS)
        kept, text = new_key(
            old.name,
            old.scopes,
            subjects=old.subjects,
            now_ms=now_ms,
            expires_ms=None if lifetime_ms is None else now_ms + lifetime_ms,
            per_second=old.per_second,
        )
        ends_ms = now_ms + grace_hours * _HOUR_MS
        await stored.keep(kept)
        await stored.keep(replace(old, expires_ms=ends_ms if old.expires_ms is None else min(ends_ms, old.expires_ms)))
        return kept, text

    kept, text = _asked(renew)
    _show_new(kept, text, json=json)


@keys.command()
def revoke(key_id: KeyId) -> None:
    """Take a key back; the API lets nobody in with it a few seconds later."""

    async def forget(stored: "RedisApiKeys") -> "ApiKey":
        known = _known(await stored.all(), key_id)
        await stored.forget(key_id)
        return known

    print(f"{key_id} ({_asked(forget).name}) is taken back.")


def _asked(ask: "Callable[[RedisApiKeys], Awaitable[Result]]") -> Result:
    from settings import load
    from state.redis_api_keys import RedisApiKeys
    from state.redis_pipeline import client_of

    settings = load()

    async def asking() -> Result:
        client = client_of(settings.redis(), connections=1, timeout_seconds=5.0, retries=3)
        try:
            return await ask(RedisApiKeys(client))
        finally:
            await client.aclose()

    return asyncio.run(asking())


def _known(found: "dict[str, ApiKey]", key_id: str) -> "ApiKey":
    if key_id not in found:
        raise InputError(f"there is no key {key_id!r}; `tidemark keys list` shows them")
    return found[key_id]


def _show_new(kept: "ApiKey", text: str, *, json: bool) -> None:
    if json:
        _print_json({**_facts(kept), "key": text})
        return
    print(text)
    typer.echo(
        f"Key {kept.id} of {kept.name}: {', '.join(kept.scopes)}; {', '.join(kept.subjects)}. "
        "It is not shown again: keep it where secrets are kept.",
        err=True,
    )


def _facts(key: "ApiKey") -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": list(key.scopes),
        "subjects": list(key.subjects),
        "created": _text(key.created_ms),
        "expires": None if key.expires_ms is None else _text(key.expires_ms),
        "per_second": key.per_second,
    }


def _text(ms: int) -> str:
    from detection.hours import iso

    return iso(ms)


def _print_json(value: Any) -> None:
    import orjson

    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
