"""Much work, part by part, a few parts at a time: while the store works on one, the next is computed."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


async def each_part(
    items: Sequence[Item], work: Callable[[Sequence[Item]], Awaitable[None]], *, size: int, at_once: int
) -> None:
    """Work on the items in parts of this size; the first failure ends all of it, and is raised as it is."""
    parts = iter([items[at : at + size] for at in range(0, len(items), size)])

    async def work_off() -> None:
        for part in parts:
            await work(part)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work_off())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
