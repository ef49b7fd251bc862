"""What is excluded was never seen: by the models, by what is published of them, and by rules."""

from copy import deepcopy
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detection.catalogue import AVERAGE_RESPONSE_TIME, BILLER_METRICS
from detection.closing import close
from detection.exclusions import Exclusion, Exclusions
from detection.hours import HOUR_MS
from detection.live_normals import live_normals
from detection.policy import Policy
from detection.rows import Observation
from detection.series_model import SeriesModel
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState
from detection.training import fold, refold
from detection.windows import CallWindow, Window
from state.exclusion_codec import dump_exclusions, load_exclusions
from tests.contract.states import FIRST_HOUR, call_window, gauge_window
from tests.property.test_closing_properties import POLICIES, WINDOWS, Stored, biller
from tests.strategies import History, histories

METRIC = AVERAGE_RESPONSE_TIME
SLUGS = [None, *(metric.slug for metric in BILLER_METRICS)]


@st.composite
def spans(draw: st.DrawFn, *, first: int, last: int) -> tuple[int, int]:
    begin = draw(st.integers(first, last))
    return begin, begin + draw(st.sampled_from([1, 1, 2, 6, 200]))


def exclusions_of(found: list[tuple[int, int]], slug: str | None = None) -> Exclusions:
    return Exclusions(Exclusion(from_hour=begin, before_hour=end, slug=slug) for begin, end in found)


@settings(max_examples=40, deadline=None)
@given(histories(longest=120), st.lists(spans(first=FIRST_HOUR - 5, last=FIRST_HOUR + 125), max_size=4))
def test_a_fold_without_the_excluded_hours_is_the_fold_of_a_stream_that_never_had_them(
    history: History, excluded: list[tuple[int, int]]
) -> None:
    policy = Policy()
    known = {
        FIRST_HOUR + at: Observation(FIRST_HOUR + at, value, 1 + at % 9)
        for at, value in enumerate(history)
        if value is not None
    }
    state = SubjectState(Subject.biller("B1"))
    refold(state, METRIC, known=known, policy=policy)
    state.exclusions = exclusions_of(excluded)
    refold(state, METRIC, known=known, policy=policy)
    never = SeriesModel(METRIC, policy, "biller:B1")
    _, last = fold(never, [one for one in known.values() if not any(a <= one.hour < b for a, b in excluded)], policy)
    assert state.models.record(METRIC.slug) == (never.to_bytes() if never.n_learned else b"")
    assert state.verdicts.get(METRIC.slug) == last


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.dictionaries(st.integers(0, 9), WINDOWS, max_size=5), st.sampled_from([0, 1, 3, 40])),
        min_size=1,
        max_size=4,
    ),
    st.lists(spans(first=FIRST_HOUR - 2, last=FIRST_HOUR + 40), min_size=1, max_size=3),
    st.integers(0, len(POLICIES) - 1),
    st.sampled_from([0, 3, 6]),
    st.booleans(),
)
def test_a_stream_of_which_hours_are_excluded_is_one_that_is_silent_then(
    steps: list[tuple[dict[int, CallWindow], int]],
    excluded: list[tuple[int, int]],
    policy_at: int,
    kind: int,
    is_in_company: bool,
) -> None:
    """The same series and models at every step; both have the same clock, which silence has from elsewhere."""
    policy = POLICIES[policy_at]
    heard, silent = Stored(biller(1, kind, policy_at)(), policy), Stored(biller(1, kind, policy_at)(), policy)
    heard.state.exclusions = exclusions_of(excluded)
    clock_hour = FIRST_HOUR
    for arrived, later in steps:
        clock_hour += later
        windows: dict[int, Window] = {
            clock_hour + at: window
            for at, window in arrived.items()
            if clock_hour + at >= max(heard.state.settled_before, silent.state.settled_before)
        }
        newest = max(windows, default=clock_hour)
        kept = {hour: one for hour, one in windows.items() if not heard.state.exclusions.holds(METRIC.slug, hour)}
        for each, some in ((heard, windows), (silent, kept)):
            each.state.absorb(Arrivals(watermark_ms=newest * HOUR_MS + HOUR_MS // 2, windows=deepcopy(some)))
            if is_in_company:
                close([each.state], newest * HOUR_MS, policy)
            else:
                each.state.learn(policy)
                each.state.publish(newest * HOUR_MS, policy)
        assert heard.state.points == silent.state.points
        assert heard.state.judged == silent.state.judged
        assert heard.state.learned.keys() >= silent.state.learned.keys(), "the history is told of all of them"
        for each in (heard, silent):
            each.write()
        own = str(heard.state.subject) + "}"
        for key in heard.hashes.keys() | silent.hashes.keys():
            if key.endswith((own, "_outbox")):
                continue
            assert heard.hashes[key] == silent.hashes[key], key


def test_a_gauge_is_excluded_and_the_others_of_its_model_are_learned() -> None:
    policy = Policy()
    state = SubjectState(Subject.model("Mistral", "v1"))
    state.exclusions = exclusions_of([(FIRST_HOUR + 5, FIRST_HOUR + 8)], slug="drift")
    for at in range(12):
        window = gauge_window(drift=0.1, bias=0.2)
        state.absorb(Arrivals((FIRST_HOUR + at + 2) * HOUR_MS, windows={FIRST_HOUR + at: window}))
        state.learn(policy)
        state.publish(state.watermark_ms, policy)
    n = {slug: model.n_learned for slug, model in state.models.items()}
    assert n["bias"] - n["drift"] == 3
    assert len(state.learned) == n["bias"]


EXCLUSIONS = st.lists(
    st.builds(
        lambda span, **told: Exclusion(from_hour=span[0], before_hour=span[1], **told),
        spans(first=300_000, last=1_000_000),
        slug=st.sampled_from(SLUGS),
        reason=st.text(max_size=20),
        by=st.text(max_size=20),
        at_ms=st.integers(0, 4_102_444_800_000),
        calendar=st.sampled_from(["", "bank-holidays"]),
        uid=st.text(max_size=5),
    ),
    max_size=5,
).map(lambda found: Exclusions(one if one.calendar else replace(one, uid="") for one in found))


@given(EXCLUSIONS)
def test_exclusions_are_read_as_they_were_written(exclusions: Exclusions) -> None:
    assert load_exclusions(dump_exclusions(exclusions)) == exclusions


@given(EXCLUSIONS, st.integers(299_000, 1_001_000), st.sampled_from(SLUGS[1:]))
def test_an_hour_is_excluded_where_any_exclusion_of_its_series_has_it(
    exclusions: Exclusions, hour: int, slug: str
) -> None:
    for one in (
        hour,
        *(each for found in exclusions for each in (found.from_hour - 1, found.from_hour, found.before_hour)),
    ):
        expected = any(each.from_hour <= one < each.before_hour and each.slug in {None, slug} for each in exclusions)
        assert exclusions.holds(slug, one) == expected


def test_the_minutes_of_an_excluded_hour_teach_nothing_of_what_minutes_are_judged_by() -> None:
    """Spread and noise of each series; where and how far the boundary is, is the forecast's to say."""
    policy = Policy()
    state = SubjectState(Subject.biller("B1"))
    state.exclusions = exclusions_of([(FIRST_HOUR + 60, FIRST_HOUR + 62)])
    learned = []
    for at in range(64):
        hour = FIRST_HOUR + at
        level = 900_000 if at >= 60 else 150_000
        latencies = [level + 10_000 * ((at + call) % 7) * (1 + 9 * (at >= 60)) for call in range(30)]
        minutes: dict[int, Window] = {
            hour * 60 + 45 + each: call_window(*latencies[2 * each : 2 * each + 2]) for each in range(15)
        }
        state.absorb(Arrivals(hour * HOUR_MS + HOUR_MS - 1, windows={hour: call_window(*latencies)}, minutes=minutes))
        close([state], (hour + 1) * HOUR_MS + policy.close_after_ms, policy)
        state.live = live_normals(state, state.live, policy)
        state.settled()
        learned.append({slug: (one.spread, one.noise) for slug, one in state.live.items()})
    assert learned[59] != learned[58], "every other hour teaches"
    assert learned[61] == learned[60] == learned[59]
    assert learned[62] != learned[61]
