"""Nothing is lost on the way into the store and back, whatever a subject has lived through."""

import math
import struct
from base64 import b64encode
from typing import Any

import numpy as np
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.windows import CallWindow, GaugeSum, GaugeWindow, Window
from state import packing
from state.codec import decode, encode
from state.keys import models_key, series_key, subject_key
from state.series_codec import numbers
from tests.contract.states import FIRST_HOUR, POLICY, advance

COUNTS = st.integers(0, 2**40)
SUMS = st.integers(0, 2**200)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
FLOATS = st.floats()


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
    series = {slug: written[series_key(state.subject, slug)] for slug in state.changed}
    loaded = decode(state.subject, own, series, written.get(models_key(state.subject), {}), POLICY)
    assert loaded.rev == state.rev + 1
    # As if it had not been written yet: a second write leaves out what is stored already.
    loaded.rev, loaded.known, loaded.about = state.rev, state.known, state.about
    loaded.changed = set(state.changed)
    assert {key: fields(flat) for key, flat in encode(loaded, POLICY).hashes} == written
    assert loaded.windows == state.windows
    assert loaded.minutes == state.minutes
    assert loaded.forecasts == state.forecasts
    assert loaded.verdicts == state.verdicts
    assert {slug: one.to_bytes() for slug, one in loaded.models.items()} == {
        slug: one.to_bytes() for slug, one in state.models.items()
    }


# The first example loads the compiled core.
@settings(deadline=None)
@given(histories(call_windows()))
def test_every_history_of_a_biller_survives_the_codec(history: dict[int, Window]) -> None:
    assert_survives(advance(SubjectState(Subject.biller("B1")), history))


@settings(deadline=None)
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


@given(
    st.lists(FLOATS, max_size=40),
    st.lists(st.integers(1 - 2**31, 2**31 - 1)),
    st.lists(st.integers(1 - 2**15, 2**15 - 1)),
)
def test_numbers_packed_by_version_1_are_read_bit_for_bit(
    doubles: list[float], long: list[int], short: list[int]
) -> None:
    loaded = packing.load(
        orjson.dumps({"f8": packed("f8", doubles), "inner": {"i4": packed("i4", long), "i2": packed("i2", short)}})
    )
    assert bits(loaded["f8"]) == bits(doubles)
    assert bits(loaded["inner"]["i4"]) == bits([one / 100_000 for one in long])
    assert bits(loaded["inner"]["i2"]) == bits([one / 100_000 for one in short])


def test_what_version_1_spelt_out_is_read_as_it_was_meant() -> None:
    loaded = packing.load(
        orjson.dumps(
            {
                "zeros": [packed("i2", [-(2**15), 0]), packed("i4", [-(2**31), 0])],
                "inner": {"none": None, "whole": 2**60, "is_signed": True, "week_seen": [16_777_215, 0]},
                "edge": ["float:inf", "float:-inf", "float:nan", 0.1],
            }
        )
    )
    assert [bits(one) for one in loaded["zeros"]] == [bits([-0.0, 0.0])] * 2
    assert loaded["inner"] == {"none": None, "whole": 2**60, "is_signed": True, "week_seen": [16_777_215, 0]}
    assert bits(loaded["edge"]) == bits([math.inf, -math.inf, math.nan, 0.1])


def packed(form: str, values: list[Any]) -> str:
    """As version 1 wrote a run of numbers."""
    return f"{form}:{b64encode(np.array(values, f'<{form}').tobytes()).decode()}"


@given(st.lists(FLOATS, min_size=1))
def test_the_text_of_a_number_is_read_back_as_the_same_number(values: list[float]) -> None:
    assert bits([float(text) for text in numbers(*values)]) == bits(values)


def bits(values: list[float]) -> list[bytes]:
    """Their bytes, where any nan is as good as another."""
    return [struct.pack("<d", math.nan if math.isnan(value) else value) for value in values]
