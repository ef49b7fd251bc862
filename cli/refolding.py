"""Models of a subject folded anew from the history: what training and exclusions do, for all of its series at once."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from api.connections import Connections, connected
from api.refolding import is_current, known_hours, renew, until_written, write
from cli.progress import Progress
from detection.catalogue import Metric
from detection.errors import InputError
from detection.rows import Observation
from detection.rules.watch import Rules
from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.training import n_missing, refold
from settings import Settings


@dataclass(frozen=True, slots=True)
class Fold:
    """One series: hours learned before and after, hours that the history has lost, and whether the model is another."""

    slug: str
    n_before: int
    n_after: int
    n_missing: int
    is_changed: bool


@dataclass(frozen=True, slots=True)
class Refolded:
    """One subject; refused, with nothing written, where a series misses hours and nobody said that this is meant."""

    subject: Subject
    folds: list[Fold] = field(default_factory=list)
    is_refused: bool = False

    @classmethod
    def refused(cls, subject: Subject, folds: Sequence[Fold]) -> Self:
        """Of a subject that is left as it is."""
        return cls(subject, list(folds), is_refused=True)

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "subject": str(self.subject),
            "is_refused": self.is_refused,
            "series": {
                one.slug: {
                    "learned_before": one.n_before,
                    "learned": one.n_after,
                    "missing": one.n_missing,
                    "is_changed": one.is_changed,
                }
                for one in self.folds
            },
        }

    def text(self) -> str:
        """For people, a line a series."""
        return "\n".join(f"{self.subject} {one.slug}: {self._said(one)}" for one in self.folds)

    def _said(self, one: Fold) -> str:
        if one.n_missing and self.is_refused:
            return f"left as it is: {one.n_missing:,} of {one.n_before:,} learned hours are not in the history"
        if self.is_refused:
            return "left as it is"
        changed = "another model than before" if one.is_changed else "the same model as before"
        return f"{one.n_after:,} hours learned anew, {one.n_before:,} were before; {changed}"


async def refold_subjects(
    settings: Settings, texts: Sequence[str], *, is_forced: bool, progress: Progress
) -> list[Refolded]:
    """Fold the models of each of these subjects anew.

    InputError for one that is not known, before anything is written; DependencyError where Redis or PostgreSQL is away;
    ConflictError where a worker was always faster.
    """
    subjects = list(dict.fromkeys(map(Subject.parse, texts)))
    async with connected(settings) as parts:
        stored = {one.subject for one in await parts.store.heads(subjects)}
        if unknown := [str(one) for one in subjects if one not in stored]:
            raise InputError(f"nothing is known of {', '.join(unknown)}")
        done = []
        with progress:
            for subject in subjects:
                one = _Refold(parts, subject, is_forced=is_forced)
                done.append(await until_written(one.attempt, what=str(subject)))
                progress.advance("subjects")
        return done


class _Refold:
    """One subject; each attempt reads everything anew, works it out in a thread, and stores it if nobody was faster."""

    def __init__(self, parts: Connections, subject: Subject, *, is_forced: bool) -> None:
        self.parts = parts
        self.subject = subject
        self.is_forced = is_forced

    async def attempt(self) -> Refolded | None:
        """None when another writer was faster."""
        parts, subject = self.parts, self.subject
        clock_ms = await parts.clock_ms()
        state = (await parts.store.load([subject])).get(subject)
        if state is None:
            raise InputError(f"nothing is known of {subject}")
        known = {metric: await known_hours(parts, subject, metric.slug) for metric in state.metrics()}
        if not await is_current(parts, state):
            return None
        missing = {metric: n_missing(state, metric, hours) for metric, hours in known.items()}
        if any(missing.values()) and not self.is_forced:
            return Refolded.refused(
                subject,
                [_fold(state, metric, missing[metric], learned=_learned(state, metric)) for metric in known],
            )
        rules = (await parts.rules.rules()).book()
        folds = await asyncio.to_thread(self._work_out, state, known, missing, clock_ms, rules)
        is_changed = any(one.is_changed for one in folds)
        return Refolded(subject, folds) if await write(parts, state, is_changed=is_changed) else None

    def _work_out(
        self,
        state: SubjectState,
        known: dict[Metric, dict[int, Observation]],
        missing: dict[Metric, int],
        clock_ms: int,
        rules: Rules,
    ) -> list[Fold]:
        folds = []
        for metric, hours in known.items():
            before = _learned(state, metric)
            trained = refold(state, metric, known=hours, policy=self.parts.policy)
            folds.append(_fold(state, metric, missing[metric], learned=before, is_changed=trained.is_changed))
        renew(state, clock_ms, self.parts.policy, rules)
        return folds


def _learned(state: SubjectState, metric: Metric) -> int:
    model = state.models.get(metric.slug)
    return 0 if model is None else model.n_learned


def _fold(state: SubjectState, metric: Metric, missing: int, *, learned: int, is_changed: bool = False) -> Fold:
    return Fold(metric.slug, learned, _learned(state, metric), missing, is_changed)
