"""The catalogue of emitted Prometheus metrics: every name, label and unit has one home, here.

`INSTRUMENTS` is plain data, from which `docs/metrics.md` is written. A process calls `instruments(registry)` once, in
its composition root, and passes the result on: nothing is registered by an import.
"""

from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Instrument:
    """One emitted metric: `help` goes to Prometheus, `comment` tells an operator what to make of it."""

    name: str
    kind: Kind
    help: str
    comment: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    def counter(self, registry: CollectorRegistry) -> Counter:
        return Counter(self.name, self.help, self.labels, registry=registry)

    def gauge(self, registry: CollectorRegistry) -> Gauge:
        return Gauge(self.name, self.help, self.labels, registry=registry)

    def histogram(self, registry: CollectorRegistry) -> Histogram:
        return Histogram(self.name, self.help, self.labels, registry=registry, buckets=self.buckets)


EVENTS = Instrument(
    name="tidemark_events_total",
    kind="counter",
    labels=("topic", "result"),
    help="Events read from a topic, by what became of them.",
    comment="`result` is `accepted`, `dead` (in the dead letters), `late` (its window was already learned) or "
    "`replayed` (already in the state, so it changed nothing). The four add up to what was read.",
)
WINDOWS_CLOSED = Instrument(
    name="tidemark_windows_closed_total",
    kind="counter",
    help="Hourly windows that were closed: judged, and the next threshold published.",
    comment="Flat while events arrive: nothing reaches the end of its hour, so look at the clock setting.",
)
WINDOWS_LEARNED = Instrument(
    name="tidemark_windows_learned_total",
    kind="counter",
    help="Hourly windows that were learned after their grace period.",
    comment="Follows the closed windows by the grace period.",
)
CORRECTIONS = Instrument(
    name="tidemark_corrections_total",
    kind="counter",
    labels=("topic",),
    help="Events that came after their window had closed and corrected it before it was learned.",
    comment="They are among the accepted ones: the window's verdict and the next threshold were published anew.",
)
FLUSH_SECONDS = Instrument(
    name="tidemark_flush_seconds",
    kind="histogram",
    help="Duration of one write of absorbed events to Redis, in seconds.",
    comment="Above the flush interval, the worker falls behind: add workers, or look at Redis.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
FLUSH_SUBJECTS = Instrument(
    name="tidemark_flush_subjects",
    kind="histogram",
    help="Subjects written by one flush.",
    comment="Each is one atomic write.",
    buckets=(1, 10, 100, 1_000, 10_000, 100_000, 1_000_000),
)
WRITE_CONFLICTS = Instrument(
    name="tidemark_write_conflicts_total",
    kind="counter",
    help="Writes of a subject that another writer was ahead of; each was loaded and applied again.",
    comment="Single ones come from training while events arrive. A steady rate means that two workers own one subject.",
)
CONSUMER_LAG = Instrument(
    name="tidemark_consumer_lag_records",
    kind="gauge",
    labels=("topic", "partition"),
    help="Records between the end of a partition and what was read of it.",
    comment="What to alert on: it grows when the worker is too slow or has stopped reading.",
)
BUFFERED_EVENTS = Instrument(
    name="tidemark_buffered_events",
    kind="gauge",
    help="Events that were read and are not yet written to Redis.",
    comment="Stays below TIDEMARK_FLUSH_EVENTS plus what one poll brings of a partition: at that, reading waits. "
    "An observation takes the room of 30 calls.",
)
STORE_LOSSES = Instrument(
    name="tidemark_store_losses_total",
    kind="counter",
    help="Times that Redis was found, while the worker ran, to have lost writes it had acknowledged.",
    comment="After a failover, a restored copy or a flush. Reading goes back to what is left, and heals it.",
)
REWOUND_RECORDS = Instrument(
    name="tidemark_rewound_records_total",
    kind="counter",
    labels=("topic",),
    help="Records that Kafka had as read and Redis had not, when reading began: they are read again.",
    comment="Redis lost acknowledged writes. What is still in Kafka is healed by itself.",
)
LOST_RECORDS = Instrument(
    name="tidemark_lost_records_total",
    kind="counter",
    labels=("topic",),
    help="Records that Kafka dropped, by its retention, before they were read.",
    comment="Nobody can read them any more: raise the topic's retention, or find out why the worker was away so long.",
)
RECREATED_LOGS = Instrument(
    name="tidemark_recreated_logs_total",
    kind="counter",
    labels=("topic",),
    help="Topics that were found to have been made anew since they were read.",
    comment="The worker stops for it. `tidemark log show` has the count that survives the stop.",
)
STALLS = Instrument(
    name="tidemark_stalls_total",
    kind="counter",
    help="Times that this process started itself again, because it read nothing though there were records to read.",
    comment="Single ones come with a broker's trouble. Counted on by the process that starts.",
)
HISTORY_PENDING = Instrument(
    name="tidemark_history_pending_subjects",
    kind="gauge",
    help="Subjects with learned windows that PostgreSQL has not taken yet.",
    comment="Grows while PostgreSQL is away and drains by itself afterwards.",
)
ARCHIVED_ROWS = Instrument(
    name="tidemark_archived_rows_total",
    kind="counter",
    labels=("result",),
    help="Values of observation events that were read for PostgreSQL, by what became of them.",
    comment="`result` is `written`, `expired` (older than raw events are kept; their hours may still be counted) or "
    "`repeated` (there already).",
)
ARCHIVE_LAG = Instrument(
    name="tidemark_archive_lag_records",
    kind="gauge",
    labels=("partition",),
    help="Records between the end of a partition of `observations` and what PostgreSQL has of it.",
    comment="Grows while PostgreSQL is away. Beyond the topic's retention, events would be lost to the history.",
)
ARCHIVE_RETRIES = Instrument(
    name="tidemark_archive_retries_total",
    kind="counter",
    help="Times that observation events could not be written to PostgreSQL, and were kept for another attempt.",
    comment="A steady rate while PostgreSQL answers means that it refuses what it is sent: the log says why.",
)
ANNOUNCEMENTS_PENDING = Instrument(
    name="tidemark_announcements_pending_subjects",
    kind="gauge",
    help="Subjects with published answers or alerts that the topics `thresholds` and `alerts` have not got yet.",
    comment="Rises at the top of an hour, when all subjects are published, and drains within minutes.",
)
NOTIFICATIONS = Instrument(
    name="tidemark_notifications_total",
    kind="counter",
    labels=("target", "result"),
    help="Times that a target was told of an alert, by what became of it.",
    comment="`result` is `delivered`, `failed` (tried again later) or `given_up` (the end of an alert, after a day).",
)
NOTIFICATIONS_PENDING = Instrument(
    name="tidemark_notifications_pending",
    kind="gauge",
    labels=("target",),
    help="Alerts of which a target is to be told and was not yet.",
    comment="Only the one worker that notifies reports it. Above 0 for long: the target does not answer.",
)
NOTIFICATIONS_OLDEST = Instrument(
    name="tidemark_notifications_oldest_seconds",
    kind="gauge",
    labels=("target",),
    help="For how long the alert that a target was to be told of first has been waiting, in seconds; 0 for none.",
    comment="What to alert on, through another channel.",
)
SERIES = Instrument(
    name="tidemark_series",
    kind="gauge",
    labels=("status",),
    help="Series by the status of their model.",
    comment="`status` is one of those that predict answers with.",
)
COHORT_EXCEEDANCE = Instrument(
    name="tidemark_cohort_measured_exceedance",
    kind="gauge",
    labels=("metric", "size"),
    help="Share of closed hours that exceeded the threshold published for them, by cohort.",
    comment="Compare with 1 minus the coverage that is set, 0.01 by default. `size` is the calls expected in an hour, "
    "by powers of ten, or `any`. Of at most 200 cohorts, those with the most series. Every worker reports the same.",
)
_COVERAGE_LABELS = ("metric", "size", "span")
COVERAGE_JUDGED = Instrument(
    name="tidemark_coverage_judged_hours",
    kind="gauge",
    labels=_COVERAGE_LABELS,
    help="Hours that had a threshold before they came, by cohort, over the last day, week or month.",
    comment="`span` is `day`, `week` or `month` (30 days), ending at the stream's clock. Of 500 subjects at most, as "
    "they were summed up last; every worker reports the same, and nothing while PostgreSQL is away.",
)
COVERAGE_CLAIMED = Instrument(
    name="tidemark_coverage_claimed_exceedance",
    kind="gauge",
    labels=_COVERAGE_LABELS,
    help="Share of those hours that was to be expected beyond the threshold.",
    comment="1 minus the coverage that was set when the thresholds were published.",
)
COVERAGE_OBSERVED = Instrument(
    name="tidemark_coverage_observed_exceedance",
    kind="gauge",
    labels=_COVERAGE_LABELS,
    help="Share of those hours that was beyond the threshold.",
    comment="Incidents are among them. GET /coverage has it of each series.",
)
COVERAGE_LOW = Instrument(
    name="tidemark_coverage_exceedance_low",
    kind="gauge",
    labels=_COVERAGE_LABELS,
    help="Lower end of the 95 % interval of the true share beyond the threshold.",
    comment="What to alert on: above the claimed share, more went beyond than chance explains.",
)
COVERAGE_HIGH = Instrument(
    name="tidemark_coverage_exceedance_high",
    kind="gauge",
    labels=_COVERAGE_LABELS,
    help="Upper end of the 95 % interval of the true share beyond the threshold.",
    comment="Below the claimed share, thresholds are wider than they must be.",
)
COVERAGE_SKILL = Instrument(
    name="tidemark_coverage_skill",
    kind="gauge",
    labels=_COVERAGE_LABELS,
    help="1 minus the ratio of the thresholds' pinball loss to that of the values a week before.",
    comment="1 is perfect, 0 no better than last week's value as a threshold. Only where hours have one a week before.",
)
DEAD_LETTERS = Instrument(
    name="tidemark_dead_letters_total",
    kind="counter",
    labels=("reason",),
    help="Events that were refused and kept in the dead letters, by reason.",
    comment="Each is in the topic `dead-letters` with its origin and offset.",
)
HTTP_REQUESTS = Instrument(
    name="tidemark_http_requests_total",
    kind="counter",
    labels=("route", "method", "status"),
    help="HTTP requests that were answered.",
    comment="`route` is the template of the path, so billers do not multiply it; a path that no route matches counts "
    "as one. Those that were refused as too many are counted apart.",
)
SHED_REQUESTS = Instrument(
    name="tidemark_shed_requests_total",
    kind="counter",
    labels=("share",),
    help="HTTP requests that were refused with 503 `overloaded`, because more were asked than could be answered.",
    comment="`share` is `predict`, `events` or `other`: each has room of its own. Above 0 for long: add APIs.",
)
HTTP_REQUEST_SECONDS = Instrument(
    name="tidemark_http_request_seconds",
    kind="histogram",
    labels=("route",),
    help="Duration of an HTTP request until its answer was complete, in seconds.",
    comment="Predict is meant to stay under 5 ms at half load.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
DEPENDENCY_UP = Instrument(
    name="tidemark_dependency_up",
    kind="gauge",
    labels=("dependency",),
    help="1 while a dependency answers, 0 while it does not.",
    comment="`dependency` is `kafka`, `redis` or `postgres`; the same that `/readyz` names.",
)

INSTRUMENTS = (
    EVENTS,
    WINDOWS_CLOSED,
    WINDOWS_LEARNED,
    CORRECTIONS,
    FLUSH_SECONDS,
    FLUSH_SUBJECTS,
    WRITE_CONFLICTS,
    CONSUMER_LAG,
    BUFFERED_EVENTS,
    STORE_LOSSES,
    REWOUND_RECORDS,
    LOST_RECORDS,
    RECREATED_LOGS,
    STALLS,
    HISTORY_PENDING,
    ARCHIVED_ROWS,
    ARCHIVE_LAG,
    ARCHIVE_RETRIES,
    ANNOUNCEMENTS_PENDING,
    NOTIFICATIONS,
    NOTIFICATIONS_PENDING,
    NOTIFICATIONS_OLDEST,
    SERIES,
    COHORT_EXCEEDANCE,
    COVERAGE_JUDGED,
    COVERAGE_CLAIMED,
    COVERAGE_OBSERVED,
    COVERAGE_LOW,
    COVERAGE_HIGH,
    COVERAGE_SKILL,
    DEAD_LETTERS,
    HTTP_REQUESTS,
    SHED_REQUESTS,
    HTTP_REQUEST_SECONDS,
    DEPENDENCY_UP,
)


@dataclass(frozen=True, slots=True)
class Instruments:
    """The live instruments of one process, registered in one registry."""

    events: Counter
    windows_closed: Counter
    windows_learned: Counter
    corrections: Counter
    flush_seconds: Histogram
    flush_subjects: Histogram
    write_conflicts: Counter
    consumer_lag: Gauge
    buffered_events: Gauge
    store_losses: Counter
    rewound_records: Counter
    lost_records: Counter
    recreated_logs: Counter
    stalls: Counter
    history_pending: Gauge
    archived_rows: Counter
    archive_lag: Gauge
    archive_retries: Counter
    announcements_pending: Gauge
    notifications: Counter
    notifications_pending: Gauge
    notifications_oldest: Gauge
    series: Gauge
    cohort_exceedance: Gauge
    coverage_judged: Gauge
    coverage_claimed: Gauge
    coverage_observed: Gauge
    coverage_low: Gauge
    coverage_high: Gauge
    coverage_skill: Gauge
    dead_letters: Counter
    http_requests: Counter
    shed_requests: Counter
    http_request_seconds: Histogram
    dependency_up: Gauge


def instruments(registry: CollectorRegistry) -> Instruments:
    """All instruments, registered in `registry`; a registry takes them once (ValueError the second time)."""
    return Instruments(
        events=EVENTS.counter(registry),
        windows_closed=WINDOWS_CLOSED.counter(registry),
        windows_learned=WINDOWS_LEARNED.counter(registry),
        corrections=CORRECTIONS.counter(registry),
        flush_seconds=FLUSH_SECONDS.histogram(registry),
        flush_subjects=FLUSH_SUBJECTS.histogram(registry),
        write_conflicts=WRITE_CONFLICTS.counter(registry),
        consumer_lag=CONSUMER_LAG.gauge(registry),
        buffered_events=BUFFERED_EVENTS.gauge(registry),
        store_losses=STORE_LOSSES.counter(registry),
        rewound_records=REWOUND_RECORDS.counter(registry),
        lost_records=LOST_RECORDS.counter(registry),
        recreated_logs=RECREATED_LOGS.counter(registry),
        stalls=STALLS.counter(registry),
        history_pending=HISTORY_PENDING.gauge(registry),
        archived_rows=ARCHIVED_ROWS.counter(registry),
        archive_lag=ARCHIVE_LAG.gauge(registry),
        archive_retries=ARCHIVE_RETRIES.counter(registry),
        announcements_pending=ANNOUNCEMENTS_PENDING.gauge(registry),
        notifications=NOTIFICATIONS.counter(registry),
        notifications_pending=NOTIFICATIONS_PENDING.gauge(registry),
        notifications_oldest=NOTIFICATIONS_OLDEST.gauge(registry),
        series=SERIES.gauge(registry),
        cohort_exceedance=COHORT_EXCEEDANCE.gauge(registry),
        coverage_judged=COVERAGE_JUDGED.gauge(registry),
        coverage_claimed=COVERAGE_CLAIMED.gauge(registry),
        coverage_observed=COVERAGE_OBSERVED.gauge(registry),
        coverage_low=COVERAGE_LOW.gauge(registry),
        coverage_high=COVERAGE_HIGH.gauge(registry),
        coverage_skill=COVERAGE_SKILL.gauge(registry),
        dead_letters=DEAD_LETTERS.counter(registry),
        http_requests=HTTP_REQUESTS.counter(registry),
        shed_requests=SHED_REQUESTS.counter(registry),
        http_request_seconds=HTTP_REQUEST_SECONDS.histogram(registry),
        dependency_up=DEPENDENCY_UP.gauge(registry),
    )
