"""Everything that is known of one subject, and the three steps that move it: absorb, learn, publish.

    absorb    add counted events to the windows they belong to            (what, in any order)
    learn     fold every window into the models that no event in time can still change
    publish   judge the windows that are closed but may still be corrected, on copies, and forecast the next hour

What is *learned* depends on the subject's own events alone: a window is learned when an event a grace period younger
than its end was seen. What is *published* depends also on the clock, which closes the windows of a silent subject; but
publishing works on copies, so the clock never changes what is learned, and a late correction is exact: the next publish
simply judges the corrected window.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from detection.catalogue import BILLER_METRICS, Metric, metric_of
from detection.estimate import Forecast, Scored, Verdict
from detection.events import Observed
from detection.exclusions import NOTHING_EXCLUDED, Exclusions
from detection.hours import HOUR_MS, MINUTE_MS
from detection.judged_hours import JudgedHour
from detection.models import Models
from detection.policy import PUBLISHED_SILENCE_HOURS, Policy
from detection.rules.alert import Alert, Judged, Transition
from detection.rules.points import of_verdict
from detection.series_model import SeriesModel
from detection.subject import Subject
from detection.windows import Value, Window, add, size

if TYPE_CHECKING:
    from detection.closing import Closings
    from detection.live import LiveNormal

# Minutes that are kept for what happens inside the hour.
KEPT_MINUTES = 15


@dataclass(slots=True)
class Arrivals:
    """The events of one subject since the last write, counted.

    `windows` by hours and `minutes` by minutes since the epoch, None where the state has them already; `watermark_ms`
    is the newest event's time; `offsets` maps each source (log, topic and partition) to the offset after the last event
    that is in here. `observed` are the observation events themselves, in the order in which they arrived: rules look at
    each of them.
    """

    watermark_ms: int
    accepted: int = 0
    late: int = 0
    windows: Mapping[int, Window] | None = field(default_factory=dict)
    minutes: Mapping[int, Window] | None = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)
    observed: list[Observed] = field(default_factory=list)

    def corrections(self, published_hour: int) -> int:
        """How many of the events are of hours before this one; 0 where the state has the hours already."""
        windows = self.windows or {}
        return sum(size(windows[hour]) for hour in windows if hour < published_hour)


@dataclass(slots=True)
class SubjectState:
    """One subject: counters, open windows, models, and what is published; written to the store in one piece.

    `rev` counts writes and is what a write compares and sets. `watermark_ms` is the newest event's time, -1 before the
    first. Hours below `learned_before` are learned. `changed` holds the slugs whose model or answer differs from what
    is stored; `learned` the windows learned since the last write, by hour, and `judged` how these compared, by hour and
    slug, with what had been published of them: nothing of a series that was still warming up.

    Most writes only count events, and need no more of a state than its own fields: `has_models` says whether the models
    were read too, `is_whole` whether the forecasts and verdicts were. `known` are the metrics it was ever stored with,
    `trained_before` the hour after the last one that any of its models has learned. `closings` holds what was published
    of a series in company (see `detection.closing`), in place of a forecast and a verdict. `relearned` are those of the
    `changed` whose model differs from its stored record, `about` what the store was told once of all series, empty
    where an older version wrote it. `announces` says whether others are to be told of what is published.

    `alerts` are the pending, open and lately resolved ones by their key (`detection.rules`), and `has_alerts_stored`
    whether the store has any to be taken out of it. `opinions` says of a series, by its slug, by how many more of its
    alerts people have called false than true. `live` is what the minutes of the hour are judged by
    (`detection.live`), and minutes below `judged_before` were. `points` are verdicts on closed hours that rules have
    not looked at yet, `transitions` how alerts have changed since the last write. `exclusions` says which hours are not
    learned, and `has_new_exclusions` whether the store has others.
    """

    subject: Subject
    rev: int = 0
    watermark_ms: int = -1
    learned_before: int = 0
    published_hour: int = 0
    accepted: int = 0
    late: int = 0
    offsets: dict[str, int] = field(default_factory=dict)
    windows: MutableMapping[int, Window] = field(default_factory=dict)
    minutes: MutableMapping[int, Window] = field(default_factory=dict)
    models: Models = field(default_factory=Models)
    forecasts: dict[str, Forecast] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    learned: dict[int, Window] = field(default_factory=dict)
    judged: dict[int, dict[str, JudgedHour]] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    is_outdated: bool = False
    has_models: bool = True
    is_whole: bool = True
    known: frozenset[str] = frozenset()
    about: bytes = b""
    relearned: set[str] = field(default_factory=set)
    trained_before: int = 0
    closings: dict[str, tuple["Closings", int]] = field(default_factory=dict)
    alerts: Mapping[str, Alert] = field(default_factory=dict)
    has_alerts_stored: bool = False
    opinions: Mapping[str, int] = field(default_factory=dict)
    live: Mapping[str, "LiveNormal"] = field(default_factory=dict)
    judged_before: int = 0
    points: list[tuple[str, Judged]] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)
    announces: bool = True
    exclusions: Exclusions = NOTHING_EXCLUDED
    has_new_exclusions: bool = False

    def metrics(self) -> list[Metric]:
        """Those of every biller, or the gauges that a model was seen with."""
        if self.subject.kind == "biller":
            return list(BILLER_METRICS)
        seen = {*self.known, *self.models}
        for window in self.windows.values():
            seen.update(value.metric.slug for value in window.values())
        return [metric_of(slug) for slug in sorted(seen)]

    def model(self, metric: Metric, policy: Policy) -> SeriesModel:
        """The series' model, or a new one that is not yet part of the state."""
        return self.models.get(metric.slug) or SeriesModel(metric, policy, str(self.subject))

    @property
    def settled_before(self) -> int:
        """Hours below this one are learned, from events or from a data set: what comes for them is late."""
        if not self.is_whole:
            return max(self.learned_before, self.trained_before)
        return max([self.learned_before, *(self.models.next_hour(slug) for slug in self.models)])

    def absorb(self, arrivals: Arrivals) -> None:
        """Add what arrived; the caller has left out what is late (see `first_open_hour`)."""
        if arrivals.windows is not None:
            _add_all(self.windows, arrivals.windows)
            # A closed window was corrected: what is published of it no longer holds.
            self.is_outdated |= any(hour < self.published_hour for hour in arrivals.windows)
        self.watermark_ms = max(self.watermark_ms, arrivals.watermark_ms)
        self.accepted += arrivals.accepted
        self.late += arrivals.late
        for source, offset in arrivals.offsets.items():
            self.offsets[source] = max(self.offsets.get(source, 0), offset)
        if arrivals.minutes is not None:
            self._absorb_minutes(arrivals.minutes)

    def _absorb_minutes(self, arrived: Mapping[int, Window]) -> None:
        oldest = self.watermark_ms // MINUTE_MS - KEPT_MINUTES + 1
        _add_all(self.minutes, {minute: window for minute, window in arrived.items() if minute >= oldest})
        for minute in [minute for minute in self.minutes if minute < oldest]:
            del self.minutes[minute]

    def is_due(self, clock_ms: int, policy: Policy) -> bool:
        """Whether anything is to be learned or published: then, and only then, the models are needed."""
        before = policy.learned_before(self.watermark_ms) if self.watermark_ms >= 0 else 0
        return (
            self.is_outdated
            or any(hour < before for hour in self.windows)
            or self._due_hour(clock_ms, max(before, self.learned_before), policy) > self.published_hour
        )

    def pass_empty_hours(self, policy: Policy) -> None:
        """Count hours as learned that no event in time can fall into any more and that have no window to learn."""
        before = policy.learned_before(self.watermark_ms) if self.watermark_ms >= 0 else 0
        if before > self.learned_before and not any(hour < before for hour in self.windows):
            self.learned_before = before

    def settle(self, policy: Policy) -> list[tuple[int, Window]]:
        """Take out, oldest first, every window that no event in time can still change: they are to be learned."""
        if self.watermark_ms < 0:
            return []
        before = max(self.learned_before, policy.learned_before(self.watermark_ms))
        if before == self.learned_before:
            return []
        self.learned_before = before
        settled = [(hour, self.windows.pop(hour)) for hour in sorted(self.windows) if hour < before]
        self.learned.update(settled)
        self.is_outdated |= bool(settled)
        return settled

    def learn(self, policy: Policy) -> bool:
        """Fold every settled window into the models; whether there was one."""
        settled = self.settle(policy)
        for hour, window in settled:
            for value in self.learnable(hour, window):
                slug = value.metric.slug
                model = self.models[slug] = self.model(value.metric, policy)
                verdict = self.verdicts[slug] = model.learn(hour, value.value, value.count, policy)
                if isinstance(verdict, Scored):
                    self.judged.setdefault(hour, {})[slug] = model.judged_hour(verdict, policy)
                self.changed.add(slug)
                self.relearned.add(slug)
        return bool(settled)

    def publish(self, clock_ms: int, policy: Policy) -> bool:
        """Judge what has closed and forecast the next hour, if anything of that has changed; returns whether it had.

        The clock counts as at least the newest event's time.
        """
        if not self.move_published_hour(clock_ms, policy):
            return False
        closed = [hour for hour, _ in self.closed_windows()]
        for metric in self.metrics():
            self._publish_series(metric, self.published_hour, closed, policy)
        return True

    def move_published_hour(self, clock_ms: int, policy: Policy) -> bool:
        """Let the clock close windows; whether anything has to be published for that, or was corrected."""
        hour = self._due_hour(clock_ms, self.learned_before, policy)
        if hour <= self.published_hour and not self.is_outdated:
            return False
        self.published_hour = max(hour, self.published_hour)
        self.is_outdated = False
        return True

    def _due_hour(self, clock_ms: int, learned_before: int, policy: Policy) -> int:
        """The hour to publish for: what the clock says, but in the end a silent subject's last answer stands."""
        hour = max(policy.closed_before(max(clock_ms, self.watermark_ms)), learned_before)
        return min(hour, max(self.watermark_ms // HOUR_MS, self.settled_before) + PUBLISHED_SILENCE_HOURS)

    def _publish_series(self, metric: Metric, hour: int, closed: list[int], policy: Policy) -> None:
        slug = metric.slug
        model = self.model(metric, policy)
        if closed:
            model = model.copy()
            for one in closed:
                for value in self.learnable(one, self.windows[one]):
                    if value.metric.slug == slug:
                        self.verdicts[slug] = model.learn(one, value.value, value.count, policy)
        if model.next_hour is not None:
            hour = max(hour, model.next_hour)
        self.forecasts[slug] = model.forecast(hour, policy)
        self.changed.add(slug)
        verdict = self.verdicts.get(slug)
        if isinstance(verdict, Scored) and verdict.hour == hour - 1 and (verdict.is_alert or slug in self.watched):
            self.points.append((slug, of_verdict(self.subject, metric, verdict)))

    def learnable(self, hour: int, window: Window) -> Iterator[Value]:
        """The values of the window that are to be judged and learned: all but those of excluded hours."""
        if not self.exclusions:
            return window.values()
        return (value for value in window.values() if not self.exclusions.holds(value.metric.slug, hour))

    @property
    def watched(self) -> set[str]:
        """The series with an alert: rules look at all of their hours, and of others at those that are reason to."""
        return {one.slug for one in self.alerts.values()}

    def closed_windows(self) -> Iterator[tuple[int, Window]]:
        """The windows that are closed but not yet learned, oldest first."""
        for hour in sorted(self.windows):
            if hour < self.published_hour:
                yield hour, self.windows[hour]

    def settled(self) -> None:
        """Forget what was changed: the store has it."""
        if not self.changed <= self.known or self.is_whole:
            self.known = self.known.union(self.changed, self.models, self.forecasts, self.verdicts)
        # A series of an older version keeps its mark until it is written itself.
        self.relearned -= self.changed
        self.changed.clear()
        self.learned.clear()
        self.judged.clear()
        self.closings.clear()
        self.points.clear()
        self.transitions.clear()
        self.has_new_exclusions = False

    def shed(self) -> None:
        """Keep no more than is needed to count events; what is dropped must be in the store, and settled."""
        if not (self.has_models or self.is_whole):
            return
        self.trained_before = self.settled_before
        self.models, self.forecasts, self.verdicts = Models(), {}, {}
        self.has_models = self.is_whole = False


def first_open_hour(state: SubjectState | None, watermark_ms: int, policy: Policy) -> int:
    """The first hour that a subject still takes events for, when its newest event is at `watermark_ms`."""
    mark = policy.learned_before(watermark_ms) if watermark_ms >= 0 else 0
    return mark if state is None else max(state.settled_before, mark)


def _add_all(known: MutableMapping[int, Window], arrived: Mapping[int, Window]) -> None:
    for moment, window in arrived.items():
        # Not `get`: of what is stored as text it raises and catches an error for each window that is new.
        if moment in known:
            add(known[moment], window)
        else:
            known[moment] = window
