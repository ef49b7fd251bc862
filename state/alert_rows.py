"""How an alert changed, as the row of it that the history keeps."""

from collections.abc import Sequence

from detection.rules.alert import Transition
from state.alert_history import AlertHistory, AlertRow
from state.moments import moment_of


class AlertChanges:
    """A `stream.relay.AlertSink` in PostgreSQL."""

    def __init__(self, history: AlertHistory) -> None:
        self._history = history

    async def record(self, changes: Sequence[Transition]) -> None:
        await self._history.record(map(row_of, changes))


def row_of(one: Transition) -> AlertRow:
    """The alert after the change."""
    alert = one.alert
    return AlertRow(
        id=alert.id,
        opened_at=moment_of(alert.since_ms if alert.opened_ms is None else alert.opened_ms),
        subject=str(alert.subject),
        metric=alert.slug,
        rule=alert.rule,
        severity=alert.severity,
        owner=alert.owner,
        state=alert.state,
        value=alert.value,
        boundary=alert.boundary,
        worst=alert.worst,
        count=alert.count,
        line=alert.line,
        rev=one.rev,
        resolved_at=None if alert.resolved_ms is None else moment_of(alert.resolved_ms),
        acknowledged_by=alert.acknowledged_by or None,
        acknowledged_at=None if alert.acknowledged_ms is None else moment_of(alert.acknowledged_ms),
        feedback=alert.opinion,
        detail=dict(alert.detail),
    )
