"""The one home of Hypothesis strategies."""

from hypothesis import strategies as st

# One hour of a history: its value, or None for an hour without one.
History = list[float | None]

_NASTY = st.sampled_from([0.0, 5e-324, 1e-308, 1e-160, 1e-31, 1e-29, 1e-9, 1.0, 100.0, 1e9])


def histories(*, lowest: float = 0.0, highest: float = 1e9, longest: int = 200) -> st.SearchStrategy[History]:
    """Hours of one series: runs of one value, of silence, of extremes and of anything between the bounds."""
    anything = st.floats(min_value=lowest, max_value=highest, allow_nan=False, allow_infinity=False)
    value = st.one_of(_NASTY.filter(lambda v: lowest <= v <= highest), anything)
    if lowest < 0.0:
        value = st.one_of(value, st.sampled_from([lowest, -1.0, -1e-9, -5e-324]))
    run = st.tuples(st.one_of(st.none(), value), st.integers(min_value=1, max_value=60)).map(
        lambda pair: [pair[0]] * pair[1]
    )
    single: st.SearchStrategy[History] = st.lists(st.one_of(st.none(), value, value, value), min_size=1, max_size=40)
    return st.lists(st.one_of(run, single), min_size=1, max_size=8).map(
        lambda pieces: [hour for piece in pieces for hour in piece][:longest]
    )
