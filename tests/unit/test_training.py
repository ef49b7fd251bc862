"""Which rows of a data set are new, and what training with them leads to."""

import pytest

from detection.backtest import backtest
from detection.catalogue import AVERAGE_RESPONSE_TIME, ERROR_RATE, TIMEOUT_ERROR_RATE, Metric, gauge
from detection.errors import InvalidRowError
from detection.estimate import Scored
from detection.events import MAX_GAUGE, MAX_LATENCY_MS, CallEvent
from detection.exclusions import NOTHING_EXCLUDED, Exclusion, Exclusions
from detection.policy import Policy
from detection.rows import Observation, Row, checked_row, checked_value
from detection.series_model import SeriesModel
from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.training import Sifted, first_open, fold, n_missing, refold, rows_of_calls, sift, train
from detection.windows import CallWindow

POLICY = Policy()
METRIC = AVERAGE_RESPONSE_TIME
START = 490_000
NOTHING: dict[int, Observation] = {}


def rows(count: int, *, start: int = START) -> list[Row]:
    return [Row(at + 1, start + at, 100.0 + 17.0 * ((start + at) % 24), 60) for at in range(count)]


def known_of(some: list[Row]) -> dict[int, Observation]:
    return {row.hour: row.observation() for row in some}


def sifted(some: list[Row], known: dict[int, Observation] = NOTHING, model: SeriesModel | None = None) -> Sifted:
    return sift(some, known=known, model=model, open_from=START + 1000, closed_before=START + 2000)


def trained(
    some: list[Row], known: dict[int, Observation] = NOTHING, state: SubjectState | None = None
) -> SubjectState:
    state = state or SubjectState(Subject.biller("B1"))
    train(state, METRIC, known=known, added=some, anew=False, policy=POLICY)
    return state


def test_a_row_that_is_known_with_the_same_value_is_a_duplicate() -> None:
    some = rows(3)
    found = sifted(some, known_of(some))
    assert (found.accepted, found.duplicates, found.rejected) == ([], some, [])


def test_a_row_without_a_count_matches_what_is_known_by_its_value() -> None:
    found = sifted([Row(1, START, 5.0, None)], {START: Observation(START, 5.0, 77)})
    assert (found.accepted, len(found.duplicates)) == ([], 1)


@pytest.mark.parametrize(("value", "count", "field"), [(5.1, 77, "value"), (5.0, 78, "count")])
def test_a_row_that_is_known_otherwise_is_rejected_with_what_is_known(value: float, count: int, field: str) -> None:
    found = sifted([Row(1, START, value, count)], {START: Observation(START, 5.0, 77)})
    assert found.accepted == []
    assert (found.rejected[0].row, found.rejected[0].field) == (1, field)
    assert "5.0 of 77" in found.rejected[0].reason


def test_two_rows_of_one_hour_are_a_duplicate_or_a_contradiction() -> None:
    found = sifted([Row(1, START, 5.0, 1), Row(2, START, 5.0, 1), Row(3, START, 6.0, 1)])
    assert [row.row for row in found.accepted] == [1]
    assert [row.row for row in found.duplicates] == [2]
    assert [one.row for one in found.rejected] == [3]


def test_rows_of_open_windows_and_of_hours_that_are_not_over_are_rejected() -> None:
    found = sifted([Row(1, START + 999, 1.0, 1), Row(2, START + 1000, 1.0, 1), Row(3, START + 2000, 1.0, 1)])
    assert [row.row for row in found.accepted] == [1]
    assert [(one.row, one.reason) for one in found.rejected] == [
        (2, "its window is still open for live events"),
        (3, "its hour is not over yet"),
    ]


def test_windows_are_open_from_the_first_hour_that_live_events_may_still_change() -> None:
    silent = SubjectState(Subject.biller("B1"))
    assert first_open(silent, closed_before=START, policy=POLICY) == START
    live = SubjectState(Subject.biller("B1"), watermark_ms=START * 3_600_000 + 60_000)
    assert first_open(live, closed_before=START, policy=POLICY) == START - 1
    live.windows[START - 9] = CallWindow(calls=1)
    assert first_open(live, closed_before=START, policy=POLICY) == START - 9


def test_older_rows_are_rejected_where_the_history_has_lost_what_the_model_learned() -> None:
    everything = rows(60)
    model = trained(everything).models[METRIC.slug]
    found = sifted([Row(1, START - 5, 1.0, 1), Row(2, START + 70, 1.0, 1)], known_of(everything[30:]), model)
    assert [row.row for row in found.accepted] == [2]
    assert "no longer holds" in found.rejected[0].reason


def test_training_equals_the_fold_of_the_same_rows() -> None:
    some = rows(100)
    model = SeriesModel(METRIC, POLICY)
    for row in some:
        model.learn(row.hour, row.value, 60, POLICY)
    state = trained(some)
    assert state.models[METRIC.slug].to_state() == model.to_state()
    assert state.verdicts[METRIC.slug].hour == some[-1].hour
    assert state.is_outdated
    assert state.changed == {METRIC.slug}


def test_training_with_nothing_new_changes_nothing() -> None:
    some = rows(100)
    state = trained(some)
    before = state.models[METRIC.slug]
    state.settled()
    state.is_outdated = False
    done = train(state, METRIC, known=known_of(some), added=[], anew=False, policy=POLICY)
    assert not done.is_changed
    assert state.models[METRIC.slug] is before
    assert not state.changed
    assert not state.is_outdated


def test_rows_that_a_crash_left_in_the_history_only_are_folded_in() -> None:
    some = rows(100)
    whole = trained(some).models[METRIC.slug].to_state()
    for learned in (some[:60], some[60:], some[::2]):
        state = trained(learned)
        trained([], known_of(some), state)
        assert state.models[METRIC.slug].to_state() == whole


def test_folding_anew_the_same_rows_changes_nothing() -> None:
    some = rows(60)
    state = trained(some)
    assert not train(state, METRIC, known={}, added=some, anew=True, policy=POLICY).is_changed
    assert train(state, METRIC, known={}, added=some[:50], anew=True, policy=POLICY).is_changed
    assert state.models[METRIC.slug].n_learned == 50


def test_the_tally_is_that_of_the_verdicts() -> None:
    observations = [row.observation() for row in rows(200)]
    tally, last = fold(SeriesModel(METRIC, POLICY), observations, POLICY)
    judged = [one.verdict for one in backtest(METRIC, observations, POLICY) if isinstance(one.verdict, Scored)]
    assert last == judged[-1]
    assert tally.hours == len(judged) == 152
    assert tally.exceedance == sum(one.is_exceeded for one in judged) / 152
    gaps = [one.value - one.threshold for one in judged]
    assert tally.pinball == pytest.approx(sum(max(0.99 * gap, -0.01 * gap) for gap in gaps) / 152)
    # The series repeats itself every day, so naive makes no error and skill has no meaning.
    assert tally.skill is None


def test_a_gauge_is_taken_as_0_or_more_until_a_negative_value_is_seen() -> None:
    values = [1.0, 2.0, 1.5, -4.0, 2.0, 1.0]
    observations = [Observation(START + at, value, 1) for at, value in enumerate(values)]
    found = list(backtest(gauge("depth"), observations, POLICY))
    assert all(one.forecast.estimate.lower >= 0.0 for one in found[1:4])
    unbounded = SeriesModel(gauge("depth"), POLICY)
    for one in observations[:5]:
        unbounded.learn(one.hour, one.value, one.count, POLICY)
    assert found[5].forecast == unbounded.forecast(START + 5, POLICY)


def test_calls_are_counted_to_hours_as_live_ones_are() -> None:
    calls = [
        (1, CallEvent("B1", START * 3_600_000, 100.0004, "ok")),
        (2, CallEvent("B1", START * 3_600_000 + 5, 300.0, "error")),
        (3, CallEvent("B1", START * 3_600_000 + 3_599_999, 9.0, "timeout")),
        (4, CallEvent("B1", (START + 1) * 3_600_000, 7.0, None, 503)),
    ]
    assert rows_of_calls(calls, METRIC) == [Row(1, START, 200.0, 2), Row(4, START + 1, 7.0, 1)]
    assert rows_of_calls(calls, ERROR_RATE) == [Row(1, START, 100.0 / 3.0, 3), Row(4, START + 1, 100.0, 1)]
    assert rows_of_calls(calls, TIMEOUT_ERROR_RATE) == [Row(1, START, 100.0 / 3.0, 3), Row(4, START + 1, 0.0, 1)]


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("timestamp", None),
        ("timestamp", ""),
        ("timestamp", "yesterday"),
        ("timestamp", "2026-03-02T12:00:00"),
        ("timestamp", 1_763_755_200),
        ("timestamp", True),
        ("timestamp", 1.5e12),
        ("value", None),
        ("value", "many"),
        ("value", "nan"),
        ("value", "inf"),
        ("value", True),
        ("value", []),
        ("value", 10**400),
        ("value", -1.0),
        ("value", 1e308),
        ("value", "3600000.5"),
        ("timestamp", [[]]),
        ("count", {"a": []}),
        ("count", 0),
        ("count", 1.5),
        ("count", "-3"),
        ("count", False),
    ],
)
def test_a_row_that_cannot_be_read_names_its_field(field: str, given: object) -> None:
    good: dict[str, object] = {"timestamp": "2026-03-02T12:10:00Z", "value": "1.5", "count": "3"}
    assert checked_row(7, **good, metric=METRIC) == Row(7, 492_348, 1.5, 3)
    with pytest.raises(InvalidRowError) as refused:
        checked_row(7, **(good | {field: given}), metric=METRIC)
    assert (refused.value.row, refused.value.field) == (7, field)


@pytest.mark.parametrize("metric", [gauge("drift"), gauge("prediction_accuracy")])
def test_a_row_of_a_gauge_has_the_limits_of_a_live_observation(metric: Metric) -> None:
    for value in (MAX_GAUGE, -MAX_GAUGE):
        assert checked_value(1, value, metric) == value
        with pytest.raises(InvalidRowError, match=r"at least -1e\+15 and at most 1e\+15"):
            checked_value(1, value * 1.001, metric)


def test_a_row_of_a_response_time_has_the_limits_of_a_live_call() -> None:
    assert checked_value(1, MAX_LATENCY_MS, METRIC) == MAX_LATENCY_MS
    with pytest.raises(InvalidRowError, match="at least 0 and at most 3600000 ms"):
        checked_value(1, MAX_LATENCY_MS * 1.001, METRIC)


def test_a_rate_above_100_percent_is_refused() -> None:
    with pytest.raises(InvalidRowError, match="at least 0 and at most 100 %"):
        checked_row(1, timestamp="2026-03-02T12:10:00Z", value=100.5, count=None, metric=ERROR_RATE)


def excluding(*hours: int, slug: str | None = None) -> Exclusions:
    return Exclusions(Exclusion(from_hour=hour, before_hour=hour + 1, slug=slug) for hour in hours)


def test_folding_without_excluded_hours_gives_the_very_state_that_never_saw_them() -> None:
    some = rows(300)
    hours = [START + at for at in (100, 101, 102, 250)]
    state = trained(some)
    never = trained([row for row in some if row.hour not in hours])
    assert state.models[METRIC.slug].to_bytes() != never.models[METRIC.slug].to_bytes()
    state.exclusions = excluding(*hours)
    result = refold(state, METRIC, known=known_of(some), policy=POLICY)
    assert result.is_changed
    assert state.models[METRIC.slug].to_bytes() == never.models[METRIC.slug].to_bytes()
    assert state.verdicts == never.verdicts
    assert METRIC.slug in state.changed


def test_folding_again_with_what_was_excluded_gives_the_state_from_before() -> None:
    some = rows(300)
    state, before = trained(some), trained(some)
    for exclusions in (excluding(START + 100, START + 299), NOTHING_EXCLUDED):
        state.exclusions = exclusions
        assert refold(state, METRIC, known=known_of(some), policy=POLICY).is_changed
    assert state.models[METRIC.slug].to_bytes() == before.models[METRIC.slug].to_bytes()
    assert state.verdicts == before.verdicts


def test_excluding_what_was_never_seen_changes_no_model() -> None:
    some = rows(60)
    state = trained(some)
    before = state.models[METRIC.slug].to_bytes()
    state.exclusions = Exclusions([*excluding(START - 5), *excluding(START + 5, slug=ERROR_RATE.slug)])
    assert not refold(state, METRIC, known=known_of(some), policy=POLICY).is_changed
    assert state.models[METRIC.slug].to_bytes() == before


def test_excluding_everything_leaves_a_series_of_which_nothing_is_known() -> None:
    some = rows(60)
    state = trained(some)
    state.exclusions = Exclusions([Exclusion(from_hour=START, before_hour=START + 60)])
    assert refold(state, METRIC, known=known_of(some), policy=POLICY).is_changed
    assert METRIC.slug not in state.models
    assert state.models.record(METRIC.slug) == b""
    assert METRIC.slug not in state.verdicts


def test_training_learns_no_excluded_hour_and_sees_that_nothing_of_the_others_is_missing() -> None:
    some = rows(300)
    hours = [START + at for at in (100, 101, 102, 250)]
    state, never = SubjectState(Subject.biller("B1")), trained([row for row in some if row.hour not in hours])
    state.exclusions = excluding(*hours)
    trained(some[:200], state=state)
    found = sift(
        [*some[190:], Row(999, START - 9, 5.0, 1)],
        known=known_of(some[:200]),
        model=state.models[METRIC.slug],
        open_from=START + 1000,
        closed_before=START + 2000,
        exclusions=state.exclusions,
    )
    assert (len(found.accepted), len(found.duplicates), found.rejected) == (101, 10, [])
    trained(some[200:], known_of(some[:200]), state)
    assert state.models[METRIC.slug].to_bytes() == never.models[METRIC.slug].to_bytes()
    assert n_missing(state, METRIC, known_of(some)) == 0


def test_what_was_learned_and_is_not_known_any_more_is_missing() -> None:
    some = rows(300)
    state = trained(some)
    state.exclusions = excluding(START)
    assert n_missing(trained(some), METRIC, known_of(some[24:])) == 24
    assert n_missing(state, METRIC, known_of(some)) == 1, (
        "that it was learned although it is excluded is a contradiction"
    )
    assert n_missing(state, ERROR_RATE, NOTHING) == 0
