"""A subject's alerts and their transitions as JSON that people can read; exact both ways."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Annotated, Any, Final, cast, get_type_hints

import msgspec
import orjson
from msgspec import Meta

from detection.events import NEWEST_MS
from detection.hours import HOUR_MS, iso, parse_ms
from detection.live import LiveNormal
from detection.rules.alert import Alert, Event, Transition
from detection.subject import Subject

# What the key says of an alert; all other fields are written, but for those that have their default.
_IN_KEY: Final = ("rule", "subject", "slug")
_FIELDS: Final = tuple(one for one in fields(Alert) if one.name not in _IN_KEY)
_MS: Final = "_ms"

_TYPES: Final = get_type_hints(Alert)
# What is stored of one, with the types that it must have; by its default only where it has one.
_STORED: Final = msgspec.defstruct(
    "StoredAlert",
    [
        (one.name, _TYPES[one.name])
        if one.default is MISSING and one.default_factory is MISSING
        else (one.name, _TYPES[one.name] | None, None)
        for one in _FIELDS
    ],
    kw_only=True,
)
_Hour = Annotated[int, Meta(ge=0, le=NEWEST_MS // HOUR_MS)]
_LIVE: Final = msgspec.json.Decoder(dict[str, tuple[_Hour, float, float, float, float, float]])


def dump_alerts(alerts: Mapping[str, Alert]) -> bytes:
    """By key, in the order of the keys; empty for none."""
    if not alerts:
        return b""
    return orjson.dumps({key: alert_fields(alerts[key]) for key in sorted(alerts)})


def load_alerts(subject: Subject, data: bytes) -> dict[str, Alert]:
    """The inverse; KeyError, TypeError or ValueError for what `dump_alerts` cannot have written."""
    if not data:
        return {}
    return {key: _alert(subject, key, plain) for key, plain in orjson.loads(data).items()}


def alert_fields(alert: Alert) -> dict[str, Any]:
    """What is not said by its key: texts, numbers and, in place of milliseconds, RFC 3339 times."""
    plain: dict[str, Any] = {"id": alert.id}
    for one in _FIELDS:
        value = getattr(alert, one.name)
        if value == one.default or (one.name == "detail" and not value):
            continue
        plain[one.name.removesuffix(_MS)] = _written(one.name, value)
    return plain


def dump_live(live: Mapping[str, LiveNormal]) -> bytes:
    """What minutes are judged by, a few numbers a series; empty for none."""
    return orjson.dumps({slug: one.numbers() for slug, one in live.items()}) if live else b""


def load_live(data: bytes) -> dict[str, LiveNormal]:
    """The inverse; TypeError or ValueError for what `dump_live` cannot have written."""
    if not data:
        return {}
    try:
        found = _LIVE.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    return {slug: LiveNormal(*numbers) for slug, numbers in found.items()}


def dump_transition(one: Transition) -> bytes:
    return orjson.dumps(
        {"event": one.event, "at": iso(one.at_ms), "key": one.alert.key, "alert": alert_fields(one.alert)}
    )


def load_transition(subject: Subject, data: bytes, *, rev: int) -> Transition:
    """The inverse; KeyError, TypeError or ValueError for what `dump_transition` cannot have written."""
    plain = orjson.loads(data)
    alert = _alert(subject, plain["key"], plain["alert"])
    return Transition(cast(Event, plain["event"]), alert, parse_ms(plain["at"]), rev)


def _alert(subject: Subject, key: str, plain: dict[str, Any]) -> Alert:
    rule, _, slug = key.rpartition("/")
    found = {name: value for name, value in _read(plain).items() if value is not None}
    try:
        checked = msgspec.to_builtins(msgspec.convert(found, _STORED))
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    return Alert(rule=rule, subject=subject, slug=slug, **{name: checked[name] for name in found})


def _written(name: str, value: Any) -> Any:
    if name == "before":
        return {field.removesuffix(_MS): _written(field, earlier) for field, earlier in value.items()}
    return iso(value) if name.endswith(_MS) and value is not None else value


def _read(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are in there, by their names."""
    found: dict[str, Any] = {}
    for one in _FIELDS:
        name = one.name.removesuffix(_MS)
        if name not in plain:
            continue
        value = plain[name]
        if one.name == "before" and value is not None:
            value = _read(value)
        elif one.name.endswith(_MS) and value is not None:
            value = parse_ms(value)
        found[one.name] = value
    return found
