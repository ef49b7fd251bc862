"""The rules that are in force, as this worker last read them."""

from collections.abc import Callable, Sequence

import structlog

from detection.errors import DependencyError, UnreadableStateError
from detection.rules.book import RuleBook
from detection.rules.rule import Rule
from detection.subject import Subject
from state.rule_files import RuleFile, apply_once
from state.rule_store import RuleStore

log = structlog.get_logger()


class CurrentRules:
    """A `detection.rules.watch.Rules` that follows the store; empty until it was `read` for the first time.

    Before that, the rules of `file` are made those of the store.
    """

    def __init__(self, store: RuleStore, *, file: RuleFile | None = None, wall_ms: Callable[[], int]) -> None:
        self._store = store
        self._file = file
        self._wall_ms = wall_ms
        self.book = RuleBook(())
        self._is_read = False

    def for_subject(self, subject: Subject) -> Sequence[Rule]:
        return self.book.for_subject(subject)

    async def read(self) -> None:
        """Follow the store; raises DependencyError, and UnreadableStateError for rules that nobody can have written.

        To be awaited before anything is judged: with other rules than those that opened it an alert would end.
        """
        if not self._is_read and self._file is not None:
            await apply_once(self._store, self._file, at_ms=self._wall_ms())
        if self._is_read and await self._store.revision() == self.book.revision:
            return
        self.book = (await self._store.rules()).book()
        self._is_read = True
        log.info("rules.read", rules=len(self.book), revision=self.book.revision)

    async def follow(self) -> None:
        """As `read`; while the store is away, or nobody can read what is in it, the rules stay as they were."""
        try:
            await self.read()
        except UnreadableStateError as error:
            log.error("rules.unreadable", reason=str(error))  # noqa: TRY400  # the message names the field
        except DependencyError as error:
            log.warning("rules.postponed", dependency=error.dependency, reason=error.reason)
