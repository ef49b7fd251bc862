"""The file of targets: who can be told of alerts, by name, and by which channel. Rules name them; the file is YAML.

    targets:
      pager:
        kind: webhook
        url_file: /run/secrets/pager-url
        secret_file: /run/secrets/pager-key
        default: true

Nobody else can name an address: what comes in over REST or with an event never makes a worker connect anywhere.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from detection.errors import InvalidRuleError, SettingsError, TooLargeError
from detection.rules.rule import Slug
from state.yaml_tree import parse
from stream.channels.alertmanager import AlertmanagerChannel
from stream.channels.channel import Channel
from stream.channels.lines import LineChannel
from stream.channels.webhook import WebhookChannel, check_secret

_Seconds = Annotated[float, Meta(ge=0.1, le=300)]


class _Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    default: bool = False


class LogTarget(_Target, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="log"):
    """The operator's line on the worker's standard output."""


class WebhookTarget(_Target, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="webhook"):
    """A signed POST; `secret_file` has a secret a line, `authorization_file` the value of that header."""

    url: str = ""
    url_file: str = ""
    secret_file: str = ""
    authorization_file: str = ""
    timeout_seconds: _Seconds = 10.0


class AlertmanagerTarget(_Target, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="alertmanager"):
    """Every member of a cluster in `urls`."""

    urls: Annotated[tuple[str, ...], Meta(min_length=1, max_length=16)]
    interval_seconds: Annotated[float, Meta(ge=1, le=300)] = 30.0
    authorization_file: str = ""
    timeout_seconds: _Seconds = 10.0


class AppriseTarget(_Target, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="apprise"):
    """One service that the library apprise knows."""

    url: str = ""
    url_file: str = ""
    timeout_seconds: _Seconds = 30.0


AnyTarget = LogTarget | WebhookTarget | AlertmanagerTarget | AppriseTarget


@dataclass(frozen=True, slots=True)
class Target:
    """Somebody who can be told; the defaults are told of what no rule names a target for."""

    name: str
    channel: Channel
    is_default: bool


# Where nothing is configured, alerts are at least seen.
def only_lines() -> list[Target]:
    """The operator's line on standard output, and nothing else."""
    return [Target("log", LineChannel(), is_default=True)]


def load_targets(path: Path) -> list[Target]:
    """Those of the file; SettingsError that names the file, the line and the target, and shows nothing secret."""
    try:
        root = parse(path.read_bytes(), name=str(path))
    except (OSError, InvalidRuleError, TooLargeError) as error:
        raise SettingsError(str(error)) from None
    listed = root.value.get("targets") if isinstance(root.value, dict) else None
    if not isinstance(listed, dict) or len(root.value) != 1:
        raise SettingsError(f"{path}: `targets:` and then names are needed, and nothing else")
    targets = []
    for name, fields in listed.items():
        place: tuple[str, ...] = ("targets", name)
        try:
            _check_name(name)
            spec = msgspec.convert(fields, AnyTarget)
            targets.append(Target(name, _channel(spec), is_default=spec.default))
        except msgspec.ValidationError as error:
            reason, field = _refused(str(error), fields)
            line, _ = root.place((*place, field))
            raise SettingsError(f"{path}:{line}: target {name!r}: {reason}") from None
        except (ValueError, OSError) as error:
            line, _ = root.place(place)
            raise SettingsError(f"{path}:{line}: target {name!r}: {error}") from None
    if not any(one.is_default for one in targets):
        raise SettingsError(f"{path}: no target has `default: true`, so some rules would tell nobody")
    return targets


def _check_name(name: Any) -> None:
    try:
        msgspec.convert(name, Slug)
    except msgspec.ValidationError as error:
        raise ValueError(f"its name: {error}") from None


def _channel(spec: AnyTarget) -> Channel:
    match spec:
        case LogTarget():
            return LineChannel()
        case WebhookTarget():
            secrets = _read(spec.secret_file).split() if spec.secret_file else []
            for secret in secrets:
                check_secret(secret)
            return WebhookChannel(
                checked_url(_one_of(spec.url, spec.url_file)),
                secrets=secrets,
                authorization=_optional(spec.authorization_file),
                timeout_seconds=spec.timeout_seconds,
            )
        case AlertmanagerTarget():
            return AlertmanagerChannel(
                [checked_url(url) for url in spec.urls],
                interval_seconds=spec.interval_seconds,
                authorization=_optional(spec.authorization_file),
                timeout_seconds=spec.timeout_seconds,
            )
        case AppriseTarget():
            # Here, because it loads a hundred services, which takes a second that most installations need not wait.
            from stream.channels.services import ServiceChannel  # noqa: PLC0415

            return ServiceChannel(_one_of(spec.url, spec.url_file), timeout_seconds=spec.timeout_seconds)


def checked_url(url: str) -> str:
    """The URL itself; ValueError, without it, for anything but an address over HTTP."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_address = False
    if not is_address or any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError("url: `http://` or `https://` and a host are needed")
    return url


def _one_of(text: str, file: str) -> str:
    if bool(text) == bool(file):
        raise ValueError("one of `url` and `url_file` is needed")
    return text or _read(file)


def _optional(file: str) -> str:
    return _read(file) if file else ""


def _read(file: str) -> str:
    text = Path(file).read_text(encoding="utf-8").strip()
    if not text:
        raise ValueError(f"{file}: empty")
    return text


def _refused(message: str, fields: Any) -> tuple[str, str]:
    """What is wrong, and with which field: msgspec ends with ``- at `$.field` ``, or names the unknown one."""
    reason, _, place = message.partition(" - at `$.")
    field = place.rstrip("`").partition("[")[0]
    if not field and isinstance(fields, dict):
        field = next((name for name in fields if f"`{name}`" in message), "kind" if "`$`" not in message else "")
    return (f"{field}: {reason}" if place else reason), field
