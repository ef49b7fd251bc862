"""One subject as the hashes that are written together, and back; exact both ways.

subject hash   counters, offsets, open windows            (`state.counts_codec`)
series hash    one answer and one verdict                 (`state.series_codec`)
models hash    what was learned, a record for each series (`detection.series_model`)
outbox hash    learned windows by hour, what is to be told (`state.outbox_codec`)

What stays as it is stored is not written again: a write that only counts events is the subject's own hash, and one that
only publishes leaves the records alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from hiredis import pack_command

from detection.catalogue import BILLER_METRICS, metric_of
from detection.errors import UnreadableStateError
from detection.events import NEWEST_MS
from detection.models import Models
from detection.policy import Policy
from detection.rules.alert import Alert
from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.windows import Window
from state.alert_codec import dump_alerts, dump_live, load_alerts
from state.counts_codec import (
    DAMAGED,
    counts_of,
    load_offsets,
    minutes_of,
    numbers_of,
    of_kind,
    subject_fields,
    texts_of,
    whole,
)
from state.exclusion_codec import dump_exclusions
from state.keys import SCHEMA, models_key, outbox_key, series_key, subject_key
from state.outbox_codec import outbox_entries
from state.series_codec import about_fields, about_of, decode_series, encode_closings, encode_series, require_schema
from state.series_fields import OBSOLETE
from state.store import Head
from state.window_codec import hour_of, load_hours, load_minutes

# What `head` needs, in its order.
HEAD_FIELDS: Final = ("schema", "rev", "watermark_ms", "published_hour", "is_outdated", "offsets")

_SCHEMA: Final = str(SCHEMA).encode()

Hash = tuple[str, list[bytes]]


@dataclass(frozen=True, slots=True)
class Write:
    """What one subject's write sets, if the stored revision is `expected_rev`: names and values by turns, by key.

    Each of the `series` also loses the fields in `removed`. The last of the `others` is the subject's own hash, which
    holds the revision. `about` is what the subject's field of that name is after the write.
    """

    expected_rev: bytes
    series: list[Hash]
    others: list[Hash]
    removed: tuple[bytes, ...]
    about: bytes

    @property
    def hashes(self) -> list[Hash]:
        """All of them, in the order in which they are to be set."""
        return self.series + self.others

    @property
    def key(self) -> str:
        """Of the subject's own hash."""
        return self.others[-1][0]

    @property
    def keys(self) -> list[str]:
        """Of all hashes that it sets, the subject's own last."""
        return [key for key, _ in self.hashes]

    @property
    def commands(self) -> list[bytes]:
        """As the protocol has them."""
        commands: list[tuple[Any, ...]] = [("HDEL", key, *self.removed) for key, _ in self.series if self.removed]
        commands += [("HSET", key, *flat) for key, flat in self.hashes]
        return [pack_command(command) for command in commands]

    @property
    def size(self) -> int:
        """In bytes, nearly: the fields of a series are small beside the others."""
        return sum(sum(map(len, flat)) for _, flat in self.others)

    def apply_to(self, state: SubjectState) -> None:
        """The write has succeeded: the state is what is stored."""
        state.rev += 1
        state.about = self.about
        state.has_alerts_stored = bool(state.alerts)
        state.settled()


def encode(state: SubjectState, policy: Policy) -> Write:
    """The subject's fields at its next revision, the series in `changed`, and the learned windows."""
    subject = state.subject
    changed = sorted(state.changed)
    names = known = state.known
    series: list[Hash] = []
    others: list[Hash] = []
    removed: tuple[bytes, ...] = ()
    about = state.about
    if changed or not state.rev:
        names = known.union(changed, state.models, state.forecasts, state.verdicts)
        now = about_of(sorted(names), policy)
        is_told = now == about
        if not is_told and names <= state.changed:
            # Otherwise some series would be taken for what they are not, by whoever finds the subject saying so.
            about = now
        if state.rev and not state.about:
            removed = OBSOLETE
        series = [(series_key(subject, slug), _series(state, slug, policy, is_told=is_told)) for slug in changed]
        learned = [slug for slug in changed if not state.rev or slug in state.relearned or slug not in known]
        if learned:
            others.append((models_key(subject), records(state, learned)))
    outbox = outbox_entries(state)
    if outbox:
        others.append((outbox_key(subject), outbox))
    fields = subject_fields(state, rev=state.rev + 1)
    if not state.rev:
        fields = [b"schema", _SCHEMA, b"subject", str(subject).encode(), *fields]
    minutes = minutes_of(state)
    if minutes:
        fields += (b"minutes", minutes)
    if not state.rev or names != known:
        fields += (b"metrics", " ".join(sorted(names)).encode())
    if about != state.about:
        fields += (b"about", about)
    fields += alerting_fields(state, is_published=bool(changed))
    others.append((subject_key(subject), fields))
    return Write(expected_rev=b"%d" % state.rev, series=series, others=others, removed=removed, about=about)


def _series(state: SubjectState, slug: str, policy: Policy, *, is_told: bool) -> list[bytes]:
    """What is written of one series; its static fields only where they are not known to be stored."""
    closed = state.closings.get(slug)
    if closed is None:
        return encode_series(
            state.subject,
            metric_of(slug),
            forecast=state.forecasts.get(slug),
            verdict=state.verdicts.get(slug),
            policy=policy,
            # A new series has no verdict that could stand.
            is_whole=state.is_whole or slug not in state.known,
        )
    closings, at = closed
    if closings.encoded is None:
        # All at once, whoever of them is written first.
        closings.encoded = encode_closings(closings)
    flat = closings.encoded[at]
    if not closings.is_judged[at] and (slug not in state.known or not state.about):
        # No such field stands in the store yet, and no verdict is lost: a state that has one is not closed in company.
        flat = [*flat, b"last", b""]
    return flat if is_told else about_fields(state.subject, metric_of(slug), policy) + flat


def records(state: SubjectState, slugs: Iterable[str]) -> list[bytes]:
    """Slugs and what was learned of them by turns; an empty record says "nothing yet", a missing one is a loss."""
    flat: list[bytes] = []
    for slug in slugs:
        flat += (slug.encode(), state.models.record(slug))
    return flat


def alerting_fields(state: SubjectState, *, is_published: bool) -> list[bytes]:
    """What rules and people have said of it, names and values by turns; only what may differ from what is stored."""
    flat: list[bytes] = []
    if not state.rev or state.has_alerts_stored or state.alerts:
        flat += (b"alerts", dump_alerts(state.alerts))
    if not state.rev or is_published:
        flat += (b"live", dump_live(state.live))
    if not state.rev or state.opinions:
        flat += (b"opinions", orjson.dumps(dict(state.opinions), option=orjson.OPT_SORT_KEYS))
    if not state.rev or state.has_new_exclusions:
        flat += (b"exclusions", dump_exclusions(state.exclusions))
    return flat


def slugs_of(subject: Subject, metrics: bytes | None) -> list[str]:
    """The series that a subject's `metrics` field names; those of every biller need not be asked for.

    Raises UnreadableStateError that names the key.
    """
    if subject.kind == "biller":
        return [metric.slug for metric in BILLER_METRICS]
    try:
        return [] if metrics is None else metrics.decode().split()
    except UnicodeDecodeError as error:
        raise UnreadableStateError(f"{subject_key(subject)}: damaged metrics: {error!r}") from error


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
        state = counts_of(subject, numbers_of(fields), texts_of(fields))
        state.windows = of_kind(subject, load_hours(fields[b"windows"]))
        state.minutes = load_minutes(fields[b"minutes"])
        metrics = [metric_of(slug) for slug in sorted(state.known)]
    except DAMAGED as error:
        raise UnreadableStateError(f"{key}: damaged: {error!r}") from error
    for metric in metrics:
        slug = metric.slug
        own = series.get(slug, {})
        model, forecast, verdict = decode_series(subject, metric, own, models, policy)
        if model is not None:
            state.models[slug] = model
        if forecast is not None:
            state.forecasts[slug] = forecast
        if verdict is not None:
            state.verdicts[slug] = verdict
        if own[b"schema"] == b"1":
            # Its record is not where that of a later version is.
            state.relearned.add(slug)
    return state


def decode_models(state: SubjectState, records: Mapping[bytes, bytes], policy: Policy) -> None:
    """Give the state its models; UnreadableStateError names the key of a record that is missing."""
    known = {slug: records.get(slug.encode()) for slug in state.known}
    found = {slug: record for slug, record in known.items() if record is not None}
    if len(found) < len(known):
        missing = min(known.keys() - found.keys())
        # Not the same as an empty one: to learn the series anew would hide that something was lost.
        raise UnreadableStateError(f"{models_key(state.subject)}: {missing}: missing")
    state.models = Models.of_records(found, policy, str(state.subject))
    state.has_models = True


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
            rev=whole(fields, b"rev"),
            watermark_ms=whole(fields, b"watermark_ms", least=-1, most=NEWEST_MS),
            published_hour=hour_of(fields[b"published_hour"].decode()),
            is_outdated=fields[b"is_outdated"] == b"true",
            offsets=load_offsets(fields[b"offsets"]),
            unrelayed=unrelayed,
        )
    except DAMAGED as error:
        raise UnreadableStateError(f"{key}: damaged: {error!r}") from error


def decode_minutes(subject: Subject, data: bytes) -> dict[int, Window]:
    """The subject's last minutes; raises UnreadableStateError naming the key."""
    try:
        return load_minutes(data)
    except DAMAGED as error:
        raise UnreadableStateError(f"{subject_key(subject)}: damaged minutes: {error!r}") from error


def decode_alerts(subject: Subject, data: bytes) -> dict[str, Alert]:
    """The subject's alerts by their key; raises UnreadableStateError naming the key."""
    try:
        return load_alerts(subject, data)
    except DAMAGED as error:
        raise UnreadableStateError(f"{subject_key(subject)}: damaged alerts: {error!r}") from error
