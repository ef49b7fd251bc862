"""Alerts as they are stored: for people to read, and as older versions wrote them."""

from dataclasses import replace

import orjson

from detection.subject import Subject
from state.alert_codec import dump_alerts, load_alerts
from tests.alerts import SINCE_MS, alert_of

B1 = Subject.biller("B1")


def test_the_last_hour_that_counted_is_stored_as_a_time_with_what_was_counted_before() -> None:
    alert = alert_of(B1, "error-rate")
    before = {**(alert.before or {}), "last_hour_ms": SINCE_MS}
    data = dump_alerts({alert.key: replace(alert, before=before)})
    stored = orjson.loads(data)[alert.key]
    assert stored["last_hour"] == "2025-11-24T00:01:00Z"
    assert (stored["before"]["last_hour"], stored["before"]["n_clear"]) == ("2025-11-24T00:00:00Z", 0)
    assert load_alerts(B1, data) == {alert.key: replace(alert, before=before)}


def test_an_alert_that_began_with_its_last_hour_is_told_from_one_that_cannot_be_taken_back() -> None:
    nothing: dict[str, object] = {}
    for before in (nothing, None):
        alert = replace(alert_of(B1, "error-rate"), state="pending", before=before)
        assert load_alerts(B1, dump_alerts({alert.key: alert})) == {alert.key: alert}


def test_an_alert_of_an_older_version_says_of_no_hour_that_it_counted() -> None:
    alert = alert_of(B1, "error-rate")
    stored = orjson.loads(dump_alerts({alert.key: alert}))
    del stored[alert.key]["last_hour"], stored[alert.key]["before"]
    assert load_alerts(B1, orjson.dumps(stored)) == {alert.key: replace(alert, last_hour_ms=None, before=None)}
