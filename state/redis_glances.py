"""Small reads that are asked for at about the same moment share one round trip.

A client's own work for a round trip is more than the server's for the read itself, so a server under load would spend
most of its time on it. A read is always sent after it was asked for, never answered by an earlier one: what was written
before is seen.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis

from state.redis_pipeline import SUBJECTS_AT_ONCE, Command, redis_errors

# One is answered while the next is collected.
_PIPELINES_AT_ONCE: Final = 2


class Glances:
    """Reads of single subjects; nobody waits for a timer, only for the pipelines that are under way."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._asked: list[tuple[Sequence[Command], asyncio.Future[list[Any]]]] = []
        self._pipelines: set[asyncio.Task[None]] = set()
        self._is_starting = False

    async def read(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to these commands; DependencyError for what fails of them, whatever becomes of the others."""
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._asked.append((commands, answer))
        if not self._is_starting and len(self._pipelines) < _PIPELINES_AT_ONCE:
            # It starts in the loop's next turn, so that it takes along what is asked for in this one.
            self._is_starting = True
            task = asyncio.create_task(self._work_off())
            self._pipelines.add(task)
            task.add_done_callback(self._pipelines.discard)
        with redis_errors():
            return await answer

    async def _work_off(self) -> None:
        self._is_starting = False
        while self._asked:
            part, self._asked = self._asked[:SUBJECTS_AT_ONCE], self._asked[SUBJECTS_AT_ONCE:]
            try:
                replies = await self._round_trip([command for commands, _ in part for command in commands])
            except Exception as error:  # noqa: BLE001 (it belongs to those who asked, who raise it)
                for _, answer in part:
                    _fail(answer, error)
                continue
            except asyncio.CancelledError:
                for _, answer in part:
                    answer.cancel()
                raise
            start = 0
            for commands, answer in part:
                own = replies[start : start + len(commands)]
                start += len(commands)
                failed = next((reply for reply in own if isinstance(reply, Exception)), None)
                if failed is not None:
                    _fail(answer, failed)
                elif not answer.done():
                    answer.set_result(own)

    async def _round_trip(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies


def _fail(answer: asyncio.Future[list[Any]], error: Exception) -> None:
    """Whoever asked may have gone away meanwhile."""
    if not answer.done():
        answer.set_exception(error)
