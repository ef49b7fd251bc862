"""One subject as the hashes that are written together, and back; exact both ways.

subject hash   counters, offsets, open windows            (`subject_fields`)
series hash    one answer and one verdict                 (`state.series_codec`)
models hash    what was learned, a record for each series (`detection.series_model`)
outbox hash    learned windows by hour                    (`state.window_codec`)
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from detection.catalogue import BILLER_METRICS, metric_of
from detection.errors import UnknownMetricError, UnreadableStateError
from detection.hours import iso
from detection.policy import Policy
from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.windows import Window
from state.keys import SCHEMA, models_key, outbox_key, series_key, subject_key
from state.series_codec import decode_series, encode_series, require_schema
from state.store import Head
from state.window_codec import (
    dump_hours,
    dump_minutes,
    dump_window,
    hour_of,
    hour_text,
    load_hours,
    load_minutes,
    load_window,
)

# What `head` needs, in its order.
HEAD_FIELDS: Final = ("schema", "rev", "watermark_ms", "published_hour", "offsets")

_SCHEMA: Final = str(SCHEMA).encode()
_BILLER_SLUGS: Final = tuple(metric.slug for metric in BILLER_METRICS)


Hash = tuple[str, list[bytes]]


@dataclass(frozen=True, slots=True)
class Write:
    """What one subject's write sets, if the stored revision is `expected_rev`: names and values by turns, by key.

    Each of the `series` also loses the field OBSOLETE. The last of the `others` is the subject's own hash, which holds
    the revision.
    """

    expected_rev: bytes
    series: list[Hash]
    others: list[Hash]

    @property
    def hashes(self) -> list[Hash]:
        """All of them, in the order in which they are to be set."""
        return self.series + self.others


def encode(state: SubjectState, policy: Policy) -> Write:
    """The subject's fields at its next revision, the series in `changed`, and the learned windows."""
    subject = state.subject
    changed = sorted(state.changed)
    series = [
        (
            series_key(subject, slug),
            encode_series(
                subject,
                metric_of(slug),
                forecast=state.forecasts.get(slug),
                verdict=state.verdicts.get(slug),
                policy=policy,
            ),
        )
        for slug in changed
    ]
    others: list[Hash] = []
    if changed:
        others.append((models_key(subject), records(state, changed)))
    if state.learned:
        flat: list[bytes] = []
        for hour in sorted(state.learned):
            flat += (hour_text(hour).encode(), dump_window(state.learned[hour]))
        others.append((outbox_key(subject), flat))
    others.append((subject_key(subject), subject_fields(state, rev=state.rev + 1)))
    return Write(expected_rev=b"%d" % state.rev, series=series, others=others)


def records(state: SubjectState, slugs: Iterable[str]) -> list[bytes]:
    """Slugs and what was learned of them by turns; an empty record says "nothing yet", a missing one is a loss."""
    flat: list[bytes] = []
    for slug in slugs:
        model = state.models.get(slug)
        flat += (slug.encode(), b"" if model is None else model.to_bytes())
    return flat


def subject_fields(state: SubjectState, *, rev: int) -> list[bytes]:
    """Names and values by turns, as HSET takes them."""
    known = state.models.keys() | state.forecasts.keys() | state.verdicts.keys()
    return [
        b"schema",
        _SCHEMA,
        b"subject",
        str(state.subject).encode(),
        b"rev",
        b"%d" % rev,
        b"watermark",
        iso(state.watermark_ms).encode() if state.watermark_ms >= 0 else b"",
        b"watermark_ms",
        b"%d" % state.watermark_ms,
        b"learned_before",
        hour_text(state.learned_before).encode(),
        b"published_hour",
        hour_text(state.published_hour).encode(),
        b"is_outdated",
        b"true" if state.is_outdated else b"false",
        b"accepted",
        b"%d" % state.accepted,
        b"late",
        b"%d" % state.late,
        b"metrics",
        " ".join(sorted(known)).encode(),
        b"offsets",
        orjson.dumps(state.offsets, option=orjson.OPT_SORT_KEYS),
        b"windows",
        dump_hours(state.windows),
        b"minutes",
        dump_minutes(state.minutes),
    ]


def slugs_of(subject: Subject, metrics: bytes | None) -> list[str]:
    """The series that a subject's `metrics` field names; those of every biller need not be asked for."""
    if subject.kind == "biller":
        return list(_BILLER_SLUGS)
    return [] if metrics is None else metrics.decode().split()


def decode(
    subject: Subject,
    fields: Mapping[bytes, bytes],
    series: Mapping[str, Mapping[bytes, bytes]],
    models: Mapping[bytes, bytes],
    policy: Policy,
) -> SubjectState:
    """The state of a subject's fields and, by slug, its series' fields and its models' records.

    Raises UnreadableStateError that names the key.
    """
    key = subject_key(subject)
    require_schema(key, fields, (SCHEMA,))
    try:
        state = SubjectState(
            subject=subject,
            rev=int(fields[b"rev"]),
            watermark_ms=int(fields[b"watermark_ms"]),
            learned_before=hour_of(fields[b"learned_before"].decode()),
            published_hour=hour_of(fields[b"published_hour"].decode()),
            accepted=int(fields[b"accepted"]),
            late=int(fields[b"late"]),
            offsets=orjson.loads(fields[b"offsets"]),
            windows=load_hours(fields[b"windows"]),
            minutes=load_minutes(fields[b"minutes"]),
            is_outdated=fields[b"is_outdated"] == b"true",
        )
        slugs = fields[b"metrics"].decode().split()
        metrics = [metric_of(slug) for slug in slugs]
    except (AttributeError, KeyError, TypeError, ValueError, UnknownMetricError) as error:
        raise UnreadableStateError(f"{key}: damaged: {error!r}") from error
    for metric in metrics:
        slug = metric.slug
        model, forecast, verdict = decode_series(subject, metric, series.get(slug, {}), models, policy)
        if model is not None:
            state.models[slug] = model
        if forecast is not None:
            state.forecasts[slug] = forecast
        if verdict is not None:
            state.verdicts[slug] = verdict
    return state


def head(subject: Subject, values: list[bytes | None], unrelayed: int) -> Head | None:
    """The head of the values of HEAD_FIELDS, None where there is no such subject; raises UnreadableStateError."""
    if all(value is None for value in values):
        return None
    key = subject_key(subject)
    fields = {name.encode(): value for name, value in zip(HEAD_FIELDS, values, strict=True) if value is not None}
    require_schema(key, fields, (SCHEMA,))
    try:
        return Head(
            subject=subject,
            rev=int(fields[b"rev"]),
            watermark_ms=int(fields[b"watermark_ms"]),
            published_hour=hour_of(fields[b"published_hour"].decode()),
            offsets=orjson.loads(fields[b"offsets"]),
            unrelayed=unrelayed,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableStateError(f"{key}: damaged: {error!r}") from error


def decode_minutes(subject: Subject, data: bytes) -> dict[int, Window]:
    """The subject's last minutes; raises UnreadableStateError naming the key."""
    try:
        return load_minutes(data)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableStateError(f"{subject_key(subject)}: damaged minutes: {error!r}") from error


def decode_outbox(subject: Subject, fields: Mapping[bytes, bytes]) -> dict[int, Window]:
    """The learned windows by hour, oldest first; raises UnreadableStateError naming the key."""
    try:
        windows = {hour_of(text.decode()): load_window(data) for text, data in fields.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableStateError(f"{outbox_key(subject)}: damaged: {error!r}") from error
    return dict(sorted(windows.items()))


def outbox_fields(hours: Iterable[int]) -> list[str]:
    """The outbox's field names of these hours."""
    return [hour_text(hour) for hour in hours]
