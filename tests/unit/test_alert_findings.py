"""What alerts found of labelled incidents, and when."""

import pytest

from detection.alert_findings import Stretch, find


def test_an_alert_finds_the_incident_that_it_opened_in_and_says_how_late() -> None:
    found = find([Stretch(103, 108)], [100, 101, 105], judged_from=0)
    (incident,) = found.incidents
    assert (incident.first, incident.last, incident.outcome, incident.delay_hours) == (100, 105, "found", 4)
    assert found.is_false == (False,)


@pytest.mark.parametrize(
    ("alert", "outcome", "delay", "is_false"),
    [
        (Stretch(100, 100), "found", 1, False),
        (Stretch(98, 98), "found", 0, False),
        (Stretch(97, 97), "missed", None, True),
        (Stretch(97, 98), "already open", None, False),
        (Stretch(50, 200), "already open", None, False),
        (Stretch(104, 104), "found", 5, False),
        (Stretch(105, 105), "missed", None, True),
    ],
)
def test_near_is_up_to_two_hours_away(alert: Stretch, outcome: str, delay: int | None, is_false: bool) -> None:
    found = find([alert], [100, 101, 102], judged_from=0)
    assert [(one.outcome, one.delay_hours) for one in found.incidents] == [(outcome, delay)]
    assert found.is_false == (is_false,)


def test_the_first_of_several_alerts_counts_and_an_open_one_does_not_hide_the_next() -> None:
    found = find([Stretch(50, 99), Stretch(101, 101), Stretch(100, 100)], [100, 101], judged_from=0)
    assert [(one.outcome, one.delay_hours) for one in found.incidents] == [("found", 1)]
    assert found.is_false == (False, False, False)


def test_labels_four_hours_apart_are_one_incident_and_those_before_anything_was_judged_are_none() -> None:
    found = find([], [10, 20, 24, 29], judged_from=11)
    assert [(one.first, one.last, one.outcome) for one in found.incidents] == [(20, 24, "missed"), (29, 29, "missed")]


def test_where_nothing_is_labelled_every_alert_is_false() -> None:
    found = find([Stretch(1, 2)], [], judged_from=0)
    assert (found.incidents, found.is_false) == ((), (True,))
