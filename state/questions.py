"""What can be asked about the past of a subject, and what is answered: values without IO."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from detection.subject import Subject

Operator = Literal["lt", "le", "gt", "ge", "eq", "ne"]

SHARES: Final = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A condition on the value of a single observation, not on a mean."""

    operator: Operator
    value: float


@dataclass(frozen=True, slots=True)
class Question:
    """Which observations are summarised, and into which windows.

    `metrics` are slugs, in which `*` stands for any letters and `?` for one; none of them means all. The range is
    `from_ms <= time < to_ms`, None leaves it open. `step_ms` is the length of the windows, which begin at multiples of
    it since the epoch; None makes one window of the whole range. An observation needs all of the `labels` and meets
    all of the `values`. `shares` (0..1) are the percentiles. `is_latest` asks for the newest window of each metric, or,
    without a step, for its newest observation alone.
    """

    subject: Subject
    metrics: tuple[str, ...] = ()
    from_ms: int | None = None
    to_ms: int | None = None
    step_ms: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    values: tuple[Comparison, ...] = ()
    shares: tuple[float, ...] = SHARES
    is_latest: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """The place of a summary among the others: by the start of its window, then by its metric."""

    start_ms: int
    metric: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The observations of one metric in one window, of which there is at least one.

    Without a step, the window is what the question bounds; where it does not, what was found does. `last_ms` is the
    time of the newest observation (of a biller: the start of the newest hour with calls). `percentiles` are in the
    order of the question's `shares`: each is the smallest value that so many of the observations do not exceed.
    """

    metric: str
    start_ms: int
    end_ms: int
    count: int
    mean: float
    minimum: float
    maximum: float
    last: float
    last_ms: int
    percentiles: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """The newest observation of one metric, with the labels of its event."""

    metric: str
    last: float
    last_ms: int
    labels: Mapping[str, str]


Answer = Summary | Newest


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Answers in the order of their positions; `after` is where to go on, None where nothing is left.

    `from_ms` and `to_ms` are the bounds that were counted in: those of the question, moved out to whole windows.
    `is_known` says whether anything was ever kept of the subject.
    """

    answers: Sequence[Answer] = ()
    after: Position | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    is_known: bool = True
