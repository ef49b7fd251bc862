"""What is counted of the events of one subject in one hour or minute: additive, and in whole numbers.

Whole numbers because a floating-point sum depends on the order of its terms, and the state must not depend on the order
in which events arrive.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from detection.catalogue import (
    AVERAGE_RESPONSE_TIME,
    ERROR_RATE,
    TIMEOUT_ERROR_RATE,
    Metric,
    gauge,
)

NANO = 1_000_000_000


class Value(msgspec.Struct, frozen=True, gc=False):
    """The value of one metric over one window, with the calls or events behind it."""

    metric: Metric
    value: float
    count: int


@dataclass(slots=True)
class CallWindow:
    """The calls of one biller in one window.

    `latency_us` and `latency_us2` sum the microseconds, and their squares, of the calls that were *answered* (in time,
    rightly or with an error): a call that timed out is a censored latency, and already counted as a timeout.
    `bins` counts answered calls by `latency_bin`.
    """

    calls: int = 0
    errors: int = 0
    timeouts: int = 0
    latency_us: int = 0
    latency_us2: int = 0
    bins: dict[int, int] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        """Calls that did not time out."""
        return self.calls - self.timeouts

    def add(self, other: "CallWindow") -> None:
        """Add the other window's calls to this one's; the order of additions never matters."""
        self.calls += other.calls
        self.errors += other.errors
        self.timeouts += other.timeouts
        self.latency_us += other.latency_us
        self.latency_us2 += other.latency_us2
        for key, count in other.bins.items():
            self.bins[key] = self.bins.get(key, 0) + count

    def values(self) -> Iterator[Value]:
        """One value per metric that was observed; no call, no value."""
        if self.answered:
            milliseconds = self.latency_us / self.answered / 1000.0
            yield Value(AVERAGE_RESPONSE_TIME, milliseconds, self.answered)
        if self.calls:
            yield Value(ERROR_RATE, 100.0 * self.errors / self.calls, self.calls)
            yield Value(TIMEOUT_ERROR_RATE, 100.0 * self.timeouts / self.calls, self.calls)


@dataclass(slots=True)
class GaugeSum:
    """The observations of one gauge: count, sum in 10⁻⁹ of the gauge's unit, smallest and largest."""

    count: int
    sum_nano: int
    minimum: float
    maximum: float

    def add(self, other: "GaugeSum") -> None:
        """Add the other's observations; the order of additions never matters."""
        self.count += other.count
        self.sum_nano += other.sum_nano
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)


@dataclass(slots=True)
class GaugeWindow:
    """The observation events of one model version in one window, by the slug of the metric."""

    events: int = 0
    gauges: dict[str, GaugeSum] = field(default_factory=dict)

    def add(self, other: "GaugeWindow") -> None:
        """Add the other window's events to this one's; the order of additions never matters."""
        self.events += other.events
        for slug, added in other.gauges.items():
            known = self.gauges.get(slug)
            if known is None:
                self.gauges[slug] = GaugeSum(added.count, added.sum_nano, added.minimum, added.maximum)
            else:
                known.add(added)

    def values(self) -> Iterator[Value]:
        """The mean of each gauge that was observed."""
        for slug in sorted(self.gauges):
            one = self.gauges[slug]
            yield Value(gauge(slug), one.sum_nano / one.count / NANO, one.count)


Window = CallWindow | GaugeWindow


def add(known: Window, added: Window) -> None:
    """Add a window of the same kind; TypeError where a biller's window meets a model's."""
    match known, added:
        case CallWindow(), CallWindow():
            known.add(added)
        case GaugeWindow(), GaugeWindow():
            known.add(added)
        case _:
            raise TypeError(f"cannot add {type(added).__name__} to {type(known).__name__}")


def size(window: Window) -> int:
    """Calls, or observation events, in the window."""
    return window.calls if isinstance(window, CallWindow) else window.events


def latency_bin(latency_us: int) -> int:
    """Four bins to the octave, exact in whole numbers: the exponent of two, and the next two bits below it.

    The bin of 0 µs is 0; the relative width of a bin is at most 25 % (the layout of HDR histograms).
    """
    if latency_us <= 0:
        return 0
    exponent = latency_us.bit_length() - 1
    fraction = (latency_us << 2 >> exponent) & 3
    return 4 * exponent + fraction


def latency_bounds(key: int) -> tuple[int, int]:
    """The shortest and the longest latency, in whole microseconds, of a bin.

    >>> latency_bounds(latency_bin(184_200))
    (163840, 196607)
    """
    exponent, fraction = divmod(key, 4)
    shortest, beyond = (-(-(quarters << exponent) // 4) for quarters in (4 + fraction, 5 + fraction))
    return (shortest if key else 0), beyond - 1
