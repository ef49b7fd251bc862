"""A subject's exclusions changed: what they take out of its models, or give back, by folding its history again."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from api.connections import Connections
from api.problems import HISTORY_INCOMPLETE, TOO_MANY_EXCLUSIONS, UNKNOWN_SUBJECT, Fault, RefusedError
from api.refolding import is_current, known_hours, renew, until_written, write
from detection.catalogue import Metric
from detection.exclusions import MOST_EXCLUSIONS, Exclusions
from detection.rows import Observation
from detection.rules.watch import Rules
from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.training import n_missing, refold

# What the exclusions are to be, of what they are; it may refuse.
Wish = Callable[[Exclusions], Exclusions]


@dataclass(frozen=True, slots=True)
class Relearned:
    """A model that is another now: the hours that it has learned, and those that it has not for being excluded."""

    n_learned: int
    n_excluded: int


@dataclass(frozen=True, slots=True)
class Changed:
    """The exclusions of a subject before and after, and the models that are others now, by slug."""

    before: Exclusions
    after: Exclusions
    relearned: Mapping[str, Relearned]


async def change_exclusions(parts: Connections, subject: Subject, wish: Wish) -> Changed:
    """Let the subject's exclusions be as wished, and its models what they would be had it always been so.

    All in one write, or nothing. Raises RefusedError for an unknown subject, for too many exclusions and where the
    history does not hold all that was learned; ConflictError where other writers were faster; DependencyError.
    """

    async def attempt() -> Changed | None:
        clock_ms = await parts.clock_ms()
        state = (await parts.store.load([subject])).get(subject)
        if state is None:
            raise RefusedError(UNKNOWN_SUBJECT, f"{subject}: no event of it was counted, nor was it trained")
        before, after = state.exclusions, wish(state.exclusions)
        if after == before:
            return Changed(before, after, {}) if await write(parts, state, is_changed=False) else None
        if len(after) > max(MOST_EXCLUSIONS, len(before)):
            raise RefusedError(
                TOO_MANY_EXCLUSIONS,
                f"{subject}: it would have {len(after)} exclusions, and {MOST_EXCLUSIONS} is the most; one that "
                "covers several of them may do",
            )
        changed = {*before} ^ {*after}
        known: dict[Metric, dict[int, Observation]] = {}
        # Also for hours that were only judged, on copies: the verdict before theirs is in the history alone.
        if any(one.from_hour < max(state.settled_before, state.published_hour) for one in changed):
            for metric in state.metrics():
                if any(one.means(metric.slug) for one in changed):
                    known[metric] = await known_hours(parts, subject, metric.slug)
        if not await is_current(parts, state):
            return None
        rules = (await parts.rules.rules()).book()
        relearned = await asyncio.to_thread(_work_out, parts, state, after, known, clock_ms, rules)
        return Changed(before, after, relearned) if await write(parts, state, is_changed=True) else None

    return await until_written(attempt, what=str(subject))


def _work_out(
    parts: Connections,
    state: SubjectState,
    after: Exclusions,
    known: Mapping[Metric, Mapping[int, Observation]],
    clock_ms: int,
    rules: Rules,
) -> dict[str, Relearned]:
    """Give the state these exclusions, and fold the history again of each series of which it is known here."""
    _require_all(state, known)
    state.exclusions, state.has_new_exclusions = after, True
    relearned = {}
    for metric, hours in known.items():
        if refold(state, metric, known=hours, policy=parts.policy).is_changed:
            model = state.models.get(metric.slug)
            relearned[metric.slug] = Relearned(
                n_learned=0 if model is None else model.n_learned,
                n_excluded=sum(after.holds(metric.slug, hour) for hour in hours),
            )
    if known:
        renew(state, clock_ms, parts.policy, rules)
    return relearned


def _require_all(state: SubjectState, known: Mapping[Metric, Mapping[int, Observation]]) -> None:
    missing = {metric.slug: n_missing(state, metric, hours) for metric, hours in known.items()}
    faults = [Fault(slug, f"{n} learned hours are missing") for slug, n in missing.items() if n]
    if faults:
        named = ", ".join(f"{fault.field}: {fault.reason}" for fault in faults)
        raise RefusedError(
            HISTORY_INCOMPLETE,
            f"{state.subject}: the history does not hold all that was learned, so it cannot be learned again without "
            f"some of it ({named}). Hours that are not learned yet can be excluded all the same; training with "
            "mode=replace starts a series over",
            faults,
        )
