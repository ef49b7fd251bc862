"""What waits in Redis to be told to the topics and the history; an input is lines of `FIELD VALUE`."""

from collections.abc import Iterator

from detection.errors import UnreadableStateError
from detection.rules.alert import Alert, Event, Transition
from detection.subject import Subject
from detection.windows import Window
from state.alert_codec import dump_transition, load_transition
from state.outbox_codec import decode_alert_history, decode_announcements, decode_outbox, is_for_history
from state.window_codec import dump_learned, hour_text, load_judged, load_window
from tests.contract.states import FIRST_HOUR, call_window, gauge_window
from tests.fuzz.targets.living import Fields
from tests.fuzz.targets.states import known

_SUBJECT = Subject.biller("B1")


def check(data: bytes) -> None:
    """Refused by the key, or told exactly; an hour and an alert that can be told can be told again."""
    fields = read(data)
    try:
        hours = decode_outbox(_SUBJECT, fields)
        announced = decode_announcements(_SUBJECT, fields)
        history = decode_alert_history(_SUBJECT, fields)
    except UnreadableStateError as error:
        assert "_outbox" in str(error)
        return
    for hour, learned in hours.items():
        text = dump_learned(learned.window, learned.judged)
        assert load_window(text) == learned.window
        assert load_judged(text) == learned.judged
        assert hour_text(hour)
        for value in learned.window.values():
            assert value.count >= 0
    for one in (*history.values(), *({} if announced is None else announced.alerts).values()):
        assert load_transition(_SUBJECT, dump_transition(one), rev=one.rev) == one
        assert one.alert.line
        assert one.id
    assert all(is_for_history(name.encode()) for name in history)


def read(data: bytes) -> Fields:
    """The fields that these lines are."""
    parts = [line.partition(b" ") for line in data.split(b"\n")]
    return {name: value for name, space, value in parts if space}


def seeds() -> list[bytes]:
    """Learned windows of calls and gauges, judged and not, and alerts that opened and ended."""
    windows: list[Window] = [call_window(200_000, 5, errors=1, timeouts=2), gauge_window(drift=0.1, accuracy=-3.5)]
    found = [b"\n".join(b"%b %b" % pair for pair in parts.get("_outbox", {}).items()) for _, parts in known()]
    short = [line for one in found for line in one.split(b"\n")[-3:]]
    told = [b"%b %b" % (hour_text(FIRST_HOUR).encode(), dump_learned(window, {})) for window in windows]
    return [*short, b"\n".join(short[:6]), *told, *alerts(), b"published 7", b"2026-01-01T00:00:00Z {}"]


def alerts() -> Iterator[bytes]:
    """An alert as it opens, and as it ends."""
    ms = FIRST_HOUR * 3_600_000
    opened = Alert(
        rule="slow",
        subject=_SUBJECT,
        slug="error-rate",
        state="open",
        since_ms=ms,
        last_ms=ms,
        value=9.5,
        boundary=4.0,
        count=120,
        score=2.5,
        worst=2.5,
        condition="outside threshold",
        severity="warning",
        recent="111",
        opened_ms=ms,
        before={"n_clear": 1, "last_ms": ms},
        detail={"biller": "B1", "error_rate": 9.5},
    )
    events: tuple[Event, ...] = ("opened", "resolved")
    for event in events:
        data = dump_transition(Transition(event, opened, ms, 42))
        names = [b"%b:0000000042:0000:%b" % (whose, event.encode()) for whose in (b"alert", b"history")]
        yield b"\n".join(b"%b %b" % (name, data) for name in names)
