"""What a benchmark reports: a value, the reference measured beside it, and the target that both are held to."""

import math
import operator
from dataclasses import dataclass

_COMPARE = {">=": operator.ge, "<=": operator.le}


@dataclass(frozen=True, slots=True)
class Target:
    """Bounds on the value and on its ratio to the reference; all that are given must hold.

    A target without bounds is none: its result is reported, and neither met nor missed.
    """

    at_least: float | None = None
    at_most: float | None = None
    ratio_at_least: float | None = None
    ratio_at_most: float | None = None

    def text(self, unit: str) -> str:
        """The bounds as a person reads them: `ratio >= 15, >= 200000 calls/s`."""
        parts = [f"ratio {sign} {bound:g}" for sign, bound in self._ratio_bounds()]
        parts += [f"{sign} {bound:.10g} {unit}".rstrip() for sign, bound in self._value_bounds()]
        return ", ".join(parts)

    def is_met(self, value: float, ratio: float | None) -> bool | None:
        """None without bounds; ValueError for a bound on a ratio that has no reference."""
        checks = [_COMPARE[sign](value, bound) for sign, bound in self._value_bounds()]
        for sign, bound in self._ratio_bounds():
            if ratio is None:
                raise ValueError("a target on the ratio needs a reference that was measured")
            checks.append(_COMPARE[sign](ratio, bound))
        return all(checks) if checks else None

    def _value_bounds(self) -> list[tuple[str, float]]:
        bounds = ((">=", self.at_least), ("<=", self.at_most))
        return [(sign, bound) for sign, bound in bounds if bound is not None]

    def _ratio_bounds(self) -> list[tuple[str, float]]:
        bounds = ((">=", self.ratio_at_least), ("<=", self.ratio_at_most))
        return [(sign, bound) for sign, bound in bounds if bound is not None]


NO_TARGET = Target()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One measured value; `reference` says what was measured beside it, in the same unit."""

    name: str
    value: float
    unit: str
    reference: str = ""
    reference_value: float | None = None
    target: Target = NO_TARGET

    def __post_init__(self) -> None:
        for number in (self.value, self.reference_value):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{self.name}: {number} is not a measurement")
        if (self.reference_value is None) != (not self.reference):
            raise ValueError(f"{self.name}: a reference has a name and a value, or neither")

    @property
    def ratio(self) -> float | None:
        """The value in units of its reference; None without one."""
        if self.reference_value is None or self.reference_value == 0:
            return None
        return self.value / self.reference_value

    @property
    def is_met(self) -> bool | None:
        return self.target.is_met(self.value, self.ratio)

    def record(self, *, machine: str, commit: str) -> dict[str, str | float | bool | None]:
        """The result as it is written to `benchmarks/results/`."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "reference": self.reference,
            "reference_value": self.reference_value,
            "ratio": self.ratio,
            "target": self.target.text(self.unit),
            "met": self.is_met,
            "machine": machine,
            "commit": commit,
        }
