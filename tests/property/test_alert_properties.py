"""The life of an alert, over any points whatever."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st

from detection.catalogue import ERROR_RATE
from detection.hours import HOUR_MS, MINUTE_MS
from detection.rules.alert import Alert, Judged, Span, Transition, advance
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
        after, transition = advance(alert, rule, ERROR_RATE, subject, rare)
        assert transition is None
        # An hour that counts already counts as it is judged last: no longer at all.
        is_taken_back = alert is not None and one.span == "hour" and alert.last_hour_ms == one.at_ms
        assert after == alert or is_taken_back
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


@st.composite
def closed_hours(draw: st.DrawFn, *, with_minutes: bool) -> list[Judged]:
    """Hours of one series, each once and in the order of time; between them minutes."""
    found = []
    for at in range(1, draw(st.integers(1, 14))):
        end_ms = NOON_MS + at * HOUR_MS
        if with_minutes:
            minutes = draw(st.lists(st.integers(1, 59), max_size=4, unique=True).map(sorted))
            found += [draw(verdicts(end_ms - HOUR_MS + minute * MINUTE_MS, "minute")) for minute in minutes]
        found.append(draw(verdicts(end_ms, "hour")))
    return found


@st.composite
def verdicts(draw: st.DrawFn, at_ms: int, span: Span) -> Judged:
    kind = draw(st.sampled_from(["beyond", "beyond", "clear", "neither"]))
    score = draw(st.floats(0.0, 10.0, allow_nan=False))
    return Judged(
        at_ms=at_ms,
        value=score,
        count=draw(COUNTS),
        boundary=5.0,
        score=1.0 + score if kind == "beyond" else score / 20.0,
        is_beyond=kind == "beyond",
        is_clear=kind == "clear",
        span=span,
        detail={"score": score},
    )


def follow(
    alert: Alert | None, rule: Rule, subject: Subject, judged: list[Judged]
) -> tuple[Alert | None, list[Transition]]:
    found = []
    for one in judged:
        alert, transition = advance(alert, rule, ERROR_RATE, subject, one)
        found += [] if transition is None else [transition]
    return alert, found


@given(rules(), st.sampled_from(SUBJECTS), closed_hours(with_minutes=True), st.data())
def test_an_hour_that_is_judged_several_times_counts_once(
    rule: Rule, subject: Subject, judged: list[Judged], data: st.DataObject
) -> None:
    once: Alert | None = None
    often: Alert | None = None
    for one in judged:
        times = data.draw(st.integers(1, 4)) if one.span == "hour" else 1
        once, told_once = follow(once, rule, subject, [one])
        often, told_often = follow(often, rule, subject, [one] * times)
        assert (often, told_often) == (once, told_once)


@given(rules(), closed_hours(with_minutes=False), st.data())
def test_a_corrected_hour_of_a_model_counts_as_it_was_judged_last(
    rule: Rule, judged: list[Judged], data: st.DataObject
) -> None:
    once: Alert | None = None
    corrected: Alert | None = None
    assume(rule.window.size > 1 or rule.recovery.n > 1)
    for one in judged:
        earlier = data.draw(st.lists(verdicts(one.at_ms, "hour"), max_size=3))
        known, told_early = follow(corrected, rule, SUBJECTS[1], earlier)
        if told_early:
            # What people were told cannot be taken back.
            known = corrected
        once, told_once = follow(once, rule, SUBJECTS[1], [one])
        corrected, told_corrected = follow(known, rule, SUBJECTS[1], [one])
        assert told_corrected == told_once
        assert what_counts(corrected, one.at_ms) == what_counts(once, one.at_ms)


def what_counts(alert: Alert | None, at_ms: int) -> Alert | None:
    """What can make a difference to this hour and later ones; earlier ones are not judged again."""
    if alert is None:
        return None
    is_over = alert.resolved_ms is not None and alert.resolved_ms < at_ms
    is_forgotten = alert.state == "pending" and "1" not in alert.recent and alert.last_ms < at_ms
    if is_over or is_forgotten:
        return None
    return replace(alert, before=alert.before if alert.last_hour_ms == at_ms else None)


@given(rules(), closed_hours(with_minutes=True), st.data())
def test_an_hour_that_comes_again_behind_later_minutes_neither_counts_again_nor_breaks_their_row(
    rule: Rule, judged: list[Judged], data: st.DataObject
) -> None:
    alert: Alert | None = None
    last: Judged | None = None
    for one in judged:
        alert, _ = advance(alert, rule, ERROR_RATE, SUBJECTS[0], one)
        if one.span == "hour":
            last = one
        elif last is not None and alert is not None and alert.last_hour_ms == last.at_ms and data.draw(st.booleans()):
            again, transition = advance(alert, rule, ERROR_RATE, SUBJECTS[0], last)
            assert again is not None
            assert transition is None or transition.event == "worse"
            assert (again.state, again.recent, again.n_clear) == (alert.state, alert.recent, alert.n_clear)
            alert = again
