"""A rule: which series it watches, which values are beyond its boundary, and who is told of it how urgently.

A boundary is a number, or what was learned: then `outside threshold` means the side that is bad for the metric.
"""

import math
import re
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from detection.catalogue import Direction, Metric
from detection.errors import InvalidRuleError
from detection.hours import parse_ms
from detection.subject import Kind, Subject

Comparison = Literal["lower than", "higher than", "outside threshold"]
Severity = Literal["info", "warning", "critical"]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

LEARNED: Final = "learned"
WEEKDAYS: Final[tuple[Weekday, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MAX_RECENT: Final = 60

Slug = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$", description="Letters, digits, dots or hyphens.")]
Glob = Annotated[str, Meta(min_length=1, max_length=256, description="A text in which * and ? stand for others.")]
Text = Annotated[str, Meta(max_length=256)]
_Clock = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
_Points = Annotated[int, Meta(ge=1, le=MAX_RECENT)]
_NotNegative = Annotated[float, Meta(ge=0)]


class Window(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`n` of the last `m` judged points; `m` counts as `n` where it is left out."""

    n: _Points = 1
    m: _Points | None = None

    @property
    def size(self) -> int:
        return self.n if self.m is None else self.m


class Recovery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When an open alert is over: `n` points in a row that are clear.

    With `value`, clear is what lies on the good side of it, in the unit of the metric; without, what is not beyond.
    """

    value: float | None = None
    n: _Points = 1


class Floor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """By how much a value must be beyond the estimate to be worth anybody's time: both must hold.

    `absolute` is in the unit of the metric, `relative` a share of the estimate. For learned boundaries only.
    """

    absolute: _NotNegative = 0.0
    relative: _NotNegative = 0.0


class Mute(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A time in which nobody is told, whatever opens.

    Once, between two RFC 3339 moments (`since`, `until`); or every week, on `days` (all of them where left out) between
    two times of day of `zone`, over midnight where `until` is not after `since`. The day is the one of its beginning.
    """

    since: str
    until: str
    days: tuple[Weekday, ...] = ()
    zone: Text = "UTC"
    reason: Text = ""

    def __post_init__(self) -> None:
        try:
            _read_mute(self)
        except (ValueError, KeyError, OSError) as error:
            raise ValueError(f"mute from {self.since!r} until {self.until!r}: {error}") from error

    def holds(self, ms: int) -> bool:
        """Whether the moment, in milliseconds since the epoch, lies in it."""
        once = _read_mute(self)
        if once is not None:
            return once[0] <= ms < once[1]
        local = datetime.fromtimestamp(ms / 1000, ZoneInfo(self.zone))
        time = f"{local:%H:%M}"
        if self.since < self.until:
            return self._on(local) and self.since <= time < self.until
        return (time >= self.since and self._on(local)) or (time < self.until and self._on(local - timedelta(days=1)))

    def _on(self, local: datetime) -> bool:
        return not self.days or WEEKDAYS[local.weekday()] in self.days


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule, as it is written in YAML and sent over REST; raises ValueError for what contradicts itself.

    `kind`, `subject` and `metric` select series, `labels` the observation events that count (each value a glob).
    `boundary` is a number in the unit of the metric, or `learned`. `window` says how many points must be beyond before
    it opens; `min_count` how many calls or events must stand behind a point.
    """

    id: Slug
    metric: Glob
    condition: Comparison
    boundary: float | Literal["learned"] = LEARNED
    description: Annotated[str, Meta(max_length=2000)] = ""
    kind: Kind | None = None
    subject: Glob = "*"
    labels: dict[Slug, Glob] = {}
    window: Window = Window()
    recovery: Recovery = Recovery()
    floor: Floor = Floor()
    min_count: Annotated[int, Meta(ge=1)] = 1
    severity: Severity = "warning"
    owner: Text = ""
    notify: Annotated[tuple[Slug, ...], Meta(max_length=16)] = ()
    mute: Annotated[tuple[Mute, ...], Meta(max_length=64)] = ()
    is_enabled: bool = True

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "metric", self.metric.strip().lower().replace("_", "-"))
        if self.condition == "outside threshold" and self.boundary != LEARNED:
            raise ValueError(
                "`outside threshold` means what was learned: leave `boundary` out, or say which side is bad"
            )
        if self.condition != "outside threshold" and self.boundary == LEARNED:
            raise ValueError(
                f"`{self.condition}` needs a number as `boundary`; use `outside threshold` for the learned one"
            )
        if self.is_learned and self.labels:
            raise ValueError("`labels` select single events, and a learned boundary is judged by windows of them all")
        if self.window.size < self.window.n:
            raise ValueError(f"window: {self.window.n} of {self.window.size} points can never be")
        if self.is_learned and self.recovery.value is not None:
            raise ValueError("recovery: a learned boundary moves, so a fixed `value` cannot end its alerts")
        if not self.is_learned and (self.floor.absolute or self.floor.relative):
            raise ValueError("floor: how far a value must be beyond an estimate; a fixed boundary has none")
        if not math.isfinite(self.fixed or 0.0) or not math.isfinite(self.recovery.value or 0.0):
            raise ValueError("boundary, recovery: a finite number is needed")
        if self.recovery.value is not None and not self._is_behind(self.recovery.value):
            raise ValueError(
                f"recovery: with `{self.condition} {self.boundary:g}`, {self.recovery.value:g} would end an alert that "
                "has just been opened"
            )

    @property
    def is_learned(self) -> bool:
        return self.boundary == LEARNED

    @property
    def fixed(self) -> float | None:
        """The boundary where it is a number."""
        return None if isinstance(self.boundary, str) else self.boundary

    def selects_subject(self, subject: Subject) -> bool:
        """Whether any of the subject's series can be meant."""
        return (self.kind is None or self.kind == subject.kind) and fnmatchcase(subject.id, self.subject)

    def selects_metric(self, slug: str) -> bool:
        return fnmatchcase(slug, self.metric)

    def selects_labels(self, labels: dict[str, str]) -> bool:
        """Whether an event with these labels counts: it has each label of the rule, with a value as the rule says."""
        return all(name in labels and fnmatchcase(labels[name], glob) for name, glob in self.labels.items())

    def direction(self, metric: Metric) -> Direction:
        """The side on which a value is beyond."""
        if self.condition == "outside threshold":
            return metric.direction
        return "below" if self.condition == "lower than" else "above"

    def is_beyond(self, value: float) -> bool:
        """For a fixed boundary: whether the value is beyond; one that is equal is not."""
        assert self.fixed is not None  # noqa: S101  # a learned boundary is judged where it was learned
        return value < self.fixed if self.condition == "lower than" else value > self.fixed

    def is_clear(self, value: float) -> bool:
        """For a fixed boundary: whether the value speaks for the end of an open alert."""
        limit = self.recovery.value
        if limit is None:
            return not self.is_beyond(value)
        return value >= limit if self.condition == "lower than" else value <= limit

    def is_muted(self, ms: int) -> bool:
        """Whether nobody is to be told at this moment, in milliseconds since the epoch."""
        return any(one.holds(ms) for one in self.mute)

    def _is_behind(self, limit: float) -> bool:
        assert self.fixed is not None  # noqa: S101  # only asked where the boundary is a number
        return limit >= self.fixed if self.condition == "lower than" else limit <= self.fixed


def rule_of(fields: Any) -> Rule:
    """The rule that these plain values are; InvalidRuleError names the field and what is wrong with it."""
    try:
        return msgspec.convert(fields, Rule)
    except msgspec.ValidationError as error:
        raise InvalidRuleError(str(error)) from error


def as_fields(rule: Rule) -> dict[str, Any]:
    """The inverse of `rule_of`."""
    plain: dict[str, Any] = msgspec.to_builtins(rule)
    return plain


_MOMENT: Final = re.compile(r"\d{4}-")


@lru_cache(maxsize=1024)
def _read_mute(mute: Mute) -> tuple[int, int] | None:
    """The two moments in milliseconds since the epoch, None where it comes back every week."""
    ZoneInfo(mute.zone)
    if _MOMENT.match(mute.since) or _MOMENT.match(mute.until):
        if mute.days:
            raise ValueError("`days` belong to times of day, not to moments")
        since, until = parse_ms(mute.since), parse_ms(mute.until)
        if since >= until:
            raise ValueError("it ends before it begins")
        return since, until
    for text in (mute.since, mute.until):
        msgspec.convert(text, _Clock)
    return None
