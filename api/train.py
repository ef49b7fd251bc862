"""`POST /metrics/train/...`: a data set of the past into the history, and the model to the fold over it."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from api import openapi
from api.access import GuardedRoute
from api.answers import fields_of, prediction, prior_fields
from api.bodies import format_of, read_body
from api.connections import Connections, connections
from api.datasets import DataSet, FromHistory, read_data_set
from api.problems import INVALID_ROWS, SHOWN_ERRORS, Fault, RefusedError
from api.refolding import is_current, known_hours, renew, until_written, write
from api.schemas import TrainCalls, TrainFromHistory, TrainRows
from api.schemas import Trained as TrainedAnswer
from api.subjects import BillerId, GaugeName, MetricTypeId, ModelName, ModelVersion, biller_series, gauge_series
from detection.backtest import Tally
from detection.catalogue import Metric
from detection.cohorts import Cohorts
from detection.errors import InvalidRowError
from detection.rows import Observation, Row
from detection.rules.watch import Rules
from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.training import Mode, Sifted, first_open, sift, train
from state.survey import lately_of

router = APIRouter(tags=["train"], route_class=GuardedRoute)

Parts = Annotated[Connections, Depends(connections)]
ModeQuery = Annotated[
    Mode,
    Query(description="`merge` adds to what is known; `replace` starts this series over from exactly these rows."),
]

_BODY = openapi.body(
    TrainRows, TrainCalls, TrainFromHistory, examples=openapi.DATA_SETS, is_required=True, more=openapi.TABLES
)
_RESPONSES = openapi.responses(TrainedAnswer, openapi.TRAINED, 404, 409, 413, 415, 422, 503)


@router.post(
    "/metrics/train/gauges/{metric}/{name}/{version:rest}",
    summary="Train a model's gauge",
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra=_BODY,
)
async def train_gauge(
    request: Request,
    parts: Parts,
    metric: GaugeName,
    name: ModelName,
    version: ModelVersion,
    mode: ModeQuery = "merge",
) -> Response:
    """As for a biller's metric."""
    return await _train(request, parts, *gauge_series(metric, name, version), mode)


@router.post(
    "/metrics/train/{metricTypeId}/{billerId:rest}",  # noqa: FAST003 (both are aliases of the parameters below)
    summary="Train a biller's metric",
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra=_BODY,
)
async def train_biller(
    request: Request,
    parts: Parts,
    metric_type_id: MetricTypeId,
    biller_id: BillerId,
    mode: ModeQuery = "merge",
) -> Response:
    """Learn past hours: JSON, NDJSON or CSV, gzip allowed; rows are counted from 1, a table's header not.

    Rows that are known already change nothing; rows that cannot be learned are listed with their reason, and the others
    are taken. Half a data set and then the other half, in either order, leads to the same model as all at once.
    """
    return await _train(request, parts, *biller_series(metric_type_id, biller_id), mode)


async def _train(request: Request, parts: Connections, subject: Subject, metric: Metric, mode: Mode) -> Response:
    settings = parts.settings
    form = format_of(request, taken=("json", "ndjson", "csv"))
    body = await read_body(request, limit=settings.max_body_bytes)
    given = await asyncio.to_thread(
        lambda: read_data_set(body, form, subject=subject, metric=metric, max_rows=settings.max_rows)
    )
    if isinstance(given, DataSet) and not given.rows:
        raise _nothing_readable(given.rejected)
    training = _Training(parts, subject, metric, given, mode)
    answer = await until_written(training.attempt, what=f"{subject}:{metric}")
    return Response(orjson.dumps(answer), media_type="application/json")


@dataclass(frozen=True, slots=True)
class _Work:
    """What one attempt worked out, before anything is stored."""

    sifted: Sifted
    tally: Tally
    is_changed: bool


class _Training:
    """One request; each attempt reads everything anew, works it out in a thread, and stores it if nobody was faster."""

    def __init__(
        self, parts: Connections, subject: Subject, metric: Metric, given: DataSet | FromHistory, mode: Mode
    ) -> None:
        self.parts = parts
        self.subject = subject
        self.metric = metric
        self.given = given
        self.mode = mode
        # Hours that this request has put into the history itself: to the next attempt known, to the caller new.
        self._added: set[int] = set()

    async def attempt(self) -> dict[str, Any] | None:
        """The answer, or None when another writer was faster.

        The history is written before the state: a crash in between leaves rows that the next request folds in. What
        was written is read back, because another request may have been first with other values of the same hour.
        """
        parts, subject, slug = self.parts, self.subject, self.metric.slug
        clock_ms = await parts.clock_ms()
        state = (await parts.store.load([subject])).get(subject) or SubjectState(subject)
        known = await known_hours(parts, subject, slug)
        if not await is_current(parts, state):
            return None
        rows = self._rows(known)
        book = (await parts.rules.rules()).book()
        work = await asyncio.to_thread(self._work_out, state, known, rows, clock_ms, book)
        if self.mode == "replace":
            kept = {row.hour: row.observation() for row in work.sifted.accepted}
            if kept != known:
                await self._empty_outbox()
                await parts.history.replace(subject, slug, _tuples(kept.values()), live_from_hour=state.learned_before)
        elif work.sifted.accepted and isinstance(self.given, DataSet):
            added = {row.hour: row.observation() for row in work.sifted.accepted}
            await parts.history.add_training(subject, slug, _tuples(added.values()))
            self._added.update(added)
            if not added.items() <= (await known_hours(parts, subject, slug)).items():
                return None
        if not await write(parts, state, is_changed=work.is_changed):
            return None
        return self._answer(state, work, clock_ms, await self.parts.cohorts())

    async def _empty_outbox(self) -> None:
        """What is on its way would be known again after the history was replaced.

        A worker may have read the same windows to carry them, and write them after us; the history leaves those out.
        """
        for subject, hours in (await self.parts.store.learned_hours([self.subject])).items():
            await self.parts.history.record(
                {subject: {hour: one.window for hour, one in hours.items()}},
                {subject: {hour: one.judged for hour, one in hours.items()}},
            )
            await self.parts.store.relayed({subject: list(hours)})

    def _rows(self, known: dict[int, Observation]) -> list[Row]:
        match self.given:
            case DataSet(rows=rows):
                return rows
            case FromHistory(from_hour=first, before_hour=end):
                hours = [hour for hour in sorted(known) if first <= hour < end]
                return [
                    Row(number, hour, known[hour].value, known[hour].count)
                    for number, hour in enumerate(hours, start=1)
                ]

    def _work_out(
        self, state: SubjectState, known: dict[int, Observation], rows: list[Row], clock_ms: int, rules: Rules
    ) -> _Work:
        policy = self.parts.policy
        is_over = self.mode == "replace"
        closed_before = policy.closed_before(clock_ms if clock_ms >= 0 else self.parts.wall_ms())
        sifted = sift(
            rows,
            known={} if is_over else known,
            model=None if is_over else state.models.get(self.metric.slug),
            open_from=first_open(state, closed_before=closed_before, policy=policy),
            closed_before=closed_before,
            exclusions=state.exclusions,
        )
        if not sifted.accepted and not sifted.duplicates and isinstance(self.given, DataSet):
            raise _nothing_readable([*self.given.rejected, *sifted.rejected])
        trained = train(
            state,
            self.metric,
            known={} if is_over else known,
            added=sifted.accepted,
            anew=is_over or isinstance(self.given, FromHistory),
            policy=policy,
        )
        if trained.is_changed:
            renew(state, clock_ms, policy, rules)
        return _Work(sifted, trained.tally, trained.is_changed)

    def _answer(self, state: SubjectState, work: _Work, clock_ms: int, cohorts: Cohorts) -> dict[str, Any]:
        subject, metric, policy = self.subject, self.metric, self.parts.policy
        rejected = [*(self.given.rejected if isinstance(self.given, DataSet) else ()), *work.sifted.rejected]
        rejected.sort(key=lambda one: one.row)
        forecast = state.forecasts.get(metric.slug)
        fields = (
            prior_fields(subject, metric, clock_ms=clock_ms, policy=policy)
            if forecast is None
            else fields_of(subject, metric, forecast, state.verdicts.get(metric.slug), policy)
        )
        tally = work.tally
        ours = len({row.hour for row in work.sifted.duplicates} & self._added)
        return {
            "mode": self.mode,
            "accepted": len(work.sifted.accepted) + ours,
            "duplicate": len(work.sifted.duplicates) - ours,
            "rejected": [{"row": one.row, "field": one.field, "reason": one.reason} for one in rejected[:SHOWN_ERRORS]],
            "rejected_total": len(rejected),
            "is_changed": work.is_changed,
            "backtest": {
                "n": tally.hours,
                "exceedance": tally.exceedance,
                "pinball": tally.pinball,
                "skill": tally.skill,
            },
            "prediction": prediction(
                subject, metric, fields, lately=lately_of(state.minutes), clock_ms=clock_ms, cohorts=cohorts
            ),
        }


def _tuples(observations: Iterable[Observation]) -> list[tuple[int, float, int]]:
    return [(one.hour, one.value, one.count) for one in observations]


def _nothing_readable(rejected: list[InvalidRowError]) -> RefusedError:
    if not rejected:
        return RefusedError(INVALID_ROWS, "the data set has no row", [Fault("rows", "is empty")])
    rejected = sorted(rejected, key=lambda one: one.row)
    return RefusedError(
        INVALID_ROWS,
        f"all {len(rejected)} rows are refused; {rejected[0]}",
        [Fault(one.field, one.reason, row=one.row) for one in rejected],
    )
