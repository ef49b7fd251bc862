"""Everything that is known of one subject, and the three steps that move it: absorb, learn, publish.

    absorb    add counted events to the windows they belong to            (what, in any order)
    learn     fold every window into the models that no event in time can still change
    publish   judge the windows that are closed but may still be corrected, on copies, and forecast the next hour

What is *learned* depends on the subject's own events alone: a window is learned when an event a grace period younger
than its end was seen. What is *published* depends also on the clock, which closes the windows of a silent subject; but
publishing works on copies, so the clock never changes what is learned, and a late correction is exact: the next publish
simply judges the corrected window.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from detection.catalogue import BILLER_METRICS, Metric, metric_of
from detection.estimate import Forecast, Verdict
from detection.hours import HOUR_MS, MINUTE_MS
from detection.policy import PUBLISHED_SILENCE_HOURS, Policy
from detection.series_model import SeriesModel
from detection.subject import Subject
from detection.windows import Window, add

# Minutes that are kept for what happens inside the hour.
KEPT_MINUTES = 15


@dataclass(slots=True)
class Arrivals:
    """The events of one subject since the last write, counted.

    `windows` by hours and `minutes` by minutes since the epoch; `watermark_ms` is the newest event's time;
    `offsets` maps each source (log, topic and partition) to the offset after the last event that is in here.
    """

    watermark_ms: int
    accepted: int = 0
    late: int = 0
    windows: dict[int, Window] = field(default_factory=dict)
    minutes: dict[int, Window] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class SubjectState:
    """One subject: counters, open windows, models, and what is published; written to the store in one piece.

    `rev` counts writes and is what a write compares and sets. `watermark_ms` is the newest event's time, -1 before the
    first. Hours below `learned_before` are learned. `changed` holds the slugs whose model or answer differs from what
    is stored; `learned` the windows learned since the last write, by hour.
    """

    subject: Subject
    rev: int = 0
    watermark_ms: int = -1
    learned_before: int = 0
    published_hour: int = 0
    accepted: int = 0
    late: int = 0
    offsets: dict[str, int] = field(default_factory=dict)
    windows: dict[int, Window] = field(default_factory=dict)
    minutes: dict[int, Window] = field(default_factory=dict)
    models: dict[str, SeriesModel] = field(default_factory=dict)
    forecasts: dict[str, Forecast] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    learned: dict[int, Window] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    is_outdated: bool = False

    def metrics(self) -> list[Metric]:
        """Those of every biller, or the gauges that a model was seen with."""
        if self.subject.kind == "biller":
            return list(BILLER_METRICS)
        seen = set(self.models)
        for window in self.windows.values():
            seen.update(value.metric.slug for value in window.values())
        return [metric_of(slug) for slug in sorted(seen)]

    def model(self, metric: Metric, policy: Policy) -> SeriesModel:
        """The series' model, or a new one that is not yet part of the state."""
        return self.models.get(metric.slug) or SeriesModel(metric, policy, str(self.subject))

    @property
    def settled_before(self) -> int:
        """Hours below this one are learned, from events or from a data set: what comes for them is late."""
        return max([self.learned_before, *(model.next_hour or 0 for model in self.models.values())])

    def absorb(self, arrivals: Arrivals) -> None:
        """Add what arrived; the caller has left out what is late (see `first_open_hour`)."""
        for hour, window in arrivals.windows.items():
            known = self.windows.get(hour)
            if known is None:
                self.windows[hour] = window
            else:
                add(known, window)
            # A closed window was corrected: what is published of it no longer holds.
            self.is_outdated |= hour < self.published_hour
        self.watermark_ms = max(self.watermark_ms, arrivals.watermark_ms)
        self.accepted += arrivals.accepted
        self.late += arrivals.late
        for source, offset in arrivals.offsets.items():
            self.offsets[source] = max(self.offsets.get(source, 0), offset)
        self._absorb_minutes(arrivals.minutes)

    def _absorb_minutes(self, arrived: dict[int, Window]) -> None:
        oldest = self.watermark_ms // MINUTE_MS - KEPT_MINUTES + 1
        for minute, window in arrived.items():
            if minute < oldest:
                continue
            known = self.minutes.get(minute)
            if known is None:
                self.minutes[minute] = window
            else:
                add(known, window)
        for minute in [minute for minute in self.minutes if minute < oldest]:
            del self.minutes[minute]

    def learn(self, policy: Policy) -> None:
        """Fold, oldest first, every window that no event in time can still change into the models."""
        if self.watermark_ms < 0:
            return
        before = max(self.learned_before, policy.learned_before(self.watermark_ms))
        if before == self.learned_before:
            return
        self.learned_before = before
        for hour in sorted(hour for hour in self.windows if hour < before):
            window = self.windows.pop(hour)
            self.learned[hour] = window
            for value in window.values():
                slug = value.metric.slug
                model = self.models[slug] = self.model(value.metric, policy)
                self.verdicts[slug] = model.learn(hour, value.value, value.count, policy)
                self.changed.add(slug)
                self.is_outdated = True

    def publish(self, clock_ms: int, policy: Policy) -> bool:
        """Judge what has closed and forecast the next hour, if anything of that has changed; returns whether it had.

        The clock counts as at least the newest event's time.
        """
        hour = policy.closed_before(max(clock_ms, self.watermark_ms))
        if hour <= self.published_hour and not self.is_outdated:
            return False
        hour = min(max(hour, self.learned_before), self._last_published_hour())
        if hour <= self.published_hour and not self.is_outdated:
            return False
        hour = max(hour, self.published_hour)
        was_published_for, self.published_hour = self.published_hour, hour
        closed = sorted(one for one in self.windows if one < hour)
        changed = self.is_outdated or hour != was_published_for
        for metric in self.metrics():
            self._publish_series(metric, hour, closed, policy)
        self.is_outdated = False
        return changed

    def _publish_series(self, metric: Metric, hour: int, closed: list[int], policy: Policy) -> None:
        slug = metric.slug
        model = self.model(metric, policy)
        if closed:
            model = model.copy()
            for one in closed:
                for value in self.windows[one].values():
                    if value.metric.slug == slug:
                        self.verdicts[slug] = model.learn(one, value.value, value.count, policy)
        if model.next_hour is not None:
            hour = max(hour, model.next_hour)
        self.forecasts[slug] = model.forecast(hour, policy)
        self.changed.add(slug)

    def _last_published_hour(self) -> int:
        """A silent subject is published for a while; then its last answer stands, and is stale."""
        learned = [model.next_hour for model in self.models.values() if model.next_hour is not None]
        return max([self.watermark_ms // HOUR_MS, *learned]) + PUBLISHED_SILENCE_HOURS

    def closed_windows(self) -> Iterator[tuple[int, Window]]:
        """The windows that are closed but not yet learned, oldest first."""
        for hour in sorted(self.windows):
            if hour < self.published_hour:
                yield hour, self.windows[hour]

    def settled(self) -> None:
        """Forget what was changed: the store has it."""
        self.changed.clear()
        self.learned.clear()


def first_open_hour(state: SubjectState | None, watermark_ms: int, policy: Policy) -> int:
    """The first hour that a subject still takes events for, when its newest event is at `watermark_ms`."""
    mark = policy.learned_before(watermark_ms) if watermark_ms >= 0 else 0
    return mark if state is None else max(state.settled_before, mark)
