"""When many billers have the same alert at once, that is the platform: one alert in the place of theirs. Pure.

It opens when a share of the active billers have an alert of one metric open, and these opened close together; it is
over when fewer than half of that are left. Alerts that were open before are left alone.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from detection.hours import MINUTE_MS, iso
from detection.rules.alert import Alert
from detection.rules.notice import Notice
from detection.rules.rule import Severity

PLATFORM: Final = "platform"

_SEVERITIES: Final[tuple[Severity, ...]] = ("info", "warning", "critical")
# Members that are named.
_NAMED: Final = 5
# Told again when this many times as many billers are in it as when it was last told.
_WORSE: Final = 2


@dataclass(frozen=True, slots=True)
class Grouping:
    """From how many billers on it is the platform: `share` of the active ones, `least` at least, `within_ms`."""

    share: float = 0.3
    least: int = 5
    within_ms: int = 10 * MINUTE_MS

    def needed(self, active: int) -> int:
        """How many billers of so many active ones make it the platform."""
        return max(self.least, math.ceil(self.share * active))


class PlatformAlert(msgspec.Struct, frozen=True, kw_only=True):
    """Many billers have an alert of this metric; times in event-time milliseconds.

    Its members are the alerts that opened at `since_ms` or later. `billers` and `active` are counted now, `told` is the
    number of billers for which people are told; `worst` names the members with the highest scores, highest first.
    """

    slug: str
    since_ms: int
    opened_ms: int
    billers: int
    active: int
    told: int
    severity: Severity
    worst: tuple[tuple[str, float], ...] = ()

    @property
    def id(self) -> str:
        """Which alert this is, wherever it is told of."""
        return f"{PLATFORM}/{self.slug}/{iso(self.since_ms)}"

    def covers(self, alert: Alert) -> bool:
        """Whether this one is told in the place of the other."""
        return alert.slug == self.slug and _is_members(alert) and _opened_ms(alert) >= self.since_ms


def regroup(
    known: Mapping[str, PlatformAlert], alerts: Iterable[Alert], *, active: int, grouping: Grouping
) -> dict[str, PlatformAlert]:
    """The platform alerts after this, by slug: those of `known` that are not over, and those that open now.

    `alerts` are all open ones, in any order; `active` is the number of billers that are called at all.
    """
    by_slug: dict[str, list[Alert]] = {}
    for alert in alerts:
        if _is_members(alert):
            by_slug.setdefault(alert.slug, []).append(alert)
    found = {}
    for slug, members in by_slug.items():
        one = known.get(slug)
        now = _opened(slug, members, active, grouping) if one is None else _still_open(one, members, active, grouping)
        if now is not None:
            found[slug] = now
    return found


def notice_of_platform(one: PlatformAlert, grouping: Grouping) -> Notice:
    """What people are told of it."""
    share = round(one.billers / one.active, 4)
    worst = ", ".join(f"{name} ({score:.3g})" for name, score in one.worst)
    detail = {"billers": one.billers, "active": one.active, "share": share, "worst": worst}
    condition = "exceeded at"
    return Notice(
        id=one.id,
        subject=PLATFORM,
        metric=one.slug,
        rule=PLATFORM,
        severity=one.severity,
        condition=condition,
        line=f"ALERT {one.slug.replace('-', '_')} {condition} {one.billers} of {one.active} billers, {detail!r}",
        value=share,
        boundary=grouping.share,
        count=one.billers,
        score=float(one.told),
        opened_ms=one.opened_ms,
        description="Many billers have this alert at once: the platform, or what they share.",
        detail=detail,
    )


def _is_members(alert: Alert) -> bool:
    return alert.state == "open" and alert.subject.kind == "biller"


def _opened_ms(alert: Alert) -> int:
    return alert.since_ms if alert.opened_ms is None else alert.opened_ms


def _opened(slug: str, members: list[Alert], active: int, grouping: Grouping) -> PlatformAlert | None:
    """Of the earliest time within which enough billers got their alert."""
    needed = grouping.needed(active)
    members = sorted(members, key=lambda alert: (_opened_ms(alert), alert.id))
    within: Counter[str] = Counter()
    first = 0
    for last in members:
        within[last.subject.id] += 1
        while _opened_ms(last) - _opened_ms(members[first]) > grouping.within_ms:
            gone = members[first].subject.id
            within[gone] -= 1
            if not within[gone]:
                del within[gone]
            first += 1
        if len(within) >= needed:
            since_ms, opened_ms = _opened_ms(members[first]), _opened_ms(last)
            those = [alert for alert in members if _opened_ms(alert) >= since_ms]
            billers = len({alert.subject for alert in those})
            return _counted(slug, since_ms, opened_ms, those, active=active, told=billers)
    return None


def _still_open(one: PlatformAlert, members: list[Alert], active: int, grouping: Grouping) -> PlatformAlert | None:
    those = [alert for alert in members if one.covers(alert)]
    billers = len({alert.subject for alert in those})
    if 2 * billers < grouping.needed(active):
        return None
    told = billers if billers >= _WORSE * one.told else one.told
    return _counted(one.slug, one.since_ms, one.opened_ms, those, active=active, told=told)


def _counted(
    slug: str, since_ms: int, opened_ms: int, members: list[Alert], *, active: int, told: int
) -> PlatformAlert:
    scores: dict[str, float] = {}
    for alert in members:
        worst_of = alert.worst if math.isfinite(alert.worst) else alert.told
        scores[alert.subject.id] = max(worst_of, scores.get(alert.subject.id, worst_of))
    worst = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:_NAMED]
    return PlatformAlert(
        slug=slug,
        since_ms=since_ms,
        opened_ms=opened_ms,
        billers=len(scores),
        # A biller with an alert is active, whatever was counted some seconds ago.
        active=max(active, len(scores)),
        told=told,
        severity=max((alert.severity for alert in members), key=_SEVERITIES.index),
        worst=tuple(worst),
    )
