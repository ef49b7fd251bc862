"""What a look at something a process depends on has found, and what a person is to do about it."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Literal

Level = Literal["ok", "warning", "failed", "unknown"]

# A clock that is further off than this makes windows close early or late.
_SKEW_WARNING_SECONDS: Final = 2.0
_SKEW_FAILED_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: `failed` is what a person must mend, unless it `is_away`, which may come back by itself.

    `unknown` is what could not be looked at. `name` begins with what was looked at: `redis.eviction`.
    """

    name: str
    level: Level
    found: str
    advice: str = ""
    is_away: bool = False


def ok(name: str, found: str) -> Finding:
    """As it should be."""
    return Finding(name, "ok", found)


def warning(name: str, found: str, advice: str) -> Finding:
    """It works, and it can be better."""
    return Finding(name, "warning", found, advice)


def failed(name: str, found: str, advice: str) -> Finding:
    """A person must mend it."""
    return Finding(name, "failed", found, advice)


def unknown(name: str, found: str, advice: str = "") -> Finding:
    """It could not be looked at."""
    return Finding(name, "unknown", found, advice)


def away(name: str, found: str, advice: str) -> Finding:
    """It does not answer."""
    return Finding(name, "failed", found, advice, is_away=True)


def clock_finding(name: str, skew_seconds: float) -> Finding:
    """Of a server whose clock is so many seconds ahead of ours."""
    found = f"{abs(skew_seconds):.2f} s {'ahead of' if skew_seconds > 0 else 'behind'} this machine"
    advice = "Synchronise the clocks of both machines (chrony, systemd-timesyncd): windows close by them."
    if abs(skew_seconds) >= _SKEW_FAILED_SECONDS:
        return failed(name, found, advice)
    return warning(name, found, advice) if abs(skew_seconds) >= _SKEW_WARNING_SECONDS else ok(name, found)


def encryption_finding(name: str, found: str, hosts: Iterable[str], *, is_encrypted: bool, advice: str) -> Finding:
    """Of connections to these hosts: what leaves this machine unencrypted can be read, and changed, on its way."""
    far = sorted({host for host in hosts if not is_loopback(host)})
    if is_encrypted or not far:
        return ok(name, found if is_encrypted else f"{found}, within this machine")
    return warning(name, f"{found}: not encrypted, to {', '.join(far)}", advice)


def is_loopback(host: str) -> bool:
    """Whether what is said to this host stays on this machine; a path is that of a socket."""
    try:
        return host in {"", "localhost"} or host.startswith(("/", "@")) or ip_address(host).is_loopback
    except ValueError:
        return False


def percent_finding(
    name: str, found: str, share: float, advice: str, *, warn: float = 0.8, fail: float = 0.95
) -> Finding:
    """Of something of which this share, 0..1, is used up."""
    if share >= fail:
        return failed(name, found, advice)
    return warning(name, found, advice) if share >= warn else ok(name, found)
