"""The statements behind `state.gauge_statistics`: which rows of which table stand for a stretch of time.

A statement is put together of the texts below; whatever comes from outside is a parameter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from detection.hours import HOUR_MS, MINUTE_MS
from state.moments import bounds
from state.questions import Operator, Position, Question

Asked = tuple[str, dict[str, Any]]

# Metrics one after the other, each found at once behind the one before.
_KNOWN: Final = """
with recursive known (metric) as (
    (select metric from gauge_hours where subject = %(subject)s order by metric limit 1)
    union all
    select (
        select metric from gauge_hours
        where subject = %(subject)s and metric > known.metric order by metric limit 1
    )
    from known where known.metric is not null
)
"""
METRICS: Final = _KNOWN + "select metric from known where metric is not null"  # noqa: S608  # see the module
_EXTENTS: Final = (
    _KNOWN  # noqa: S608  # see the module
    + """
select wanted.metric, oldest.moment, newest.moment
from (select metric from known where metric is not null) as wanted
left join lateral (
    select {moment} as moment from {table} where metric = wanted.metric and {condition} order by {moment} limit 1
) as oldest on true
left join lateral (
    select {moment} as moment from {table} where metric = wanted.metric and {condition} order by {moment} desc limit 1
) as newest on true
"""
)
LABEL_SETS: Final = """
select label_set from subject_label_sets join label_sets on id = label_set
where subject = %(subject)s and labels @> %(labels)s
"""
OLDEST_MINUTES: Final = """
select min(right(inhrelid::regclass::text, 8))::date::timestamp at time zone 'UTC'
from pg_inherits where inhparent = 'gauge_minutes'::regclass
"""

_ONE_WINDOW: Final = "to_timestamp(0)"
_STEPS: Final = "date_bin(%(step)s, moment, to_timestamp(0))"
_OPERATORS: Final[Mapping[Operator, str]] = {
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "eq": "=",
    "ne": "<>",
}
_WANTED: Final = """(select one collate "C" as metric from unnest(%(metrics)s::text[]) as one) as wanted"""
# Metric by metric, and in no order: sorted, they would be so with all their bins, which is what takes memory and time.
_SUMS: Final = """
select wanted.metric, summed.*
from {wanted} cross join lateral (
    select {window} as first, {sums} from ({rows}) as part
    where ({window}, wanted.metric) > (%(after)s::timestamptz, %(after_metric)s) group by 1
) as summed
"""
_SUMS_OF_WINDOWS: Final = """
    sum(count)::bigint, sum(sum_nano), min(minimum), max(maximum),
    (max(array[date_part('epoch', last_at), last]))[2], max(last_at), min(moment), max(until),
    string_agg(packed_bins, ''::bytea), string_agg(sent_bins, ''::bytea), string_agg(sent_events, ''::bytea)
"""
_SUMS_OF_EVENTS: Final = """
    count(*), avg(value), min(value), max(value),
    (max(array[date_part('epoch', moment), value]))[2], max(moment), min(moment),
    max(moment) + interval '1 millisecond',
    percentile_disc(%(shares)s::float8[]) within group (order by value), null
"""
_FIRST: Final = """
select min(first.moment)
from {wanted} cross join lateral (
    select {moment} as moment from {table} where metric = wanted.metric and {condition} order by {moment} limit 1
) as first
"""
_NEWEST: Final = """
select wanted.metric, newest.moment, newest.last, newest.last_at, label_sets.labels
from {wanted} cross join lateral (
    select {newest} from {table} where metric = wanted.metric and {condition}
    order by {moment} desc, last_at desc, last desc limit 1
) as newest join label_sets on label_sets.id = newest.label_set
"""


@dataclass(frozen=True, slots=True)
class Table:
    """What a table's columns are called: `rows` are those to sum up, `newest` those of a newest row.

    `found_by` is what its index finds a series by, beside its subject and its metric.
    """

    name: str
    moment: str
    rows: str
    newest: str
    found_by: str = "true"


_WINDOW_ROWS: Final = "start as moment, count, sum_nano, minimum, maximum, last, last_at"
_WINDOW_NEWEST: Final = "start as moment, last, last_at, label_set"
# Of hours there are many, and they are kept with their bins packed; to pack those of minutes would take longer than to
# send them as they are. Without the head of 28 bytes the arrays of several minutes are one.
_MINUTES: Final = Table(
    "gauge_minutes",
    "start",
    f"{_WINDOW_ROWS}, start + interval '1 minute' as until, null::bytea as packed_bins,"
    " substring(array_send(bins[1:1]::smallint[]) from 29) as sent_bins,"
    " substring(array_send(bins[2:2]::integer[]) from 29) as sent_events",
    _WINDOW_NEWEST,
)
_HOURS: Final = Table(
    "gauge_hours",
    "start",
    f"{_WINDOW_ROWS}, start + interval '1 hour' as until, packed_bins,"
    " null::bytea as sent_bins, null::bytea as sent_events",
    _WINDOW_NEWEST,
)
_EVENTS: Final = Table(
    "observation_events",
    "at",
    "at as moment, value",
    "at as moment, value as last, at as last_at, label_set",
    "hashtext(subject || ' ' || metric) = hashtext(%(subject)s::text || ' ' || wanted.metric)",
)


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one table in a stretch of time, None where it is open."""

    table: Table
    from_ms: int | None
    to_ms: int | None


def is_of_hours(question: Question) -> bool:
    """Whether hours can be summed up for it."""
    return not question.values and (question.step_ms is None or question.step_ms % HOUR_MS == 0)


def moved_out(question: Question, *, oldest_minutes_ms: int | None) -> Question:
    """Bounds on full minutes where windows are summed up; on hours, where the minutes are not kept any more."""
    if question.values:
        return question
    unit = MINUTE_MS if oldest_minutes_ms is not None or not is_of_hours(question) else HOUR_MS
    start, end = _floor(question.from_ms, unit), _ceiling(question.to_ms, unit)
    if is_of_hours(question) and oldest_minutes_ms is not None:
        if start is not None and start < oldest_minutes_ms:
            start = _floor(start, HOUR_MS)
        if end is not None and end <= oldest_minutes_ms:
            end = _ceiling(end, HOUR_MS)
    return replace(question, from_ms=start, to_ms=end)


def parts_of(question: Question, start: int | None, end: int | None) -> list[Part]:
    """What to read, oldest first: hours where they will do, and minutes at the ends that cut through an hour."""
    if start is not None and end is not None and start >= end:
        return []
    if question.values:
        return [Part(_EVENTS, start, end)]
    first, last = _ceiling(start, HOUR_MS), _floor(end, HOUR_MS)
    if not is_of_hours(question) or (first is not None and last is not None and first > last):
        return [Part(_MINUTES, start, end)]
    parts = []
    if start != first:
        parts.append(Part(_MINUTES, start, first))
    if first is None or first != last:
        parts.append(Part(_HOURS, first, last))
    if last != end:
        parts.append(Part(_MINUTES, last, end))
    return parts


@dataclass(frozen=True, slots=True)
class Queries:
    """Statements for one question; `label_sets` are those that are taken, None for all."""

    question: Question
    label_sets: Sequence[int] | None = None

    def sums(self, parts: Sequence[Part], metrics: Sequence[str], *, after: Position | None = None) -> Asked:
        """One row a window and metric, those behind `after`, in no particular order."""
        values: dict[str, Any] = {
            "metrics": list(metrics),
            "after": bounds(None if after is None else after.start_ms, None)["start"],
            "after_metric": "" if after is None else after.metric,
        }
        window: str = _ONE_WINDOW
        if self.question.step_ms is not None:
            window, values["step"] = _STEPS, timedelta(milliseconds=self.question.step_ms)
        if self.question.values:
            values["shares"] = list(self.question.shares)
        selects: list[str] = []
        for number, part in enumerate(parts):
            condition, more = self._condition(part, number)
            values |= more
            selects.append(
                f"select {part.table.rows} from {part.table.name}"  # noqa: S608  # see the module
                f" where metric = wanted.metric and {condition}"
            )
        sums = _SUMS_OF_EVENTS if self.question.values else _SUMS_OF_WINDOWS
        rows = " union all ".join(selects)
        return _SUMS.format(wanted=_WANTED, window=window, sums=sums, rows=rows), values

    def extents(self, part: Part) -> Asked:
        """Each metric of the subject with the times of the part's first and last row, null where there are none."""
        condition, values = self._condition(part, 0)
        return _EXTENTS.format(table=part.table.name, condition=condition, moment=part.table.moment), values

    def first(self, part: Part, metrics: Sequence[str]) -> Asked:
        """The time of the part's first row, or null."""
        return self._of_one(_FIRST, part, metrics)

    def newest(self, part: Part, metrics: Sequence[str]) -> Asked:
        """Of each metric that the part has, the newest row."""
        return self._of_one(_NEWEST, part, metrics)

    def _of_one(self, statement: str, part: Part, metrics: Sequence[str]) -> Asked:
        condition, values = self._condition(part, 0)
        table = part.table
        text = statement.format(
            wanted=_WANTED, table=table.name, condition=condition, moment=table.moment, newest=table.newest
        )
        return text, {**values, "metrics": list(metrics)}

    def _condition(self, part: Part, number: int) -> tuple[str, dict[str, Any]]:
        """What the rows of the part meet; the parameters of its bounds have its number."""
        limits = bounds(part.from_ms, part.to_ms)
        values: dict[str, Any] = {
            "subject": str(self.question.subject),
            f"start_{number}": limits["start"],
            f"end_{number}": limits["end"],
        }
        moment = part.table.moment
        texts: list[str] = [
            "subject = %(subject)s",
            part.table.found_by,
            f"{moment} >= %(start_{number})s::timestamptz",
            f"{moment} < %(end_{number})s::timestamptz",
        ]
        if self.label_sets is not None:
            texts.append("label_set = any(%(label_sets)s)")
            values["label_sets"] = list(self.label_sets)
        for place, comparison in enumerate(self.question.values):
            texts.append(f"value {_OPERATORS[comparison.operator]} %(value_{place})s::float8")
            values[f"value_{place}"] = comparison.value
        return " and ".join(texts), values


def _floor(ms: int | None, unit: int) -> int | None:
    return None if ms is None else ms // unit * unit


def _ceiling(ms: int | None, unit: int) -> int | None:
    return None if ms is None else -(-ms // unit) * unit
