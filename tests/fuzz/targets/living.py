"""What every state must bear, wherever it came from: to be counted into, learned, published, judged and stored."""

import math
from collections.abc import Iterable
from contextlib import nullcontext, suppress

from detection.closing import close
from detection.errors import InvalidObservationError, UnreadableStateError
from detection.estimate import Forecast
from detection.events import NEWEST_MS, Observed
from detection.live_normals import live_normals
from detection.rules.book import RuleBook, in_force
from detection.rules.rule import Rule
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState
from state.codec import decode, decode_models, encode, slugs_of
from state.counts_codec import decode_counts
from state.keys import models_key, outbox_key, series_key, subject_key
from state.outbox_codec import decode_alert_history, decode_announcements, decode_outbox
from state.readable_series import answer_fields, survey_fields
from state.series_fields import ANSWER_FIELDS, SURVEY_FIELDS
from stream.judging import Judging
from tests.contract.states import POLICY

Fields = dict[bytes, bytes]
Hashes = dict[str, Fields]

_RULES = RuleBook(in_force(()))


def lives_on(subject: Subject, arrived: Arrivals) -> None:
    """What arrived for a new subject, in one write after the other; both ways to close windows come to the same."""
    stored: Hashes = {}
    state = SubjectState(subject)
    state.absorb(arrived)
    _learned_and_published(state)
    written(state, stored)
    again = loaded(subject, stored)
    assert again.windows == state.windows
    assert again.forecasts == state.forecasts
    assert again.verdicts == state.verdicts
    endures(again, stored)


def judged_by(rules: Iterable[Rule], state: SubjectState) -> None:
    """The rules look at what a state has, and what they make of it is written with it."""
    judging = Judging(RuleBook(in_force(rules)), POLICY)
    judging.judge([(state, Arrivals(state.watermark_ms, observed=_observed(state)))], latest_ms=NEWEST_MS)
    state.changed.update(state.models)
    stored: Hashes = {}
    written(state, stored)
    assert loaded(state.subject, stored).alerts == state.alerts


def _observed(state: SubjectState) -> list[Observed]:
    if state.subject.kind == "biller":
        return []
    gauges = {metric.slug: 0.25 for metric in state.metrics()}
    return [Observed(state.subject, state.watermark_ms, gauges, {"region": "eu"})]


def endures(state: SubjectState, stored: Hashes) -> None:
    """A state that was read can go on from there: more hours are learned, rules look at it, and it is written again."""
    subject = state.subject
    Judging(_RULES, POLICY).judge([(state, Arrivals(state.watermark_ms))], latest_ms=NEWEST_MS)
    later = min(max(state.watermark_ms, 0) + 30 * 3_600_000, NEWEST_MS - 1)
    state.absorb(Arrivals(watermark_ms=later, accepted=1))
    state.pass_empty_hours(POLICY)
    counts = decode_counts(subject, stored[subject_key(subject)])
    if counts is not None and subject.kind == "biller":
        decode_models(counts, stored.get(models_key(subject), {}), POLICY)
        counts.absorb(Arrivals(watermark_ms=later, accepted=1))
        close([counts], later, POLICY)
        counts.live = live_normals(counts, counts.live, POLICY)
        encode(counts, POLICY)
    if not _learned_and_published(state):
        return
    state.live = live_normals(state, state.live, POLICY)
    written(state, stored)
    loaded(subject, stored, is_ours=False)


def _learned_and_published(state: SubjectState) -> bool:
    """False for a window of an hour that is learned already: damage between fields, which ends a store's write."""
    try:
        state.learn(POLICY)
        state.publish(state.watermark_ms, POLICY)
    except InvalidObservationError:
        return False
    for forecast in state.forecasts.values():
        assert_speaks(forecast)
    return True


def assert_speaks(forecast: Forecast) -> None:
    """What is published is a number, whatever was learned."""
    estimate, threshold = forecast.estimate, forecast.threshold
    said = (estimate.location, estimate.lower, estimate.upper, estimate.expected_count, threshold.value)
    assert not any(map(math.isnan, said)), forecast
    assert math.isfinite(estimate.location), forecast


def written(state: SubjectState, stored: Hashes) -> None:
    """As a store does it."""
    write = encode(state, POLICY)
    for key, flat in write.hashes:
        fields = stored.setdefault(key, {})
        fields.update(zip(flat[::2], flat[1::2], strict=True))
        if (key, flat) in write.series:
            for name in write.removed:
                fields.pop(name, None)
    write.apply_to(state)


def loaded(subject: Subject, stored: Hashes, *, is_ours: bool = True) -> SubjectState:
    """As a store does it; every reader of these hashes reads them, and takes them where all of it `is_ours`."""
    own = stored[subject_key(subject)]
    slugs = slugs_of(subject, own[b"metrics"])
    series = {slug: stored.get(series_key(subject, slug), {}) for slug in slugs}
    state = decode(subject, own, series, stored.get(models_key(subject), {}), POLICY)
    for fields in series.values():
        # Those who answer people read more of a series than those who go on with it.
        with nullcontext() if is_ours else suppress(UnreadableStateError):
            answer_fields(values_of(fields, ANSWER_FIELDS))
            survey_fields(values_of(fields, SURVEY_FIELDS))
    outbox = stored.get(outbox_key(subject), {})
    for read in (decode_outbox, decode_announcements, decode_alert_history):
        read(subject, outbox)
    return state


def values_of(fields: dict[bytes, bytes], names: Iterable[str]) -> list[bytes | None]:
    """As a store answers."""
    return [fields.get(name.encode()) for name in names]
