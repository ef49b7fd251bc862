"""Calls that wait for the store are those that came, in their order, under the ids that they came with."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream import held_calls
from stream.decoding import CallColumns, Ids
from stream.held_calls import HeldCalls, Numbers

Row = tuple[str, str, int, int, int, int]

ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@+=-]{0,9}", fullmatch=True)
some_ids = st.lists(ids, max_size=40)
calls = st.tuples(st.sampled_from(["log/calls/0", "log/calls/1"]), st.lists(ids, min_size=1, max_size=9))


def columns(names: Sequence[str], offset: int) -> CallColumns:
    """A call for each name; one of several has its place several times."""
    count = len(names)
    numbers = np.arange(count, dtype=np.int64)
    return CallColumns(
        Ids.of(names), numbers, offset + 10 * numbers, 3_600_000_000 - numbers, numbers % 3, offset + numbers
    )


def rows(held: HeldCalls) -> list[Row]:
    merged = held.merged()
    assert len(merged) == len(held)
    found = merged.of(np.arange(len(merged)))
    numbers = (found.subject, found.source, found.timestamp_ms, found.latency_us, found.outcome, found.offset)
    each = zip(*(one.tolist() for one in numbers), strict=True)
    return [(found.subjects[subject].id, found.sources[source], *rest) for subject, source, *rest in each]


def expected(batches: Sequence[tuple[str, Sequence[str]]]) -> list[Row]:
    found: list[Row] = []
    for number, (source, names) in enumerate(batches):
        of_batch = columns(names, 1000 * number)
        each = (of_batch.timestamp_ms, of_batch.latency_us, of_batch.outcome, of_batch.offset)
        found += [(name, source, *rest) for name, *rest in zip(names, *(one.tolist() for one in each), strict=True)]
    return found


@settings(deadline=None)
@given(st.lists(some_ids, max_size=12))
def test_an_id_keeps_the_number_it_got_first(batches: list[list[str]]) -> None:
    numbers = Numbers()
    known: dict[str, int] = {}
    for names in batches:
        for name in names:
            known.setdefault(name, len(known))
        assert numbers.of_billers(Ids.of(names)).tolist() == [known[name] for name in names]
    assert [subject.id for subject in numbers.subjects] == list(known)


def test_very_many_ids_find_their_numbers_again() -> None:
    numbers = Numbers()
    names = [f"biller-{number}" for number in range(20_000)]
    for start in range(0, len(names), 1500):
        numbers.of_billers(Ids.of(names[: start + 1500]))
    assert numbers.of_billers(Ids.of(reversed(names))).tolist() == list(reversed(range(20_000)))


@settings(deadline=None)
@given(st.lists(calls, max_size=8), st.integers(0, 8))
def test_what_waits_is_what_came(batches: list[tuple[str, list[str]]], split: int) -> None:
    first = HeldCalls()
    second = first.successor()
    for number, (source, names) in enumerate(batches):
        (first if number < split else second).hold(source, columns(names, 1000 * number))
    newest: dict[str, int] = {}
    for number, (source, names) in enumerate(batches[:split]):
        newest[source] = 1000 * number + 10 * (len(names) - 1)
    assert dict(first.newest_ms()) == newest
    # Put back in front of what came meanwhile, as after a write that failed.
    first.extend(second)
    assert len(first) == sum(len(names) for _, names in batches)
    assert rows(first) == expected(batches)


@settings(deadline=None)
@given(st.lists(calls, min_size=1, max_size=4), st.lists(calls, max_size=4))
def test_a_flood_of_ids_is_forgotten_and_nothing_is_mixed_up(
    flood: list[tuple[str, list[str]]], others: list[tuple[str, list[str]]]
) -> None:
    most = held_calls._MOST_NUMBERS
    held_calls._MOST_NUMBERS = 0
    try:
        first = HeldCalls()
        for number, (source, names) in enumerate(flood):
            first.hold(source, columns(names, 1000 * number))
        second = first.successor()
    finally:
        held_calls._MOST_NUMBERS = most
    assert not second.merged().subjects
    for number, (source, names) in enumerate(others, len(flood)):
        second.hold(source, columns(names, 1000 * number))
    first.extend(second)
    assert rows(first) == expected([*flood, *others])


@settings(deadline=None)
@given(st.lists(st.integers(0, 12), max_size=60), st.integers(1, 5), st.integers(1, 9))
def test_slices_are_whole_subjects_in_the_order_of_arrival(subjects: list[int], most: int, calls: int) -> None:
    held = HeldCalls()
    # All are known, and some of them have no call.
    held._numbers.of_billers(Ids.of(f"b{number}" for number in range(13)))
    for start in range(0, len(subjects), 7):
        held.hold("log/calls/0", columns([f"b{number}" for number in subjects[start : start + 7]], start))
    found = held.merged().slices(subjects=most, calls=calls)
    assert sorted(place for places in found for place in places.tolist()) == list(range(len(subjects)))
    seen: set[int] = set()
    for places in found:
        within = [subjects[place] for place in places.tolist()]
        assert within == sorted(within)
        assert not seen & set(within)
        seen |= set(within)
        assert len(set(within)) <= most
        assert len(within) <= calls or len(set(within)) == 1
        for one in set(within):
            own = [place for place in places.tolist() if subjects[place] == one]
            assert own == sorted(own)


large = st.integers(0, 2**40)


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(large, large, large), min_size=1, max_size=4), min_size=1, max_size=5))
def test_numbers_that_are_not_small_stay_what_they_are(batches: list[list[tuple[int, int, int]]]) -> None:
    held = HeldCalls()
    for batch in batches:
        ms, latency, offset = (np.array(column, np.int64) for column in zip(*batch, strict=True))
        zeros = np.zeros(len(batch), np.int64)
        held.hold("log/calls/0", CallColumns(Ids.of(["b"]), zeros, ms, latency, zeros, offset))
    rows_of_all = [row for batch in batches for row in batch]
    # Twice, as after a write that failed: what was merged is a batch's again.
    for _ in range(2):
        merged = held.merged()
        found = merged.of(np.arange(len(merged)))
        each = zip(found.timestamp_ms.tolist(), found.latency_us.tolist(), found.offset.tolist(), strict=True)
        assert list(each) == rows_of_all


def test_a_call_takes_seventeen_bytes() -> None:
    held = HeldCalls()
    for start in range(0, 100_000, 1000):
        batch = columns(["b"] * 1000, start)
        # Up to 35 minutes fit.
        batch.latency_us = batch.latency_us // 2
        held.hold("log/calls/0", batch)
    for _ in range(2):
        merged = held.merged()
        once = (merged.subject, merged.after_ms, merged.latency_us, merged.outcome, merged.after_offset)
        assert sum(one.nbytes for one in once) == 17 * len(held)
        # Not each batch beside all of them.
        assert all(np.shares_memory(part, merged.after_ms) for part in held._after_ms)
