"""Tells people of alerts: what is open is compared with what each target was last told, once a second, by one worker.

It is no queue. Whatever was missed, by a restart or while something was away, is found by the next comparison:

    open, and not told       told, once it has been open for a little while
    worse than was told      told again
    told, and open no more   told that it is resolved, then forgotten

Each target is told by itself and at least once: a crash between telling and remembering tells again, with the same id.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
import structlog

from detection.errors import DependencyError, UnreadableStateError
from detection.hours import HOUR_MS, SECOND_MS
from detection.rules.alert import Alert
from detection.rules.notice import Notice, Occasion, notice_of
from detection.rules.platform import Grouping, PlatformAlert, notice_of_platform, regroup
from detection.rules.rule import Rule
from detection.subject import Subject
from metrics import Instruments
from state.notified import Notified, NotifiedStore, Told
from stream.channels.channel import Telling
from stream.channels.targets import Target
from stream.delivery import Delivery
from stream.remembering import Remembering

log = structlog.get_logger()

# How long it is tried to tell a target that does not answer of the end of an alert.
_GIVE_UP_MS: Final = 24 * HOUR_MS
_STOP_SECONDS: Final = 5.0


class Watched(Protocol):
    """What there is to tell; DependencyError when it does not answer."""

    async def open_alerts(self, also: Collection[Subject] = ()) -> Sequence[Alert]:
        """All that are open, of every subject that may have one and of these, whether anything hints at them or not.

        Those that were resolved and are still remembered may be among them.
        """
        ...

    async def rules(self) -> Mapping[str, Rule]:
        """Those in force, by id."""
        ...

    async def active_billers(self) -> int:
        """How many billers are called at all."""
        ...


@dataclass(frozen=True, slots=True)
class Standing:
    """An alert that is open now: who is to be told, and what speaks against telling anybody who was not told yet."""

    notice: Notice
    targets: frozenset[str]
    is_taken: bool = False
    is_held: bool = False


class Notifier:
    """The notifier of one worker; `holder` names it among the others.

    `wait_ms` is how long an alert must have been open before anybody is told.
    """

    def __init__(
        self,
        watched: Watched,
        memory: NotifiedStore,
        targets: Sequence[Target],
        instruments: Instruments,
        *,
        holder: str,
        wait_ms: int = 10 * SECOND_MS,
        grouping: Grouping | None = None,
    ) -> None:
        self._watched = watched
        self._memory = Remembering(memory, holder)
        self._instruments = instruments
        self._wait_ms = wait_ms
        self._grouping = Grouping() if grouping is None else grouping
        chance = random.Random()  # noqa: S311  # it only keeps retries from falling together
        self._deliveries = {
            one.name: Delivery(one, instruments, delivered=self._delivered, randomness=chance) for one in targets
        }
        self._defaults = frozenset(one.name for one in targets if one.is_default)
        # When an alert was first seen open, and when a channel that has to be told again and again last was.
        self._seen_ms: dict[str, int] = {}
        self._repeated_ms: dict[str, dict[str, int]] = {name: {} for name in self._deliveries}
        self._unknown: set[str] = set()

    @property
    def is_holder(self) -> bool:
        """Whether this worker was the one that notifies, when it last looked."""
        return self._memory.is_holder

    @property
    def pending(self) -> int:
        """Alerts that some target is still to be told of."""
        return sum(one.pending for one in self._deliveries.values())

    async def reconcile(self, now_ms: int) -> None:
        """One comparison; what is to be told is told in tasks of their own. What is away is waited for by the next."""
        try:
            if not await self._memory.hold():
                self._rest()
                return
            alerts = await self._watched.open_alerts(self._subjects_told_of())
            rules = await self._watched.rules()
            standing = await self._stand(alerts, rules, now_ms)
            self._mark_gone(alerts, standing, now_ms)
            for name, delivery in self._deliveries.items():
                delivery.offer(self._tellings(name, standing, now_ms), now_ms=now_ms)
            await self._memory.keep()
        except DependencyError as error:
            log.warning("notify.postponed", dependency=error.dependency, reason=error.reason)
        except UnreadableStateError as error:
            log.error("notify.unreadable", reason=str(error))  # noqa: TRY400  # the message names the key

    async def aclose(self) -> None:
        """Wait a little for what is under way, then let another worker go on at once."""
        for delivery in self._deliveries.values():
            await delivery.aclose(within_seconds=_STOP_SECONDS)
        await self._memory.release()

    def _rest(self) -> None:
        """Somebody else notifies; should it be us again, that is a new beginning."""
        self._seen_ms.clear()
        for delivery in self._deliveries.values():
            delivery.withdraw()
        for repeated in self._repeated_ms.values():
            repeated.clear()

    def _subjects_told_of(self) -> set[Subject]:
        """A hint may be lost; that an alert is over, its own subject must say."""
        texts = {one.notice.subject for one in self._memory.notified.values()}
        return {Subject.parse(text) for text in texts if ":" in text}

    async def _stand(self, alerts: Sequence[Alert], rules: Mapping[str, Rule], now_ms: int) -> dict[str, Standing]:
        """What is open, by id: the billers' own, and the platform's."""
        opened = [alert for alert in alerts if alert.state == "open"]
        platforms = await self._regroup(opened)
        standing = {}
        spoken_for: dict[str, frozenset[str]] = dict.fromkeys(platforms, frozenset())
        for alert in opened:
            rule = rules.get(alert.rule)
            targets = self._targets_of(rule)
            is_muted = rule is not None and rule.is_muted(now_ms)
            platform = platforms.get(alert.slug)
            is_covered = platform is not None and platform.covers(alert)
            if is_covered and not is_muted:
                spoken_for[alert.slug] |= targets
            standing[alert.id] = Standing(
                notice_of(alert, description="" if rule is None else rule.description),
                targets,
                is_taken=bool(alert.acknowledged_by) or alert.opinion == "false",
                is_held=is_muted or is_covered,
            )
        for slug, platform in platforms.items():
            targets = spoken_for[slug]
            # Nobody is named where the rules of all its members are muted.
            standing[platform.id] = Standing(notice_of_platform(platform, self._grouping), targets, is_held=not targets)
        self._seen_ms = {id_: self._seen_ms.get(id_, now_ms) for id_ in standing}
        return standing

    async def _regroup(self, opened: Sequence[Alert]) -> dict[str, PlatformAlert]:
        known = self._memory.platforms
        # Counting billers takes time, and mostly no number of them would make it the platform.
        could_be = known or len({alert.subject for alert in opened}) >= self._grouping.least
        active = await self._watched.active_billers() if could_be else 0
        platforms = regroup(known, opened, active=active, grouping=self._grouping)
        self._memory.regroup(platforms)
        return platforms

    def _targets_of(self, rule: Rule | None) -> frozenset[str]:
        named = frozenset() if rule is None else frozenset(rule.notify)
        for name in named - self._deliveries.keys() - self._unknown:
            self._unknown.add(name)
            log.error("notify.unknown_target", target=name, rule="" if rule is None else rule.id)
        # A name that nobody has must not make an alert go nowhere.
        return named & self._deliveries.keys() or self._defaults

    def _mark_gone(self, alerts: Sequence[Alert], standing: Mapping[str, Standing], now_ms: int) -> None:
        """Of what was told and is open no more, keep since when, and when it was resolved; forget what nobody knows."""
        ended = {alert.id: alert for alert in alerts if alert.state == "resolved"}
        for id_, one in list(self._memory.notified.items()):
            if id_ in standing:
                if one.gone_ms is not None:
                    self._memory.put(Notified(standing[id_].notice, one.targets))
                continue
            known = {
                name: told for name, told in one.targets.items() if self._must_know_the_end(name, told, one, now_ms)
            }
            if not known:
                self._memory.forget(id_)
            elif one.gone_ms is None:
                self._memory.put(Notified(_resolved(one.notice, ended.get(id_), now_ms), known, gone_ms=now_ms))
            elif len(known) < len(one.targets):
                self._memory.put(Notified(one.notice, known, gone_ms=one.gone_ms))

    def _must_know_the_end(self, name: str, told: Told, one: Notified, now_ms: int) -> bool:
        if told.event == "passed" or name not in self._deliveries:
            return False
        if one.gone_ms is not None and now_ms - one.gone_ms > _GIVE_UP_MS:
            log.error("notify.given_up", target=name, alert=one.notice.id)
            self._instruments.notifications.labels(name, "given_up").inc()
            return False
        return True

    def _tellings(self, name: str, standing: Mapping[str, Standing], now_ms: int) -> list[Telling]:
        """What this target is to be told now."""
        notified = self._memory.notified
        tellings = []
        for id_, one in standing.items():
            known = notified.get(id_)
            told = None if known is None else known.targets.get(name)
            if told is None and one.is_taken and self._is_due(name, one, now_ms):
                # From now on only more than this is worth telling.
                self._memory.remember(name, one.notice, Told("passed", one.notice.score, now_ms))
            elif (occasion := self._occasion(name, one, told, now_ms)) is not None:
                tellings.append(Telling(one.notice, occasion, now_ms))
        tellings += [
            Telling(known.notice, "resolved", now_ms)
            for id_, known in notified.items()
            if id_ not in standing and name in known.targets
        ]
        for id_ in self._repeated_ms[name].keys() - standing.keys():
            del self._repeated_ms[name][id_]
        return tellings

    def _is_due(self, name: str, one: Standing, now_ms: int) -> bool:
        """Whether a target that knows nothing of it is to be told."""
        has_waited = now_ms - self._seen_ms[one.notice.id] >= self._wait_ms
        return name in one.targets and not one.is_held and has_waited

    def _occasion(self, name: str, one: Standing, told: Told | None, now_ms: int) -> Occasion | None:
        if told is None:
            return "opened" if self._is_due(name, one, now_ms) else None
        if one.notice.score > told.score and not one.is_held:
            return "opened" if told.event == "passed" else "worse"
        repeat_ms = self._deliveries[name].target.channel.repeat_ms
        if repeat_ms is None or told.event == "passed":
            return None
        return "firing" if now_ms - self._repeated_ms[name].get(one.notice.id, -repeat_ms) >= repeat_ms else None

    async def _delivered(self, name: str, tellings: list[Telling]) -> None:
        """The target has taken these: remember it, at once, so that a crash tells as little as possible twice."""
        for one in tellings:
            self._repeated_ms[name][one.notice.id] = one.at_ms
            match one.occasion:
                case "opened" | "worse" as event:
                    self._memory.remember(name, one.notice, Told(event, one.notice.score, one.at_ms))
                case "resolved":
                    self._memory.remember_end(name, one.notice.id)
                case "firing":
                    pass
        try:
            await self._memory.keep()
        except DependencyError as error:
            # The next round keeps it; until then it is known here.
            log.warning("notify.not_kept", target=name, reason=error.reason)


def _resolved(notice: Notice, alert: Alert | None, now_ms: int) -> Notice:
    """The notice as the alert ended, if that is still known; otherwise as it was told, ended now."""
    if alert is not None and alert.resolved_ms is not None:
        return notice_of(alert, description=notice.description)
    return msgspec.structs.replace(notice, resolved_ms=max(now_ms, notice.opened_ms))
