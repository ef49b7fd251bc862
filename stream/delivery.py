"""What is under way to one target: what waits, what failed, and when it is tried again; no target waits for another.

A failure of one alert is that alert's: it is tried again later and later, and those that never failed go first. When
nothing at all arrives, the target is given time too, and then tried with one call only.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog

from detection.hours import SECOND_MS
from metrics import Instruments
from stream.channels.channel import DeliveryError, Telling
from stream.channels.targets import Target

log = structlog.get_logger()

Delivered = Callable[[str, list[Telling]], Awaitable[None]]

_FIRST_PAUSE_MS: Final = 1 * SECOND_MS
_LONGEST_PAUSE_MS: Final = 60 * SECOND_MS


class Delivery:
    """Tells one target; `delivered` is called with what it has taken, before anything else is told of these alerts."""

    def __init__(
        self, target: Target, instruments: Instruments, *, delivered: Delivered, randomness: random.Random
    ) -> None:
        self.target = target
        self._instruments = instruments
        self._delivered = delivered
        self._random = randomness
        self._waiting: dict[str, Telling] = {}
        # Since when each telling is due, by its id.
        self._due_ms: dict[str, int] = {}
        self._under_way: dict[str, Telling] = {}
        self._failures: dict[str, int] = {}
        self._not_before_ms: dict[str, int] = {}
        self._failures_in_a_row = 0
        self._target_not_before_ms = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._now_ms = 0

    @property
    def pending(self) -> int:
        """Alerts that the target is still to be told of, those under way among them."""
        return len(self._waiting.keys() | self._under_way.keys())

    def offer(self, tellings: Iterable[Telling], *, now_ms: int) -> None:
        """Tell these, as soon as the target takes them, and nothing that was offered before and has not begun."""
        self._now_ms = now_ms
        self._waiting = {one.notice.id: one for one in tellings if one.notice.id not in self._under_way}
        everything = {**self._waiting, **self._under_way}
        self._failures = {id_: count for id_, count in self._failures.items() if id_ in everything}
        self._not_before_ms = {id_: ms for id_, ms in self._not_before_ms.items() if id_ in everything}
        due = {one.id for one in everything.values() if one.occasion != "firing"}
        self._due_ms = {id_: self._due_ms.get(id_, now_ms) for id_ in due}
        name = self.target.name
        self._instruments.notifications_pending.labels(name).set(len(due))
        oldest = max((now_ms - ms for ms in self._due_ms.values()), default=0)
        self._instruments.notifications_oldest.labels(name).set(max(oldest, 0) / SECOND_MS)
        self._begin()

    def withdraw(self) -> None:
        """Begin nothing more: somebody else tells now. What is under way goes on."""
        self._waiting.clear()
        self._due_ms.clear()
        for gauge in (self._instruments.notifications_pending, self._instruments.notifications_oldest):
            gauge.labels(self.target.name).set(0)

    async def aclose(self, *, within_seconds: float) -> None:
        """Wait for what is under way, but no longer than that, and give the channel back."""
        self._waiting.clear()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.target.channel.aclose()

    def _begin(self) -> None:
        channel = self.target.channel
        most = 1 if self._failures_in_a_row else channel.parallel
        while len(self._tasks) < most and self._now_ms >= self._target_not_before_ms:
            ready = [one for id_, one in self._waiting.items() if self._not_before_ms.get(id_, 0) <= self._now_ms]
            if not ready:
                return
            # What failed before must not stand in the way of what never did.
            ready.sort(key=lambda one: self._failures.get(one.notice.id, 0))
            part = ready[: channel.at_once]
            for one in part:
                del self._waiting[one.notice.id]
                self._under_way[one.notice.id] = one
            task = asyncio.create_task(self._tell(part))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("notify.broken", target=self.target.name, exc_info=error)
        if not task.cancelled():
            self._begin()

    async def _tell(self, part: list[Telling]) -> None:
        channel = self.target.channel
        try:
            try:
                async with asyncio.timeout(channel.timeout_seconds):
                    await channel.tell(part)
            except TimeoutError:
                self._failed(part, DeliveryError("timed out"))
            except DeliveryError as error:
                self._failed(part, error)
            # A channel's defect must not end what others are told, nor go unseen; its alerts are tried again.
            except Exception as error:
                log.exception("notify.defect", target=self.target.name)
                self._failed(part, DeliveryError(type(error).__name__))
            else:
                self._failures_in_a_row = 0
                self._instruments.notifications.labels(self.target.name, "delivered").inc(len(part))
                for one in part:
                    self._failures.pop(one.notice.id, None)
                    self._due_ms.pop(one.id, None)
                await self._delivered(self.target.name, part)
        finally:
            for one in part:
                self._under_way.pop(one.notice.id, None)

    def _failed(self, part: list[Telling], error: DeliveryError) -> None:
        is_first_of_its_time = self._now_ms >= self._target_not_before_ms
        if is_first_of_its_time:
            # Calls that were under way together fail together, and are one reason to wait, not many.
            self._failures_in_a_row += 1
        self._instruments.notifications.labels(self.target.name, "failed").inc(len(part))
        asked_ms = 0 if error.wait_seconds is None else int(error.wait_seconds * SECOND_MS)
        for one in part:
            id_ = one.notice.id
            self._failures[id_] = self._failures.get(id_, 0) + 1
            self._not_before_ms[id_] = self._now_ms + max(asked_ms, self._pause_ms(self._failures[id_]))
        if asked_ms or (is_first_of_its_time and self._failures_in_a_row > 1):
            # Not at the first one: it may be this alert that the target does not like, and others must not wait for it.
            self._target_not_before_ms = self._now_ms + max(asked_ms, self._pause_ms(self._failures_in_a_row - 1))
        log.warning(
            "notify.failed",
            target=self.target.name,
            alerts=[one.notice.id for one in part[:10]],
            reason=str(error),
            failures=self._failures_in_a_row,
        )

    def _pause_ms(self, failures: int) -> int:
        """Twice as long after each failure, and somewhere between half and all of it: not all workers at once."""
        longest = min(_FIRST_PAUSE_MS * 2 ** min(failures - 1, 30), _LONGEST_PAUSE_MS)
        return int(longest * self._random.uniform(0.5, 1.0))
