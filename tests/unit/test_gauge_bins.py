"""Bins of gauges: the order of the values, and near to each of them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detection.gauge_bins import gauge_bins, value_of_bin

values = st.floats(min_value=-1e15, max_value=1e15)


@given(values)
def test_the_middle_of_a_bin_is_within_a_64th_of_every_value_in_it(value: float) -> None:
    middle = value_of_bin(int(gauge_bins(np.array([value]))[0]))
    if abs(value) < 2.0**-30:
        assert middle == 0.0
    else:
        assert abs(middle - value) <= abs(value) / 64


@given(st.lists(values, min_size=2))
def test_bins_have_the_order_of_their_values(some: list[float]) -> None:
    assert (np.diff(gauge_bins(np.sort(np.array(some)))) >= 0).all()


@given(values)
def test_the_bin_of_a_negative_value_is_the_negative_bin(value: float) -> None:
    positive, negative = gauge_bins(np.array([value, -value])).tolist()
    assert positive == -negative
    assert value_of_bin(positive) == -value_of_bin(negative)


def test_borders_belong_to_the_bin_above_them() -> None:
    borders = np.array([2.0**-30, 1.0, 1.0 + 1 / 32, 2.0, np.nextafter(2.0, 1.0), 0.0, -0.0, 5e-324])
    assert gauge_bins(borders).tolist() == [1, 961, 962, 993, 992, 0, 0, 0]
