"""A rule: which series it watches, which values are beyond its boundary, and who is told of it how urgently.

A boundary is a number, or what was learned: then `outside threshold` means the side that is bad for the metric.
"""

import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from detection.catalogue import BILLER_METRICS, Direction, Metric, biller_metric
from detection.errors import InvalidRuleError, UnknownMetricError
from detection.events import MAX_LABELS, LabelName
from detection.rules.glob import is_wild, matcher
from detection.rules.mute import Mute
from detection.subject import Kind, Subject

Comparison = Literal["lower than", "higher than", "outside threshold"]
Severity = Literal["info", "warning", "critical"]

LEARNED: Final = "learned"
# Of a biller: how many calls there were, which can be too few. Only a rule that names it means it.
CALLS: Final = "calls"
MAX_RECENT: Final = 60
# The book's own addresses.
RESERVED: Final = frozenset({"audit", "dry-run"})

Slug = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$", description="Letters, digits, dots or hyphens.")]
Glob = Annotated[str, Meta(min_length=1, max_length=256, description="A text in which * and ? stand for others.")]
Text = Annotated[str, Meta(max_length=256)]
_Points = Annotated[int, Meta(ge=1, le=MAX_RECENT)]
_NotNegative = Annotated[float, Meta(ge=0)]

_SUBJECT: Final = re.compile(r"[A-Za-z0-9._@+=/*?-]+", re.ASCII)
_METRIC: Final = re.compile(r"[a-z0-9*?-]+", re.ASCII)


class ContradictionError(ValueError):
    """Fields of a rule that are right one by one and wrong together; `found` names each field and what is wrong."""

    def __init__(self, found: tuple[tuple[str, str], ...]) -> None:
        super().__init__("; ".join(f"{field}: {text}" for field, text in found))
        self.found = found


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


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule, as it is written in YAML and sent over REST; raises ContradictionError for what contradicts itself.

    `kind`, `subject` and `metric` select series, `labels` the observation events that count (each value a glob).
    `boundary` is a number in the unit of the metric, or `learned`. `window` says how many points must be beyond before
    it opens; `min_count` how many calls or events must stand behind a point. `notify` names targets.
    """

    id: Slug
    metric: Glob
    condition: Comparison
    boundary: float | Literal["learned"] = LEARNED
    description: Annotated[str, Meta(max_length=2000)] = ""
    kind: Kind | None = None
    subject: Glob = "*"
    labels: Annotated[dict[LabelName, Glob], Meta(max_length=MAX_LABELS)] = {}
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
        msgspec.structs.force_setattr(self, "metric", _metric_glob(self.metric))
        found = tuple(self._contradictions())
        if found:
            raise ContradictionError(found)

    @property
    def is_learned(self) -> bool:
        return self.boundary == LEARNED

    @property
    def fixed(self) -> float | None:
        """The boundary where it is a number."""
        return None if isinstance(self.boundary, str) else self.boundary

    def selects_subject(self, subject: Subject) -> bool:
        """Whether any of the subject's series can be meant."""
        return (self.kind is None or self.kind == subject.kind) and matcher(self.subject)(subject.id)

    def selects_metric(self, slug: str) -> bool:
        """Whether the series of this metric is meant; `calls` must be named, no wildcard fits it."""
        return self.metric == CALLS if slug == CALLS else matcher(self.metric)(slug)

    def selects_labels(self, labels: dict[str, str]) -> bool:
        """Whether an event with these labels counts: it has each label of the rule, with a value as the rule says."""
        return all(name in labels and matcher(glob)(labels[name]) for name, glob in self.labels.items())

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

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        yield from self._unselectable()
        if self.id in RESERVED:
            yield "id", f"`{self.id}` is taken: /rules/{self.id} is an address of its own"
        if self.condition == "outside threshold" and not self.is_learned:
            yield "boundary", "`outside threshold` means what was learned: leave it out, or say which side is bad"
        if self.condition != "outside threshold" and self.is_learned:
            yield "boundary", f"`{self.condition}` needs a number; use `outside threshold` for the learned one"
        if self.window.size < self.window.n:
            yield "window", f"{self.window.n} of {self.window.size} points can never be"
        if self.is_learned and self.recovery.value is not None:
            yield "recovery", "a learned boundary moves, so a fixed `value` cannot end its alerts"
        if not self.is_learned and (self.floor.absolute or self.floor.relative):
            yield "floor", "how far a value must be beyond an estimate; a fixed boundary has none"
        if not self.is_learned and self.min_count > 1 and self.kind != "biller":
            yield "min_count", "behind a single event of a model stands one: leave it out, or say `kind: biller`"
        for field, number in (
            ("boundary", self.fixed),
            ("recovery", self.recovery.value),
            ("floor", self.floor.absolute),
            ("floor", self.floor.relative),
        ):
            if number is not None and not math.isfinite(number):
                yield field, f"{number} is not finite"
        fixed, limit = self.fixed, self.recovery.value
        if fixed is not None and limit is not None and self.is_beyond(limit):
            yield (
                "recovery",
                f"with `{self.condition} {fixed:.12g}`, {limit:.12g} would end an alert that has just been opened",
            )

    def _unselectable(self) -> Iterator[tuple[str, str]]:
        """Why no series at all can be meant: such a rule would be silent for ever."""
        if not _SUBJECT.fullmatch(self.subject):
            hint = "; `kind` says whether it is a biller or a model" if ":" in self.subject else ""
            yield "subject", f"no subject is like {self.subject!r}{hint}"
        elif self.kind == "biller" and "/" in self.subject:
            yield "subject", f"no biller is like {self.subject!r}: only a model has a slash, between name and version"
        elif self.kind == "model" and "/" not in self.subject and "*" not in self.subject:
            yield "subject", f"a model is NAME/VERSION: `{self.subject}/*` means all versions"
        if not _METRIC.fullmatch(self.metric):
            yield "metric", f"no metric is like {self.metric!r}: letters, digits, hyphens or underscores"
        elif self.kind == "biller":
            known = (*(metric.slug for metric in BILLER_METRICS), CALLS)
            if not any(self.selects_metric(slug) for slug in known):
                yield "metric", f"no biller has {self.metric!r}: its metrics are {', '.join(known)}"
        if self.labels and self.is_learned:
            yield "labels", "they select single events, and a learned boundary is judged by windows of them all"
        elif self.labels and self.kind == "biller":
            yield "labels", "calls have none"


def rule_of(fields: Any) -> Rule:
    """The rule that these plain values are; InvalidRuleError names the field and what is wrong with it."""
    try:
        return msgspec.convert(fields, Rule)
    except msgspec.ValidationError as error:
        # What is wrong between fields says so itself.
        cause = error.__cause__
        raise InvalidRuleError(str(cause if isinstance(cause, ContradictionError) else error)) from error


def as_fields(rule: Rule) -> dict[str, Any]:
    """The inverse of `rule_of`."""
    plain: dict[str, Any] = msgspec.to_builtins(rule)
    return plain


def _metric_glob(text: str) -> str:
    """As metrics are called here: `PREDICTION_ACCURACY` is `prediction-accuracy`, a biller metric's name its slug."""
    text = text.strip().lower()
    if not is_wild(text) and not text.isdigit():
        try:
            return biller_metric(text).slug
        except UnknownMetricError:
            pass
    return text.replace("_", "-")
