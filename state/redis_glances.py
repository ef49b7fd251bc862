"""Small reads that are asked for at about the same moment share one round trip.

A client's own work for a round trip is more than the server's for the read itself, so a server under load would spend
most of its time on it. A read is always sent after it was asked for, never answered by an earlier one: what was written
before is seen.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from state.redis_exchange import Exchanges
from state.redis_pipeline import SUBJECTS_AT_ONCE, Command, redis_errors


class Glances:
    """Reads of single subjects, one pipeline at a time: nobody waits for a timer, only for the one under way.

    With exchanges, which only a client of one server has, a round trip takes half the work.

    Measured: with two or more at a time each takes fewer reads along, and under load all of them come later.
    """

    def __init__(self, client: Redis, exchanges: Exchanges | None = None) -> None:
        self._client = client
        self._exchanges = exchanges
        self._asked: list[tuple[Sequence[Command], asyncio.Future[list[Any]]]] = []
        self._working: asyncio.Task[None] | None = None

    async def read(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to these commands; DependencyError for what fails of them, whatever becomes of the others."""
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._asked.append((commands, answer))
        if self._working is None or self._working.done():
            # It starts in the loop's next turn, so that it takes along what is asked for in this one.
            self._working = asyncio.create_task(self._work_off())
        with redis_errors():
            return await answer

    async def _work_off(self) -> None:
        while self._asked:
            part, self._asked = self._asked[:SUBJECTS_AT_ONCE], self._asked[SUBJECTS_AT_ONCE:]
            try:
                replies = await self._round_trip([command for commands, _ in part for command in commands])
            except Exception as error:  # noqa: BLE001 (it belongs to those who asked, who raise it)
                for _, answer in part:
                    _fail(answer, error)
                continue
            except asyncio.CancelledError:
                for _, answer in (*part, *self._asked):
                    answer.cancel()
                self._asked = []
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
        if self._exchanges is not None:
            return await self._exchanges.hold(lambda exchange: exchange.ask(commands))
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies


def _fail(answer: asyncio.Future[list[Any]], error: Exception) -> None:
    """Whoever asked may have gone away meanwhile."""
    if not answer.done():
        answer.set_exception(error)
