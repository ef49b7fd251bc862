"""What becomes of an alert, point by point."""

from dataclasses import replace

import pytest

from detection.catalogue import ERROR_RATE, gauge
from detection.hours import HOUR_MS, MINUTE_MS, iso
from detection.rules.alert import Alert, Judged, Span, Transition, acknowledge, advance, bar, end, give_opinion
from detection.rules.rule import Recovery, Rule, Window
from detection.subject import Subject

NOON = 1_763_726_400_000
MISTRAL, B1 = Subject.model("Mistral", "v1"), Subject.biller("B1")
LOW = Rule(id="low", metric="prediction_accuracy", condition="lower than", boundary=0.3)
LEARNED = Rule(id="learned", metric="*", condition="outside threshold", recovery=Recovery(n=3))
ACCURACY = gauge("prediction_accuracy")


class Life:
    """One rule and one series."""

    def __init__(self, rule: Rule, subject: Subject = MISTRAL) -> None:
        self.rule, self.subject = rule, subject
        self.alert: Alert | None = None
        self.told: list[Transition] = []

    def see(self, judged: Judged, *, bar: float = 1.0) -> "Life":
        metric = ERROR_RATE if self.subject.kind == "biller" else ACCURACY
        self.alert, transition = advance(self.alert, self.rule, metric, self.subject, judged, bar=bar)
        if transition is not None:
            self.told.append(transition)
        return self

    @property
    def events(self) -> list[str]:
        return [one.event for one in self.told]

    @property
    def open(self) -> Alert:
        assert self.alert is not None
        assert self.alert.state == "open"
        return self.alert


def beyond(minute: float, score: float = 1.2, *, span: Span = "event", count: int = 9) -> Judged:
    return Judged(NOON + round(minute * MINUTE_MS), 0.2, count, 0.3, score, is_beyond=True, is_clear=False, span=span)


def clear(minute: float, *, span: Span = "event", count: int = 9) -> Judged:
    return Judged(NOON + round(minute * MINUTE_MS), 0.8, count, 0.3, 0.1, is_beyond=False, is_clear=True, span=span)


def neither(minute: float, *, span: Span = "event") -> Judged:
    return replace(clear(minute, span=span), is_clear=False)


def test_one_point_beyond_opens_one_alert_and_one_clear_point_resolves_it() -> None:
    life = Life(LOW).see(clear(0)).see(beyond(1)).see(beyond(2)).see(beyond(3)).see(clear(4)).see(clear(5))
    assert life.events == ["opened", "resolved"]
    assert [one.at_ms for one in life.told] == [NOON + MINUTE_MS, NOON + 4 * MINUTE_MS]
    assert life.told[0].alert.id == life.told[1].alert.id


def test_an_alert_is_named_after_its_series_its_rule_and_its_first_point() -> None:
    life = Life(replace_window(LOW, 2, 3)).see(beyond(1)).see(clear(2)).see(beyond(3))
    assert life.open.id == f"model:Mistral/v1/prediction-accuracy/low/{iso(NOON + MINUTE_MS)}"
    assert (life.open.since_ms, life.open.opened_ms) == (NOON + MINUTE_MS, NOON + 3 * MINUTE_MS)


def replace_window(rule: Rule, n: int, m: int) -> Rule:
    return Rule(
        id=rule.id, metric=rule.metric, condition=rule.condition, boundary=rule.boundary, window=Window(n=n, m=m)
    )


def test_a_run_that_comes_to_nothing_is_forgotten_and_begins_anew() -> None:
    life = Life(replace_window(LOW, 2, 3)).see(beyond(1)).see(clear(2)).see(clear(3)).see(clear(4))
    assert (life.alert, life.told) == (None, [])
    life.see(beyond(5)).see(beyond(6))
    assert life.open.since_ms == NOON + 5 * MINUTE_MS


def test_alerts_that_begin_at_one_instant_have_names_of_their_own() -> None:
    life = Life(LOW).see(beyond(1)).see(clear(1)).see(beyond(1)).see(clear(1)).see(beyond(1))
    assert life.events == ["opened", "resolved", "opened", "resolved", "opened"]
    assert len({one.alert.id for one in life.told}) == 3
    assert life.open.id.endswith("/2")


def test_it_is_told_again_only_when_it_is_much_worse_than_what_was_told() -> None:
    life = Life(LOW).see(beyond(1, 1.1))
    for minute, score in enumerate((1.15, 1.3, 1.5, 1.51, 1.6, 2.0, 2.02, 2.03, 9.0, 9.0, 5.0), start=2):
        life.see(beyond(minute, score))
    assert [(one.event, one.alert.told) for one in life.told] == [
        ("opened", 1.1),
        ("worse", 1.51),
        ("worse", 2.03),
        ("worse", 9.0),
    ]
    assert (life.open.worst, life.open.score) == (9.0, 5.0)


def test_a_value_between_boundary_and_recovery_neither_resolves_nor_counts_as_clear() -> None:
    rule = Rule(id="low", metric="x", condition="lower than", boundary=0.3, recovery=Recovery(value=0.4, n=2))
    life = Life(rule).see(beyond(1)).see(clear(2)).see(neither(3)).see(clear(4))
    assert life.open.n_clear == 1
    assert life.see(clear(5)).events == ["opened", "resolved"]


def test_a_minute_that_says_nothing_does_not_break_a_row_of_clear_ones() -> None:
    life = Life(LEARNED, B1).see(beyond(1, span="minute"))
    for minute in (2, 3, 4):
        life.see(clear(minute, span="minute")).see(neither(minute + 0.5, span="minute"))
    assert life.events == ["opened", "resolved"]


def test_a_point_with_fewer_calls_than_the_rule_asks_for_neither_opens_nor_resolves() -> None:
    rule = Rule(id="learned", metric="*", condition="outside threshold", min_count=5)
    life = Life(rule, B1).see(beyond(1, count=4))
    assert life.alert is None
    life.see(beyond(2, count=5)).see(clear(3, count=4))
    assert life.events == ["opened"]
    assert life.see(clear(4, count=5)).events == ["opened", "resolved"]


def test_a_clear_hour_of_a_biller_speaks_for_all_of_its_minutes() -> None:
    life = Life(LEARNED, B1).see(beyond(1, span="minute")).see(clear(60, span="hour"))
    assert life.events == ["opened"]
    assert life.see(clear(180, span="hour")).events == ["opened", "resolved"]


def test_of_a_model_as_many_hours_must_be_clear_as_the_rule_says() -> None:
    life = Life(LEARNED).see(beyond(60, span="hour")).see(clear(120, span="hour")).see(clear(180, span="hour"))
    assert life.events == ["opened"]
    assert life.see(clear(240, span="hour")).events == ["opened", "resolved"]


def test_an_hour_that_began_before_it_opened_says_nothing_of_it() -> None:
    life = Life(LEARNED, B1).see(beyond(30, span="minute")).see(clear(31, span="minute")).see(clear(32, span="minute"))
    life.see(beyond(60, 9.0, span="hour"))
    assert (life.events, life.open.n_clear) == (["opened"], 2)


def test_the_hour_of_a_resolved_alert_does_not_open_it_again() -> None:
    life = Life(LEARNED, B1).see(beyond(10, span="minute"))
    for minute in (11, 12, 13):
        life.see(clear(minute, span="minute"))
    assert life.see(beyond(60, span="hour")).events == ["opened", "resolved"]
    assert life.see(beyond(120, span="hour")).events == ["opened", "resolved", "opened"]


def test_an_hour_and_its_own_minutes_are_not_counted_twice() -> None:
    rule = Rule(id="learned", metric="*", condition="outside threshold", window=Window(n=2, m=3))
    life = Life(rule, B1).see(beyond(30, span="minute")).see(beyond(60, span="hour"))
    assert life.events == []
    assert life.see(beyond(120, span="hour")).events == ["opened"]


def test_a_late_clear_event_does_not_resolve_what_opened_after_it() -> None:
    life = Life(LOW).see(beyond(10)).see(clear(9))
    assert life.events == ["opened"]
    assert life.see(clear(10)).events == ["opened", "resolved"]


def test_a_late_clear_event_from_before_it_opened_does_not_count() -> None:
    life = Life(replace_window(LOW, 2, 3)).see(beyond(8)).see(beyond(10)).see(clear(9))
    assert life.events == ["opened"]


def test_a_late_event_does_not_open_again_what_is_resolved() -> None:
    life = Life(LOW).see(beyond(10)).see(clear(12)).see(beyond(11))
    assert life.events == ["opened", "resolved"]
    assert life.see(beyond(13)).events == ["opened", "resolved", "opened"]


def test_a_resolved_alert_is_forgotten_when_no_hour_of_it_can_come_any_more() -> None:
    life = Life(LOW).see(beyond(10)).see(clear(12)).see(clear(60))
    assert life.alert is not None
    assert life.see(clear(12 + 180)).alert is None


def test_opinions_raise_the_bar_of_a_learned_boundary_only() -> None:
    assert [bar(count) for count in (-3, 0, 1, 2, 99)] == [1.0, 1.0, 1.25, 1.5625, 3.0]
    assert Life(LEARNED).see(beyond(60, 1.2, span="hour"), bar=1.25).alert is None
    assert Life(LEARNED).see(beyond(60, 1.3, span="hour"), bar=1.25).events == ["opened"]
    assert Life(LOW).see(beyond(1, 1.2), bar=1.25).events == ["opened"]


def test_beyond_its_boundary_but_below_the_bar_an_alert_stays_open() -> None:
    life = Life(LEARNED).see(beyond(60, 2.0, span="hour"), bar=1.5)
    for hour in range(2, 9):
        life.see(beyond(60 * hour, 1.2, span="hour"), bar=1.5)
    assert life.events == ["opened"]


def test_a_minute_that_is_beyond_but_below_the_bar_breaks_a_row_of_clear_ones() -> None:
    life = Life(LEARNED, B1).see(beyond(1, 2.0, span="minute"), bar=1.5)
    life.see(clear(2, span="minute")).see(clear(3, span="minute")).see(beyond(4, 1.2, span="minute"), bar=1.5)
    assert life.see(clear(5, span="minute")).events == ["opened"]


def test_a_score_that_is_no_number_opens_nothing_that_was_learned() -> None:
    assert Life(LEARNED).see(beyond(60, float("nan"), span="hour")).alert is None


def test_people_who_take_it_on_or_judge_it_change_nothing_else() -> None:
    alert = Life(LOW).see(beyond(1)).open
    taken, transition = acknowledge(alert, by="kim", at_ms=NOON)
    assert (taken.acknowledged_by, taken.acknowledged_ms, transition.event) == ("kim", NOON, "acknowledged")
    judged, transition = give_opinion(taken, "false", at_ms=NOON)
    assert (judged.opinion, transition.event, judged.id) == ("false", "feedback", alert.id)
    life = Life(LOW)
    life.alert = judged
    assert life.see(beyond(2, 1.3)).see(clear(3)).told[-1].alert.acknowledged_by == "kim"


def test_only_an_open_alert_can_be_ended() -> None:
    alert = Life(LOW).see(beyond(1)).open
    ended = end(alert, at_ms=NOON + HOUR_MS)
    assert ended is not None
    assert (ended.event, ended.alert.state, ended.alert.resolved_ms) == ("resolved", "resolved", NOON + HOUR_MS)
    assert end(replace(alert, state="pending", opened_ms=None), at_ms=NOON) is None


@pytest.mark.parametrize(("boundary", "shown"), [(0.3, "0.3"), (1234567.0, "1234567"), (0.1 + 0.2, "0.3")])
def test_the_line_shows_a_boundary_as_it_was_written(boundary: float, shown: str) -> None:
    alert = replace(Life(LOW).see(beyond(1)).open, boundary=boundary, detail={"name": "Mistral", "version": "v1"})
    assert alert.line == f"ALERT prediction_accuracy lower than {shown}, {{'name': 'Mistral', 'version': 'v1'}}"


def test_a_text_in_an_alert_cannot_begin_a_line_of_its_own() -> None:
    alert = replace(Life(LOW).see(beyond(1)).open, detail={"labels": "x\nALERT forged"})
    assert "\n" not in alert.line


TWO_OF_THREE = Rule(
    id="learned", metric="*", condition="outside threshold", window=Window(n=2, m=3), recovery=Recovery(n=2)
)


def test_an_hour_that_is_judged_again_opens_nothing_that_it_did_not_open_the_first_time() -> None:
    rule = Rule(id="learned", metric="*", condition="outside threshold", window=Window(n=3, m=5))
    life = Life(rule)
    for hour in (1, 2, 2, 2):
        life.see(beyond(60 * hour, span="hour"))
    assert life.events == []
    assert life.see(beyond(180, span="hour")).events == ["opened"]


def test_a_clear_hour_of_a_model_that_is_judged_again_is_one_of_those_that_end_an_alert() -> None:
    life = Life(LEARNED).see(beyond(60, span="hour"))
    for hour in (2, 2, 3, 3):
        life.see(clear(60 * hour, span="hour"))
    assert (life.events, life.open.n_clear) == (["opened"], 2)
    assert life.see(clear(240, span="hour")).events == ["opened", "resolved"]


def test_a_corrected_hour_takes_the_place_of_what_it_was_judged_before() -> None:
    life = Life(TWO_OF_THREE).see(beyond(60, 1.2, span="hour")).see(clear(120, span="hour"))
    assert life.see(beyond(120, span="hour")).events == ["opened"]
    life = Life(TWO_OF_THREE).see(beyond(60, 9.0, span="hour")).see(clear(60, span="hour"))
    assert life.alert is None
    life.see(beyond(120, 1.2, span="hour")).see(neither(120, span="hour")).see(beyond(180, span="hour"))
    assert life.events == []
    assert life.see(beyond(240, span="hour")).open.worst == 1.2


def test_what_an_alert_began_with_is_known_when_the_hour_that_it_was_forgotten_by_is_corrected() -> None:
    rule = Rule(id="learned", metric="*", condition="outside threshold", window=Window(n=2, m=2))
    life = Life(rule).see(beyond(60, span="hour")).see(clear(120, span="hour")).see(clear(180, span="hour"))
    assert life.see(beyond(180, span="hour")).events == []
    assert life.see(beyond(240, span="hour")).open.since_ms == NOON + HOUR_MS


def test_a_corrected_hour_takes_back_nothing_that_people_were_told_or_have_done() -> None:
    life = Life(LEARNED).see(beyond(60, 1.2, span="hour")).see(beyond(120, 9.0, span="hour"))
    taken, _ = acknowledge(life.open, by="kim", at_ms=NOON + 121 * MINUTE_MS)
    life.alert = taken
    life.see(beyond(120, 1.3, span="hour")).see(beyond(120, 9.0, span="hour"))
    assert life.events == ["opened", "worse"]
    assert (life.open.told, life.open.worst, life.open.acknowledged_by) == (9.0, 9.0, "kim")


def test_behind_later_minutes_an_hour_of_a_biller_counts_as_it_was_judged_first() -> None:
    life = Life(TWO_OF_THREE, B1).see(beyond(60, span="hour")).see(clear(61, span="minute"))
    assert life.see(beyond(60, span="hour")).events == []
    for minute in (62, 63, 64):
        life.see(clear(minute, span="minute"))
    # Its point has left the window, and does not come back.
    life.see(beyond(60, span="hour")).see(beyond(65, span="minute"))
    assert life.events == []


def test_behind_later_minutes_an_hour_that_is_judged_again_does_not_break_their_row() -> None:
    life = Life(LEARNED, B1).see(beyond(-60, span="hour")).see(beyond(60, span="hour"))
    life.see(clear(61, span="minute")).see(clear(62, span="minute")).see(beyond(60, span="hour"))
    assert life.open.n_clear == 2
    assert life.see(clear(63, span="minute")).events == ["opened", "resolved"]


def test_what_is_told_of_an_alert_has_nothing_to_take_back() -> None:
    life = Life(LEARNED).see(beyond(60, span="hour")).see(beyond(120, 9.0, span="hour"))
    assert life.open.before is not None
    told = [life.told[-1], acknowledge(life.open, by="kim", at_ms=1)[1], give_opinion(life.open, "true", at_ms=1)[1]]
    assert [one.alert.before for one in told] == [None, None, None]
