"""What a series has learned, as its bytes: refused, or learned on with, by a single model and by a bank alike.

The first byte of an input says which metric the record is of. Compiled code reads the rest, and checks no index.
"""

from typing import Any

import numpy as np

from detection.bank import Bank
from detection.catalogue import BILLER_METRICS, Metric, gauge
from detection.errors import UnreadableStateError
from detection.kernel.row import ROW, next_hour_of
from detection.models import Models
from detection.series_model import SeriesModel
from tests.contract.states import FIRST_HOUR, POLICY, biller, model
from tests.fuzz.targets.living import assert_speaks

METRICS = (*BILLER_METRICS, gauge("drift"), gauge("prediction_accuracy"))


def check(data: bytes) -> None:
    """Raise for any other error than that of a damaged record, and where the two ways disagree."""
    metric, record = METRICS[data[0] % len(METRICS) if data else 0], data[1:]
    try:
        model = SeriesModel.from_bytes(metric, record, POLICY)
    except UnreadableStateError as error:
        assert metric.slug in str(error)
        assert_refused_by_banks(metric, record)
        return
    record = record[: ROW.itemsize]
    assert model.to_bytes() == record
    assert next_hour_of(record) == (model.next_hour or 0)
    model.readable()
    try:
        learns_on(metric, record, model)
    except UnreadableStateError as error:
        # What a series has learned can be in range, number by number, and no number follow from it.
        assert "no number" in str(error) or "damaged" in str(error)


def assert_refused_by_banks(metric: Metric, record: bytes) -> None:
    """What one way refuses, the other does not take."""
    try:
        Bank.from_bytes([metric], [record], POLICY)
    except UnreadableStateError:
        return
    raise AssertionError("a bank takes what a single model refuses")


def learns_on(metric: Metric, record: bytes, model: SeriesModel) -> None:
    """Hours come and go, are judged and learned, and what is said of them stays a number."""
    bank = Bank.from_bytes([metric], [record], POLICY)
    models = Models.of_records({metric.slug: record}, POLICY, "biller:B1")
    hour = max(models.next_hour(metric.slug), FIRST_HOUR)
    values = [metric.clip(value) for value in (1.0, 0.0, 97.0, 1e9, 3.0)]
    for at, value in enumerate(values):
        hour += 1 + 30 * (at == 3)
        forecast = model.forecast(hour, POLICY)
        assert_speaks(forecast)
        assert np.array_equal(bank.forecast_many(hour)["threshold"], [forecast.threshold.value])
        model.score(hour, value, 20, POLICY)
        model.learn(hour, value, 20, POLICY)
        bank.learn_many(hour, np.array([value]), np.array([20.0]))
        assert bank.to_bytes() == [model.to_bytes()]
        model.copy()
    assert SeriesModel.from_bytes(metric, model.to_bytes(), POLICY).to_bytes() == model.to_bytes()


def seeds() -> list[bytes]:
    """Records of young, warm and signed series, and each again with its bytes set to what no series has."""
    found = [bytes([at]) + SeriesModel(metric, POLICY).to_bytes() for at, metric in enumerate(METRICS)]
    for hours in (1, 30, 60, 200):
        states = (biller(hours=hours), model(hours=hours), model(hours=hours, drift=-3.0))
        for state in states:
            for at, metric in enumerate(METRICS):
                record = state.models.record(metric.slug)
                if record:
                    found.append(bytes([at]) + record)
    warm = found[-1]
    fields: dict[str, Any] = dict(ROW.fields or {})
    for name in ("next_hour", "n_observed", "n_learned", "hours", "slot", "creep_weekday", "n_before", "count_hours"):
        place, size = 1 + fields[name][1], fields[name][0].itemsize
        found += [warm[:place] + each * size + warm[place + size :] for each in (b"\xff", b"\x7f", b"\x80")]
    for name in ("level", "z_mean", "count_level", "exceedance_rate", "expected_count", "corrections"):
        place = 1 + fields[name][1]
        found += [
            warm[:place] + bytes.fromhex(each) + warm[place + 4 :] for each in ("0000c07f", "0000807f", "ffff7f7f")
        ]
    return [*found, b"\x00\x01", warm[:100], warm + b"\x80"]
