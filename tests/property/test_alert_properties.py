"""The life of an alert, over any points whatever."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from detection.catalogue import ERROR_RATE
from detection.hours import HOUR_MS, MINUTE_MS
from detection.rules.alert import Alert, Judged, Transition, advance
from detection.rules.rule import Recovery, Rule, Window
from detection.subject import Subject

NOON_MS = 1_763_726_400_000
SUBJECTS = (Subject.biller("B1"), Subject.model("Mistral", "v1"))


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    n = draw(st.integers(1, 4))
    window = Window(n=n, m=draw(st.integers(n, 6)))
    recovery = Recovery(n=draw(st.integers(1, 4)))
    if draw(st.booleans()):
        return Rule(
            id="r", metric="*", condition="outside threshold", window=window, recovery=recovery, min_count=draw(COUNTS)
        )
    return Rule(id="r", metric="*", condition="higher than", boundary=5.0, window=window, recovery=recovery)


COUNTS = st.integers(1, 4)
SCORES = st.floats(0.0, 1e6, allow_nan=False)


@st.composite
def points(draw: st.DrawFn, *, is_ordered: bool = False) -> list[Judged]:
    """Events, minutes and hours; in the order of time, or anyhow."""
    steps = st.integers(0, 90) if is_ordered else st.integers(-120, 180)
    found = []
    at_ms = NOON_MS
    for _ in range(draw(st.integers(0, 30))):
        at_ms += draw(steps) * MINUTE_MS
        kind = draw(st.sampled_from(["beyond", "clear", "neither"]))
        score = draw(SCORES)
        found.append(
            Judged(
                at_ms=at_ms,
                value=score,
                count=draw(COUNTS),
                boundary=5.0,
                score=1.0 + score if kind == "beyond" else score / 1e6,
                is_beyond=kind == "beyond",
                is_clear=kind == "clear",
                span=draw(st.sampled_from(["event", "minute", "hour"])),
            )
        )
    return found


def told(rule: Rule, subject: Subject, judged: list[Judged]) -> list[Transition]:
    alert: Alert | None = None
    found = []
    for one in judged:
        alert, transition = advance(alert, rule, ERROR_RATE, subject, one)
        if transition is not None:
            found.append(transition)
    return found


@given(rules(), st.sampled_from(SUBJECTS), points())
def test_openings_and_resolutions_take_turns_and_an_opening_is_first(
    rule: Rule, subject: Subject, judged: list[Judged]
) -> None:
    events = [one.event for one in told(rule, subject, judged) if one.event != "worse"]
    assert events == ["opened", "resolved"] * (len(events) // 2) + ["opened"] * (len(events) % 2)


@given(rules(), st.sampled_from(SUBJECTS), points())
def test_worse_is_told_only_while_open_and_each_time_of_a_higher_score(
    rule: Rule, subject: Subject, judged: list[Judged]
) -> None:
    for before, after in pairwise(told(rule, subject, judged)):
        if after.event == "worse":
            assert before.event in {"opened", "worse"}
            assert after.alert.told > before.alert.told
            assert after.alert.id == before.alert.id


@given(rules(), st.sampled_from(SUBJECTS), points())
def test_no_alert_is_over_before_it_began(rule: Rule, subject: Subject, judged: list[Judged]) -> None:
    for one in told(rule, subject, judged):
        alert = one.alert
        assert alert.opened_ms is not None
        assert alert.since_ms <= alert.opened_ms <= one.at_ms
        assert (alert.resolved_ms is not None) == (alert.state == "resolved")


@given(rules(), st.sampled_from(SUBJECTS), points(is_ordered=True))
def test_no_two_alerts_have_one_id(rule: Rule, subject: Subject, judged: list[Judged]) -> None:
    ids = [one.alert.id for one in told(rule, subject, judged) if one.event == "opened"]
    assert len(set(ids)) == len(ids)


@given(rules(), st.sampled_from(SUBJECTS), points(), COUNTS)
def test_a_point_without_evidence_changes_nothing(
    rule: Rule, subject: Subject, judged: list[Judged], count: int
) -> None:
    rule = replace_min_count(rule)
    alert: Alert | None = None
    for one in judged:
        silent = replace(one, span="minute", is_beyond=False, is_clear=False)
        assert advance(alert, rule, ERROR_RATE, subject, silent) == (alert, None)
        rare = replace(one, count=rule.min_count - 1)
        assert advance(alert, rule, ERROR_RATE, subject, rare) == (alert, None)
        alert, _ = advance(alert, rule, ERROR_RATE, subject, one)


def replace_min_count(rule: Rule) -> Rule:
    """The rule, for billers, with a least count that can be missed."""
    return Rule(
        id="r",
        kind="biller",
        metric="*",
        condition=rule.condition,
        boundary=rule.boundary,
        window=rule.window,
        recovery=rule.recovery,
        min_count=2,
    )


@given(st.integers(1, 5), st.integers(0, 5), st.lists(st.booleans(), max_size=60))
def test_it_opens_at_exactly_the_point_that_is_the_nth_beyond_of_the_last_m(
    n: int, more: int, beyond: list[bool]
) -> None:
    rule = Rule(id="r", metric="*", condition="higher than", boundary=5.0, window=Window(n=n, m=n + more))
    opened = [one.at_ms for one in told(rule, SUBJECTS[1], events(beyond)) if one.event == "opened"]
    expected = next(
        (
            at
            for at in range(len(beyond))
            if beyond[at] and sum(beyond[max(at - n - more + 1, 0) :][: min(at + 1, n + more)]) >= n
        ),
        None,
    )
    assert opened[:1] == ([] if expected is None else [NOON_MS + expected * MINUTE_MS])


@given(st.integers(1, 5), st.lists(st.booleans(), max_size=60))
def test_it_resolves_at_exactly_the_nth_clear_point_in_a_row(n: int, clear: list[bool]) -> None:
    rule = Rule(id="r", metric="*", condition="higher than", boundary=5.0, recovery=Recovery(n=n))
    resolved = [
        one.at_ms
        for one in told(rule, SUBJECTS[1], events([True, *(not one for one in clear)]))
        if one.event == "resolved"
    ]
    expected = next((at for at in range(n, len(clear) + 1) if all(clear[at - n : at])), None)
    assert resolved[:1] == ([] if expected is None else [NOON_MS + expected * MINUTE_MS])


def events(beyond: list[bool]) -> list[Judged]:
    return [
        Judged(NOON_MS + at * MINUTE_MS, 6.0, 1, 5.0, 1.2 if is_beyond else 0.5, is_beyond, not is_beyond)
        for at, is_beyond in enumerate(beyond)
    ]


@given(rules(), points())
def test_what_is_remembered_of_a_resolved_alert_is_forgotten_with_the_next_clear_point_hours_later(
    rule: Rule, judged: list[Judged]
) -> None:
    alert: Alert | None = None
    for one in judged:
        alert, _ = advance(alert, rule, ERROR_RATE, SUBJECTS[0], one)
        if alert is not None and alert.resolved_ms is not None:
            later = Judged(alert.resolved_ms + 3 * HOUR_MS, 1.0, 9, 5.0, 0.2, is_beyond=False, is_clear=True)
            assert advance(alert, rule, ERROR_RATE, SUBJECTS[0], later) == (None, None)
