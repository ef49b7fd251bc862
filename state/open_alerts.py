"""All open alerts, wherever they are: the hints say which subjects to look at, and the subjects what is true."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import structlog

from detection.errors import UnreadableStateError
from detection.rules.alert import Alert
from detection.subject import Subject
from state.alerting import AlertingHints
from state.store import StateStore

log = structlog.get_logger()

_SUBJECTS_AT_ONCE: Final = 1000


class OpenAlerts:
    """Reads them; DependencyError when the store does not answer."""

    def __init__(self, store: StateStore, hints: AlertingHints) -> None:
        self._store = store
        self._hints = hints

    async def open_alerts(self, also: Collection[Subject] = ()) -> list[Alert]:
        """Those that are open, and those that were resolved and are still remembered, in no particular order.

        `also` are subjects to look at that need not be hinted at any more.
        """
        found, _ = await self._look(also)
        return found

    async def tidy(self) -> None:
        """Take out the hints that lead to nothing any more, unless they are given again meanwhile."""
        found, scores = await self._look(())
        alerting = {alert.subject for alert in found if alert.state == "open"}
        await self._hints.forget({subject: score for subject, score in scores.items() if subject not in alerting})

    async def _look(self, also: Collection[Subject]) -> tuple[list[Alert], dict[Subject, int]]:
        scores = await self._hints.hinted()
        subjects = list({**scores, **dict.fromkeys(also, 0)})
        found: list[Alert] = []
        for start in range(0, len(subjects), _SUBJECTS_AT_ONCE):
            stored = await self._read(subjects[start : start + _SUBJECTS_AT_ONCE])
            found += [one for alerts in stored.values() for one in alerts.values() if one.state != "pending"]
        return found, scores

    async def _read(self, subjects: Sequence[Subject]) -> Mapping[Subject, Mapping[str, Alert]]:
        """One that nobody can read is left out, and said: the alerts of the others must not wait for its repair."""
        try:
            return await self._store.alerts(subjects)
        except UnreadableStateError as error:
            if len(subjects) == 1:
                log.error("alerts.unreadable", reason=str(error))  # noqa: TRY400  # the message names the key
                return {}
            middle = len(subjects) // 2
            return {**await self._read(subjects[:middle]), **await self._read(subjects[middle:])}
