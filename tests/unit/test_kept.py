"""Answers that are kept for a moment."""

import asyncio

import pytest

from api.kept import Kept


async def test_those_who_ask_together_get_one_answer() -> None:
    kept, made, go_on = Kept[int](60.0), 0, asyncio.Event()

    async def make() -> int:
        nonlocal made
        made += 1
        await go_on.wait()
        return made

    asked = [asyncio.create_task(kept.get("one", make)) for _ in range(5)]
    await asyncio.sleep(0)
    go_on.set()
    assert await asyncio.gather(*asked) == [1] * 5
    assert await kept.get("other", make) == 2


async def test_what_is_old_is_made_anew() -> None:
    kept = Kept[int](-1.0)
    answers = iter(range(3))

    async def make() -> int:
        return next(answers)

    assert [await kept.get("one", make) for _ in range(3)] == [0, 1, 2]


async def test_a_failure_is_not_kept() -> None:
    kept = Kept[int](60.0)

    async def fail() -> int:
        raise ValueError("not now")

    async def make() -> int:
        return 7

    with pytest.raises(ValueError, match="not now"):
        await kept.get("one", fail)
    assert await kept.get("one", make) == 7


async def test_only_so_many_answers_are_kept() -> None:
    kept = Kept[int](60.0)
    for number in range(200):

        async def make(found: int = number) -> int:
            return found

        assert await kept.get(number, make) == number
    assert len(kept._entries) <= 64
