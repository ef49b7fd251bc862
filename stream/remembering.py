"""What the notifier knows each target was told, as it is kept in the store for whoever notifies next.

While the lease is this worker's, what it has here is the truth, and the store has it a moment later. So nothing is told
twice only because the store was away when it should have been kept.
"""

import asyncio
from typing import Final

import structlog

from detection.errors import DependencyError
from detection.hours import SECOND_MS
from detection.rules.notice import Notice
from detection.rules.platform import PlatformAlert
from state.notified import Notified, NotifiedStore, Told, encode, notified_field, platform_field

log = structlog.get_logger()

# A worker that is gone for this long has lost the lease, which it prolongs once a second.
_LEASE_MS: Final = 10 * SECOND_MS


class Remembering:
    """The memory of one worker's notifier; `holder` names it among the others."""

    def __init__(self, store: NotifiedStore, holder: str) -> None:
        self.notified: dict[str, Notified] = {}
        self.platforms: dict[str, PlatformAlert] = {}
        self.is_holder = False
        self._store = store
        self._holder = holder
        # Fields that are not yet kept as they are here, and the one step at a time that keeps them.
        self._unkept: set[bytes] = set()
        self._keeping = asyncio.Lock()

    async def hold(self) -> bool:
        """Whether this worker notifies now; what was kept by the one before is then known here."""
        lease = await self._store.claim(self._holder, for_ms=_LEASE_MS)
        if lease == "other":
            self._lost()
        elif lease == "taken" or not self.is_holder:
            await self._recall()
            log.info("notify.lease_taken", holder=self._holder, alerts=len(self.notified))
        return self.is_holder

    def remember(self, target: str, notice: Notice, told: Told) -> None:
        """The target knows this."""
        known = self.notified.get(notice.id)
        targets = {} if known is None else known.targets
        self.put(Notified(notice, {**targets, target: told}, gone_ms=None if known is None else known.gone_ms))

    def remember_end(self, target: str, id_: str) -> None:
        """The target knows that it is over; what no target has to be told of any more is forgotten."""
        known = self.notified.get(id_)
        if known is None:
            return
        left = {other: told for other, told in known.targets.items() if other != target}
        if left:
            self.put(Notified(known.notice, left, gone_ms=known.gone_ms))
        else:
            self.forget(id_)

    def put(self, one: Notified) -> None:
        self.notified[one.notice.id] = one
        self._unkept.add(notified_field(one.notice.id))

    def forget(self, id_: str) -> None:
        del self.notified[id_]
        self._unkept.add(notified_field(id_))

    def regroup(self, platforms: dict[str, PlatformAlert]) -> None:
        """These are the platform's alerts from now on, by slug."""
        for slug in platforms.keys() | self.platforms.keys():
            if platforms.get(slug) != self.platforms.get(slug):
                self._unkept.add(platform_field(slug))
        self.platforms = platforms

    async def keep(self) -> None:
        """Let the store have what it has not; DependencyError when it does not answer: the next call tries again."""
        async with self._keeping:
            if not self._unkept or not self.is_holder:
                return
            known: dict[bytes, Notified | PlatformAlert] = {
                **{notified_field(id_): one for id_, one in self.notified.items()},
                **{platform_field(slug): one for slug, one in self.platforms.items()},
            }
            changes, self._unkept = self._unkept, set()
            try:
                is_kept = await self._store.keep(
                    self._holder, {name: encode(known[name]) if name in known else None for name in changes}
                )
            except BaseException:
                self._unkept |= changes
                raise
            if not is_kept:
                self._lost()

    async def release(self) -> None:
        """Keep what is left to keep, and let another worker go on at once; it is no matter if that fails."""
        if not self.is_holder:
            return
        try:
            await self.keep()
            await self._store.release(self._holder)
        except DependencyError as error:
            log.warning("notify.not_released", reason=error.reason)
        self.is_holder = False

    def _lost(self) -> None:
        if self.is_holder:
            log.warning("notify.lease_lost", holder=self._holder)
        self.is_holder = False

    async def _recall(self) -> None:
        was_holder, self.is_holder = self.is_holder, False
        memory = await self._store.recall()
        for name in memory.damaged:
            log.error("notify.damaged", field=name.decode(errors="backslashreplace"))
        if was_holder and not (memory.notified or memory.platforms):
            # The store has lost everything, the lease with it, while we knew: let it have that again.
            self._unkept = {notified_field(id_) for id_ in self.notified} | {
                platform_field(one) for one in self.platforms
            }
        else:
            self.notified, self.platforms = dict(memory.notified), dict(memory.platforms)
            self._unkept = set(memory.damaged)
        self.is_holder = True
