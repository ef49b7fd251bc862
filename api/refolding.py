"""What training and exclusions share: a series' whole history, and the write of a state that was folded anew."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from api.connections import Connections
from detection.errors import ConflictError
from detection.live_normals import live_normals
from detection.policy import Policy
from detection.rows import Observation
from detection.rules.measured import hours_of
from detection.rules.watch import Rules, watch
from detection.subject import Subject
from detection.subject_state import SubjectState

# A worker that writes the same subject all the time lets one of so many writes of ours through.
_ATTEMPTS = 8
_PAUSE_SECONDS = 0.05

Answer = TypeVar("Answer")


async def until_written(attempt: Callable[[], Awaitable[Answer | None]], *, what: str) -> Answer:
    """The answer of the first attempt that gives one: None says that another writer was faster.

    Raises ConflictError when one always was.
    """
    for number in range(_ATTEMPTS):
        answer = await attempt()
        if answer is not None:
            return answer
        # Chance keeps two requests that collided from colliding again; nothing that is stored depends on it.
        await asyncio.sleep(_PAUSE_SECONDS * number * random.random())  # noqa: S311 (no secret)
    raise ConflictError(f"{what}: another writer was faster {_ATTEMPTS} times in a row")


async def known_hours(parts: Connections, subject: Subject, slug: str) -> dict[int, Observation]:
    """Every closed hour of the series: what the history has, and what is still on its way there.

    In this order: a window leaves the outbox only after the history has it.
    """
    on_its_way = (await parts.store.outbox([subject])).get(subject, {})
    rows = await parts.history.read(subject, slug)
    known = {row.hour: Observation(row.hour, row.value, row.count) for row in rows}
    for hour, window in on_its_way.items():
        for value in window.values():
            if value.metric.slug == slug:
                known.setdefault(hour, Observation(hour, value.value, value.count))
    return known


async def is_current(parts: Connections, state: SubjectState) -> bool:
    """Whether nobody has written the subject since the state was loaded.

    A worker may have learned meanwhile: of a window that the state still has open, the history knows already.
    """
    heads = await parts.store.heads([state.subject])
    return state.rev == (heads[0].rev if heads else 0)


def renew(state: SubjectState, clock_ms: int, policy: Policy, rules: Rules) -> None:
    """Publish what was folded anew, and do what a worker does after a closing: it finds nothing left to close."""
    # The topic `thresholds` hears of it with the next closing: no worker looks at this outbox before.
    state.announces = False
    state.publish(clock_ms, policy)
    state.live = live_normals(state, state.live, policy)
    watch(state, rules, policy, measured=list(hours_of(state)) if state.subject.kind == "biller" else ())


async def write(parts: Connections, state: SubjectState, *, is_changed: bool) -> bool:
    """Whether the state is stored; False where another writer was faster."""
    # Nothing to write may mean that an earlier try wrote it, without hearing from the replicas that are asked for.
    store = parts.store.save if is_changed else parts.store.confirm
    has_news = bool(state.transitions)
    if has_news:
        await parts.hints.hint([state.subject], now_ms=parts.wall_ms())
    if state.rev + is_changed and await store([state]):
        return False
    if has_news:
        await parts.hints.hint([state.subject], now_ms=parts.wall_ms())
    return True
