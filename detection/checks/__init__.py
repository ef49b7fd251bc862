"""What every model must hold, whatever it forecasts with: small named checks, run over each of them.

As River's `check_estimator` does for what River asks of an estimator (`river_checks` runs those), `yield_checks` yields
what Tidemark asks. A check is a function of a model that has learned nothing; it raises AssertionError. A model that
cannot keep one names the check and the reason in its `skips`: nothing is left out in silence.
"""

from collections.abc import Iterator

from detection.checks.checked import Checked
from detection.checks.laws import CHECKS, Check

__all__ = ["Check", "Checked", "check_model", "yield_checks"]


def yield_checks(model: Checked) -> Iterator[Check]:
    """The checks that hold for the model; ValueError for a skip that names no check, or gives no reason."""
    names = {check.__name__ for check in CHECKS}
    for name, reason in model.skips.items():
        if name not in names:
            raise ValueError(f"{model.name} opts out of {name}, which is no check")
        if not reason.strip():
            raise ValueError(f"{model.name} opts out of {name} without a reason")
    yield from (check for check in CHECKS if check.__name__ not in model.skips)


def check_model(model: Checked) -> None:
    """Every check that holds for the model, each with a model that has learned nothing."""
    for check in yield_checks(model):
        check(model.fresh())
