"""How a report writes numbers: short, and a dash where nothing is known."""

import math

NOTHING = "–"
_SPACE = "\N{NO-BREAK SPACE}"
_LETTERS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def percent(share: float | None, digits: int = 2) -> str:
    """A share of 1 as it was measured: `1.00 %`."""
    return NOTHING if share is None else f"{100.0 * share:.{digits}f}{_SPACE}%"


def claimed(share: float) -> str:
    """A share of 1 as somebody chose it: `1 %`."""
    return f"{100.0 * share:.6g}{_SPACE}%"


def number(value: float | None) -> str:
    """Four digits, and a letter for thousands: 0.25, 1,200, 35k, 2.5M."""
    if value is None:
        return NOTHING
    for size, letter in _LETTERS:
        if abs(value) >= size and (size > 1e3 or abs(value) >= 1e4):
            return f"{value / size:.4g}{letter}"
    if value != 0.0 and abs(value) < 1e-4:
        return f"{value:.2e}"
    return f"{value:,.4g}" if abs(value) < 1e3 else f"{value:,.0f}"


def tick(value: float, step: float) -> str:
    """A number of an axis, with as many digits as tell it from its neighbour that is a step away."""
    size, letter = next(
        ((size, letter) for size, letter in _LETTERS if abs(value) >= size and (size > 1e3 or abs(value) >= 1e4)),
        (1.0, ""),
    )
    # One more than the step's first digit: 2.5 has two.
    digits = max(0, 1 - math.floor(math.log10(step / size)))
    if digits > 6:
        return f"{value:.4g}"
    text = f"{value / size:,.{digits}f}"
    return (text.rstrip("0").rstrip(".") if digits else text) + letter


def quantity(value: float | None, unit: str) -> str:
    """A number with its unit, which a gauge does not have."""
    return f"{number(value)}{_SPACE}{unit}" if unit and value is not None else number(value)


def decimal(value: float | None, digits: int = 2) -> str:
    """So many digits behind the point, so that numbers below each other can be compared."""
    return NOTHING if value is None or math.isnan(value) else f"{value:,.{digits}f}"


def count(value: int | None) -> str:
    """A whole number: 12,345."""
    return NOTHING if value is None else f"{value:,}"


def moment(iso: str | None) -> str:
    """A time of RFC 3339 as it is read: 2025-11-03 08:00, always UTC."""
    return NOTHING if iso is None else iso[:16].replace("T", " ")
