"""River's own checks, those that hold for the estimator, as River's `check_estimator` would run them."""

import contextlib
import functools
from collections.abc import Callable

from river import checks
from river.base import Estimator
from river.checks import time_series
from river.time_series.base import Forecaster

_FORECASTER_HOURS = [({"time": float(hour), "period": float(hour % 4)}, 10.0 + 2.0 * hour) for hour in range(8)]


def river_checks(model: Estimator) -> list[Callable[[Estimator], None]]:
    """The checks for the model, but those that it opts out of by River's own `_unit_test_skips`.

    River's checks of forecasters come after an import of scikit-learn, for data sets that they do not use; without it
    these are taken from where River has them, with the eight hours that River gives them.
    """
    found: list[Callable[[Estimator], None]] = []
    with contextlib.suppress(ModuleNotFoundError):
        # Not a comprehension: what came before the missing import must be kept.
        for check in checks.yield_checks(model):
            found.append(check)  # noqa: PERF402 (as said)
    if isinstance(model, Forecaster):
        names = {check.__name__ for check in found}
        found.extend(
            functools.update_wrapper(functools.partial(check, dataset=_FORECASTER_HOURS), check)
            for check in (time_series.check_learn_one, time_series.check_forecast)
            if check.__name__ not in names
        )
    skips = model._unit_test_skips()  # noqa: SLF001 (River's own protocol)
    return [check for check in found if check.__name__ not in skips]
