"""Answers that are kept for a few seconds, so that many pages that ask for the same cost one."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

_MOST: Final = 64

Answer = TypeVar("Answer")


class _Entry(Generic[Answer]):
    def __init__(self) -> None:
        self.making = asyncio.Lock()
        self.made_at = float("-inf")
        self.answer: Answer | None = None


class Kept(Generic[Answer]):
    """The newest answers by what was asked for; each is made by whoever asks first, while the others wait for it.

    What fails to be made is not kept.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._entries: OrderedDict[Hashable, _Entry[Answer]] = OrderedDict()

    async def get(self, asked: Hashable, make: Callable[[], Awaitable[Answer]]) -> Answer:
        """An answer that was made so many seconds ago at most."""
        entry = self._entries.setdefault(asked, _Entry())
        self._entries.move_to_end(asked)
        while len(self._entries) > _MOST:
            self._entries.popitem(last=False)
        async with entry.making:
            answer = entry.answer
            if answer is None or time.monotonic() - entry.made_at > self._seconds:
                answer = entry.answer = await make()
                entry.made_at = time.monotonic()
            return answer
