"""The hash of the cohorts in Redis: claimed by one worker at a time, written as a whole, read as a whole."""

from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import WatchError

from detection.hours import iso
from state.cohort_codec import DUE, REFRESHED, is_due
from state.keys import COHORTS
from state.redis_pipeline import redis_errors


async def claim(client: Redis, *, now_ms: int, due_ms: int) -> bool:
    """Set the due time to `due_ms` if it has come; False when it has not, or another worker was ahead."""
    pipeline: Any
    with redis_errors():
        async with client.pipeline(transaction=True) as pipeline:
            try:
                await pipeline.watch(COHORTS)
                # After WATCH a command is sent at once, after MULTI it waits for EXEC.
                if not is_due(await pipeline.execute_command("HGET", COHORTS, DUE), now_ms):
                    return False
                await _in_one_step(pipeline, ("HSET", COHORTS, DUE, due_ms, REFRESHED, iso(now_ms)))
            except WatchError:
                return False
    return True


async def replace(client: Redis, fields: Mapping[str, bytes]) -> None:
    """The hash becomes these fields, in one step: no reader finds it empty in between."""
    flat = [each for pair in fields.items() for each in pair]
    with redis_errors():
        async with client.pipeline(transaction=True) as pipeline:
            await _in_one_step(pipeline, ("DEL", COHORTS), ("HSET", COHORTS, *flat))


async def read(client: Redis) -> dict[bytes, bytes]:
    """All fields, none where nothing was ever refreshed."""
    with redis_errors():
        found: dict[bytes, bytes] = await client.hgetall(COHORTS)  # type: ignore[assignment]  # our clients answer bytes
    return found


async def _in_one_step(pipeline: Any, *commands: tuple[Any, ...]) -> None:
    pipeline.multi()
    for command in commands:
        pipeline.execute_command(*command)
    await pipeline.execute()
