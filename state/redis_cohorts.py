"""The hash of the cohorts in Redis: claimed by one worker at a time, written as a whole, read as a whole.

Each is one step by a script: a client of a cluster has no other way to read, decide and write in one.
"""

from collections.abc import Mapping

from redis.asyncio import Redis

from detection.hours import iso
from state.cohort_codec import FARTHEST_MS
from state.keys import COHORTS
from state.redis_pipeline import CLAIM_COHORTS, REPLACE_HASH, Scripts, redis_errors, run_pipeline


async def claim(client: Redis, *, now_ms: int, due_ms: int) -> bool:
    """Set the due time to `due_ms` if it has come; False when it has not, or another worker was ahead."""
    call = (CLAIM_COHORTS, 1, COHORTS, now_ms, due_ms, iso(now_ms), FARTHEST_MS)
    (claimed,) = await Scripts(client).run([call])
    return bool(claimed)


async def replace(client: Redis, fields: Mapping[str, bytes]) -> None:
    """The hash becomes these fields, in one step: no reader finds it empty in between."""
    await Scripts(client).run([(REPLACE_HASH, 1, COHORTS, *(each for pair in fields.items() for each in pair))])


async def read(client: Redis) -> dict[bytes, bytes]:
    """All fields, none where nothing was ever refreshed."""
    found: dict[bytes, bytes]
    (found,) = await run_pipeline(client, [("HGETALL", COHORTS)])
    with redis_errors():
        if isinstance(found, Exception):
            raise found
    return found
