"""`python -m detection.kernel`: compile the core once, so that no process and no test waits for it later."""

import shutil
import sys
import time
from pathlib import Path

import numpy as np

from detection.bank import Bank
from detection.catalogue import AVERAGE_RESPONSE_TIME, ERROR_RATE, gauge
from detection.compiled import cache_folder
from detection.forecaster import SeasonalForecaster
from detection.machine_code import load_reading_code, load_streaming_code
from detection.policy import Policy
from detection.rows import Observation
from detection.series_model import SeriesModel
from detection.training import fold

_HOURS = range(480_000, 480_060)


def main() -> None:
    """Every way into the core is taken once, for each kind of metric; other versions' machine code is removed."""
    started = time.perf_counter()
    sys.stdout.write("Compiling the learning core; this takes up to a minute, once for each version of it\n")
    sys.stdout.flush()
    metrics = [AVERAGE_RESPONSE_TIME, ERROR_RATE, gauge("anything")]
    policy = Policy()
    for metric in metrics:
        model = SeriesModel(metric, policy)
        fold(model, [Observation(hour, 1.0, 100) for hour in _HOURS], policy)
        model.forecast(_HOURS.stop + 1, policy)
        model.score(_HOURS.stop, 2.0, 100, policy)
        model.learn(_HOURS.stop, 2.0, 100, policy)
    bank = Bank(metrics, policy)
    bank.learn_many(_HOURS.start, np.ones(len(metrics)), np.ones(len(metrics)))
    load_streaming_code(policy)
    load_reading_code()
    forecaster = SeasonalForecaster()
    forecaster.learn_one(1.0)
    forecaster.predict(ahead=1)
    _remove_others(cache_folder())
    sys.stdout.write(f"Compiled in {time.perf_counter() - started:.0f} s\n")


def _remove_others(folder: Path) -> None:
    """The folders of machine code beside this one, which nothing would ever remove; one still in use fills again."""
    for other in folder.parent.glob("[0-9a-f]" * 16):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)


if __name__ == "__main__":
    main()
