"""Nothing is lost on the way into the store and back, whatever a subject has lived through."""

import math
import struct
from dataclasses import replace
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.windows import CallWindow, GaugeSum, GaugeWindow, Window
from state import packing
from state.codec import decode, encode
from state.keys import subject_key
from state.series_codec import for_reading, numbers
from tests.contract.states import FIRST_HOUR, POLICY, advance

COUNTS = st.integers(0, 2**40)
SUMS = st.integers(0, 2**200)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
FLOATS = st.floats()
DECIMALS = st.integers(-(2**31), 2**31).map(lambda whole: whole / packing.SCALE)


@st.composite
def call_windows(draw: st.DrawFn) -> CallWindow:
    timeouts = draw(st.integers(0, 50))
    answered = draw(st.integers(0, 1000))
    latency = draw(st.integers(0, 10**12)) if answered else 0
    return CallWindow(
        calls=answered + timeouts,
        errors=draw(st.integers(0, answered)),
        timeouts=timeouts,
        latency_us=latency,
        latency_us2=draw(SUMS) if answered else 0,
        bins=draw(st.dictionaries(st.integers(0, 200), COUNTS, max_size=4)),
    )


@st.composite
def gauge_windows(draw: st.DrawFn) -> GaugeWindow:
    gauges = draw(
        st.dictionaries(
            st.sampled_from(["drift", "prediction-accuracy", "outbox"]),
            st.builds(GaugeSum, st.integers(1, 100), st.integers(-(10**30), 10**30), FINITE, FINITE),
            max_size=3,
        )
    )
    return GaugeWindow(events=draw(st.integers(1, 100)), gauges=gauges)


def histories(windows: st.SearchStrategy[Window]) -> st.SearchStrategy[dict[int, Window]]:
    hours = st.integers(FIRST_HOUR, FIRST_HOUR + 200)
    return st.dictionaries(hours, windows, min_size=1, max_size=60)


def fields(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def assert_survives(state: SubjectState) -> None:
    """Encoded, decoded and encoded again, it is the same, byte for byte."""
    state.changed.update(state.forecasts, state.models, state.verdicts)
    state.learned.clear()
    written = {key: fields(flat) for key, flat in encode(state, POLICY).hashes}
    own = written[subject_key(state.subject)]
    series = {key.rsplit(":", 1)[1]: found for key, found in written.items() if found is not own}
    loaded = decode(state.subject, own, series, POLICY)
    assert loaded.rev == state.rev + 1
    loaded.rev = state.rev
    loaded.changed = set(state.changed)
    assert {key: fields(flat) for key, flat in encode(loaded, POLICY).hashes} == written
    assert loaded.windows == state.windows
    assert loaded.minutes == state.minutes
    assert loaded.forecasts == {
        slug: replace(one, explanation=for_reading(one.explanation)) for slug, one in state.forecasts.items()
    }
    assert loaded.verdicts == state.verdicts
    assert {slug: one.to_state() for slug, one in loaded.models.items()} == {
        slug: one.to_state() for slug, one in state.models.items()
    }


@given(histories(call_windows()))
def test_every_history_of_a_biller_survives_the_codec(history: dict[int, Window]) -> None:
    assert_survives(advance(SubjectState(Subject.biller("B1")), history))


@given(histories(gauge_windows()))
def test_every_history_of_a_model_survives_the_codec(history: dict[int, Window]) -> None:
    assert_survives(advance(SubjectState(Subject.model("Mistral", "v1")), history))


@given(histories(call_windows()), st.randoms())
def test_the_order_in_which_windows_came_leaves_no_trace(history: dict[int, Window], chance: Any) -> None:
    shuffled = list(history.items())
    chance.shuffle(shuffled)
    first, second = SubjectState(Subject.biller("B1")), SubjectState(Subject.biller("B1"))
    first.windows, second.windows = dict(sorted(history.items())), dict(shuffled)
    assert encode(first, POLICY) == encode(second, POLICY)


@given(st.lists(FLOATS, max_size=40) | st.lists(DECIMALS, min_size=5, max_size=40), FLOATS)
@example([-0.0] * 30, -0.0)
@example([0.1, -0.0, -0.32767, 0.32768] * 6, math.nan)
@example([-21474.83648, -0.0, 21474.83647, 1.0, 2.0] * 6, math.inf)
def test_packed_numbers_come_back_bit_for_bit(values: list[float], single: float) -> None:
    loaded = packing.load(packing.dump({"values": values, "inner": {"single": single, "none": None}}))
    assert bits(loaded["values"]) == bits(values)
    assert bits([loaded["inner"]["single"]]) == bits([single])
    assert loaded["inner"]["none"] is None


@given(st.lists(st.integers(-(2**60), 2**60) | FINITE, max_size=40))
def test_whole_numbers_stay_whole_numbers(values: list[float]) -> None:
    loaded = packing.load(packing.dump({"values": values}))["values"]
    assert loaded == values
    assert list(map(type, loaded)) == list(map(type, values))


@given(st.lists(FLOATS, min_size=1))
def test_the_text_of_a_number_is_read_back_as_the_same_number(values: list[float]) -> None:
    assert bits([float(text) for text in numbers(*values)]) == bits(values)


def bits(values: list[float]) -> list[bytes]:
    """Their bytes, where any nan is as good as another."""
    return [struct.pack("<d", math.nan if math.isnan(value) else value) for value in values]
