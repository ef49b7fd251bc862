"""Statistics of the past of a subject, page by page: of models from what the archive keeps, of billers from hours."""

import asyncio
from dataclasses import replace
from typing import Final

from detection.errors import TooLargeError
from detection.subject import Subject
from detection.windows import CallWindow
from state.call_statistics import page_of_calls
from state.database import Database
from state.gauge_statistics import page_of_gauges
from state.questions import Page, Position, Question
from state.store import StateStore

_SECONDS: Final = 10.0


class Statistics:
    """Reads, and never writes; DependencyError while PostgreSQL, or for a biller Redis, does not answer."""

    def __init__(self, database: Database, store: StateStore, *, seconds: float = _SECONDS) -> None:
        self._database = database
        self._store = store
        self._seconds = seconds

    async def page(self, question: Question, *, after: Position | None = None, limit: int = 100) -> Page:
        """Up to `limit` answers behind `after`; TooLargeError for a question that takes too long to answer."""
        recent = await self._recent(question.subject) if question.subject.kind == "biller" else {}
        async with self._database.connection() as connection:
            try:
                async with asyncio.timeout(self._seconds):
                    if question.subject.kind == "biller":
                        page = await page_of_calls(connection, question, recent=recent, after=after, limit=limit)
                    else:
                        page = await page_of_gauges(connection, question, after=after, limit=limit)
            except TimeoutError:
                raise TooLargeError(
                    f"{question.subject}: the answer takes more than {self._seconds:g} seconds to find: ask for a "
                    "shorter range, fewer metrics or longer windows"
                ) from None
        if not page.is_known:
            # The stream may have brought the first of it just now.
            page = replace(page, is_known=bool(await self._store.heads([question.subject])))
        return page

    async def _recent(self, subject: Subject) -> dict[int, CallWindow]:
        """The hours that are not learned, or on their way to the history; in this order, so that none is missed."""
        state = (await self._store.load_counts([subject])).get(subject)
        windows = dict((await self._store.outbox([subject])).get(subject, {}))
        if state is not None:
            windows |= state.windows
        return {hour: window for hour, window in windows.items() if isinstance(window, CallWindow) and window.calls}
