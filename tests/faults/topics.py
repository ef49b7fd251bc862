"""The topics of a run, made before anybody asks for them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.faults.stream import PARTITIONS

READ: Final = ("calls", "observations")
DEAD_LETTERS: Final = "dead-letters"

# How the driver's own clients call themselves: the network that is cut is not theirs.
CLIENT_ID: Final = "faults-driver"

_ALL: Final = (*READ, DEAD_LETTERS)


async def make_topics(bootstrap: str) -> None:
    """Those that are read and those that are written, before anybody asks for them."""
    async with _admin(bootstrap) as admin:
        async for attempt in AsyncRetrying(
            # What was deleted is still there for a while.
            retry=retry_if_exception_type(_StillThereError),
            stop=stop_after_delay(30),
            wait=wait_fixed(0.1),
        ):
            with attempt:
                missing = [name for name in _ALL if name not in await admin.list_topics()]
                answer = await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in missing])
                if any(code for _, code, *_ in answer.topic_errors):
                    raise _StillThereError(str(answer.topic_errors))


async def delete_topics(bootstrap: str) -> None:
    """Returns when the broker lists them no more."""
    async with _admin(bootstrap) as admin:
        await admin.delete_topics(list(_ALL))
        while set(_ALL) & set(await admin.list_topics()):  # noqa: ASYNC110 (a broker sets no event)
            await asyncio.sleep(0.1)


class _StillThereError(Exception):
    pass


@contextlib.asynccontextmanager
async def _admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, client_id=CLIENT_ID)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()
