"""What a worker does beside its agents, as tasks of the Faust app: each begins with the app, and ends with it."""

import asyncio
import os
import secrets
import socket
import time
from contextlib import suppress

import faust
import structlog
from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

import metrics
from detection.errors import DependencyError
from detection.hours import SECOND_MS
from detection.rules.platform import Grouping
from settings import Settings
from state.alerting import AlertingHints
from state.archive import Archive
from state.database import Database
from state.history import History
from state.migrate import migrate
from state.notified import NotifiedStore
from state.redis_store import RedisStore
from stream import archive, health, restart
from stream.announcing import ALERTS, THRESHOLDS
from stream.archive import ArchiveReader
from stream.buffer import OBSERVATIONS
from stream.channels.targets import load_targets, only_lines
from stream.cohorts import CohortRefresh
from stream.coverage import CoverageRefresh
from stream.current_rules import CurrentRules
from stream.health import Health
from stream.liveness import Liveness, StalledError
from stream.notifying import Notifier, Watched
from stream.retention import Retention
from stream.rhythm import Rhythm
from stream.worker import Worker

log = structlog.get_logger()

# How often a worker looks whether the cohorts are due.
_COHORT_LOOK_SECONDS = 20
# How often a worker looks for other rules, and for what people have said of alerts.
_RULES_LOOK_SECONDS = 2.0
# How often open alerts are compared with what people were told.
_NOTIFY_SECONDS = 1.0
# How often a worker looks for what is older than is kept.
_RETENTION_SECONDS = 600
_RETENTION_RETRY_SECONDS = 5
# How long a worker that stands still may take to stop.
_STOP_SECONDS = 10.0


def add_flushes(app: faust.App, worker: Worker, history: History, settings: Settings) -> None:
    """Write what was absorbed, carry on what the outboxes hold, and close what is due."""
    rhythm = Rhythm(worker, sleep=app.sleep, should_stop=lambda: app.should_stop, flush_seconds=settings.flush_seconds)

    @app.task  # type: ignore[untyped-decorator]  # faust declares it without types
    async def flush_regularly() -> None:
        await rhythm.run()

    @app.task  # type: ignore[untyped-decorator]  # faust declares it without types
    async def carry_history() -> None:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(DependencyError), wait=wait_random_exponential(max=5)
        ):
            with attempt:
                await asyncio.to_thread(migrate, settings.postgres())
                await history.open()
        while not app.should_stop:
            await app.sleep(settings.flush_seconds)
            await worker.carry_history()

    # Of a series only its last threshold counts: the topic need not keep those before.
    topics = [
        app.topic(THRESHOLDS, partitions=settings.kafka_partitions, compacting=True, deleting=False),
        app.topic(ALERTS, partitions=settings.kafka_partitions),
    ]

    @app.task  # type: ignore[untyped-decorator]  # faust declares it without types
    async def announce() -> None:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(KafkaError), wait=wait_random_exponential(max=5)
        ):
            with attempt:
                for topic in topics:
                    await topic.maybe_declare()
        while not app.should_stop:
            await app.sleep(settings.flush_seconds)
            await worker.announce()


def add_rules(app: faust.App, rules: CurrentRules, worker: Worker, alerting: AlertingHints) -> None:
    """Follow the rules, and look for what people have said of alerts."""

    @app.task  # type: ignore[untyped-decorator]  # faust declares it without types
    async def follow_rules() -> None:
        while not app.should_stop:
            await app.sleep(_RULES_LOOK_SECONDS)
            await rules.follow()
            # What people have said of alerts lies in the outboxes of their subjects, and only the API knows of it.
            try:
                await worker.find_unrelayed(list(await alerting.hinted()))
            except DependencyError as error:
                log.warning("alerting.postponed", dependency=error.dependency, reason=error.reason)


def add_notifier(
    app: faust.App, watched: Watched, memory: NotifiedStore, instruments: metrics.Instruments, settings: Settings
) -> Notifier:
    """Tell people of alerts, while this worker is the one that does; the caller closes what is returned."""
    """Of all workers one notifies at a time: they agree by a lease. Raises SettingsError for targets that are wrong."""
    notifier = Notifier(
        watched,
        memory,
        only_lines() if settings.targets is None else load_targets(settings.targets),
        instruments,
        holder=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
        wait_ms=int(settings.notify_after_seconds * SECOND_MS),
        grouping=Grouping(share=settings.platform_share, least=settings.platform_billers),
    )

    @app.task  # type: ignore[untyped-decorator]  # faust declares it without types
    async def notify() -> None:
        while not app.should_stop:
            await app.sleep(_NOTIFY_SECONDS)
            await notifier.reconcile(_wall_ms())

    return notifier


def add_cohorts(app: faust.App, cohorts: CohortRefresh, settings: Settings) -> None:
    """Refresh the cohorts when they are due."""

    @app.task  # type: ignore[untyped-decorator]  # faust declares it without types
    async def refresh_cohorts() -> None:
        while not app.should_stop:
            await app.sleep(min(settings.cohort_seconds, _COHORT_LOOK_SECONDS))
            await cohorts.refresh()


def add_coverage(app: faust.App, coverage: CoverageRefresh, settings: Settings) -> None:
    """Sum up how often thresholds held, as often as the cohorts are looked at; apart, because it takes its time."""

    @app.task  # type: ignore[untyped-decorator]  # faust declares it without types
    async def refresh_coverage() -> None:
        while not app.should_stop:
            await app.sleep(min(settings.cohort_seconds, _COHORT_LOOK_SECONDS))
            await coverage.refresh()


def add_archive(
    app: faust.App, database: Database, store: RedisStore, instruments: metrics.Instruments, settings: Settings
) -> None:
    """Read observation events into PostgreSQL, and drop there what is older than is kept."""
    wall_ms = _wall_ms if settings.clock == "wall" else None
    retention = Retention(database, store, settings.keeping(), wall_ms=wall_ms)
    reader = ArchiveReader(
        Archive(database, label_sets=settings.label_sets),
        store,
        instruments,
        log_id=settings.kafka_log_id,
        connect=lambda: archive.connect(
            settings.brokers(), settings.kafka_group, session_seconds=settings.kafka_session_seconds
        ),
        horizon=retention.horizon,
        future_ms=settings.future_seconds * SECOND_MS,
        pause_seconds=settings.flush_seconds,
    )

    # Made here: a broker that makes topics by itself would give it another number of partitions.
    topic = app.topic(OBSERVATIONS, partitions=settings.kafka_partitions)

    @app.task  # type: ignore[untyped-decorator]  # faust declares it without types
    async def read_for_archive() -> None:
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(KafkaError), wait=wait_random_exponential(max=5)
            ):
                with attempt:
                    await topic.maybe_declare()
            await reader.run(lambda: app.should_stop)
        except Exception as error:
            log.exception("archive.failed")
            await app.crash(error)
            raise

    @app.task  # type: ignore[untyped-decorator]  # faust declares it without types
    async def keep_history() -> None:
        with suppress(DependencyError):
            await retention.tell_time()
        # The database is opened meanwhile.
        pause = _RETENTION_RETRY_SECONDS
        while not app.should_stop:
            await app.sleep(pause)
            pause = _RETENTION_SECONDS if await retention.look() else _RETENTION_RETRY_SECONDS


def add_health(
    app: faust.App, state: Health, liveness: Liveness, registry: CollectorRegistry, settings: Settings
) -> None:
    """Answer over HTTP, and stop a worker that stands still."""

    @app.task  # type: ignore[untyped-decorator]  # faust declares it without types
    async def answer_http() -> None:
        if settings.worker_http_port:
            health.serve(state, registry, host=settings.http_host, port=settings.worker_http_port)
        while not app.should_stop:
            state.beat()
            await app.sleep(1.0)

    @app.task  # type: ignore[untyped-decorator]  # faust declares it without types
    async def watch() -> None:
        while not app.should_stop:
            await app.sleep(settings.stall_seconds / 4)
            try:
                await liveness.look()
            except StalledError as error:
                log.error("worker.stalled", reason=str(error))  # noqa: TRY400  # it is no defect of ours
                state.stalled = str(error)
                restart.start_again_within(_STOP_SECONDS)
                await app.crash(error)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
