"""The composition root of the worker: settings in, a Faust app out.

`create_app` builds, `run` runs until a signal stops it. Faust brings the consumer group, rebalancing and agents; what
is done with a batch is `stream.worker`'s.
"""

import asyncio
import os
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import faust
import structlog
from aiokafka.errors import KafkaError
from faust.exceptions import ProducerSendError
from faust.types import TP
from prometheus_client import CollectorRegistry
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

import logs
import metrics
import tracing
from detection.errors import DependencyError, SettingsError, TidemarkError
from detection.hours import SECOND_MS
from detection.live import LivePolicy
from detection.machine_code import load_streaming_code
from settings import Settings
from state.alert_history import AlertHistory
from state.alert_rows import AlertChanges
from state.alerting import RedisAlerting
from state.broker_refusal import refusal
from state.coverage import Coverage
from state.history import History
from state.open_alerts import OpenAlerts
from state.redis_notified import RedisNotified
from state.redis_rules import RedisRules
from state.redis_store import RedisStore
from state.rule_files import rules_of_setting
from stream import dead_letters, restart, tasks
from stream.announcing import Announcer, Message
from stream.buffer import CALLS, OBSERVATIONS
from stream.cohorts import CohortRefresh
from stream.coverage import CoverageRefresh
from stream.credentials import faust_credentials
from stream.current_rules import CurrentRules
from stream.dead_letters import DeadLetter
from stream.health import Health
from stream.judging import Judging
from stream.liveness import Liveness, StalledError
from stream.peek import Peeked, Place, peek
from stream.pipeline import Pipeline
from stream.placement import Placement
from stream.progress import GivenUpError
from stream.relay import HistoryRelay
from stream.trails import Trails
from stream.transport import BatchConsumer, BatchTransport, Committed, Fetched, PassThrough
from stream.tuning import spare_the_collector, take_turns
from stream.watched import WatchedStore
from stream.worker import Batch, Worker

log = structlog.get_logger()

_TOPICS = (CALLS, OBSERVATIONS)
# Records of one poll: large enough that Faust's cost per event is nothing, small enough for a steady flow.
_POLL_RECORDS = 20_000
# Batches that wait in front of an agent.
_WAITING_BATCHES = 8
# A broker that does not answer within this is not waited for: what was asked is then not known.
_PEEK_SECONDS = 10.0
# How many writes the search for what no worker has handed on may be put off by.
_SEARCH_WAITS = 10


class WorkerApp(faust.App):
    """A Faust app that reads batches and closes what it was given."""

    closing: tuple[Callable[[], Awaitable[None]], ...] = ()

    async def on_shutdown(self) -> None:
        """Faust has stopped the consumer, we have written what it delivered, and no task is left: connections go."""
        await super().on_shutdown()
        for close in self.closing:
            await close()


def create_app(settings: Settings) -> faust.App:
    """An app that is ready to start; connects to nothing yet."""
    app = _faust_app(settings)
    policy = settings.policy()
    store = RedisStore.connect(settings.redis(), policy, replicas=settings.redis_replicas)
    history = History(settings.postgres())
    registry = CollectorRegistry()
    instruments = metrics.instruments(registry)
    letters = app.topic(dead_letters.TOPIC, value_serializer="raw", key_serializer="raw")

    async def send_dead_letters(some: Sequence[DeadLetter]) -> None:
        # The first await only puts a message into the producer's buffer; the second one is the broker's answer.
        try:
            sent = [await letters.send(value=letter.as_json()) for letter in some]
            for one in sent:
                await one
        except (KafkaError, ProducerSendError) as error:
            raise DependencyError("kafka", f"a dead letter was not taken: {error!r}") from error

    async def announce(messages: Sequence[Message]) -> None:
        try:
            sent = [await app.producer.send(one.topic, one.key, one.value, None, None, None) for one in messages]
            for one in sent:
                await one
        except (KafkaError, ProducerSendError) as error:
            raise DependencyError("kafka", f"an announcement was not taken: {error!r}") from error

    alerting = RedisAlerting(store.client)
    rules = CurrentRules(RedisRules(store.client), file=rules_of_setting(settings.rules), wall_ms=_wall_ms)
    pipeline = Pipeline(
        store,
        policy,
        log_id=settings.kafka_log_id,
        future_ms=settings.future_seconds * SECOND_MS,
        send_dead_letters=send_dead_letters,
        wall_ms=_wall_ms if settings.clock == "wall" else None,
        cached_subjects=settings.cached_subjects,
        judging=Judging(rules, policy, LivePolicy(false_alerts=settings.false_alerts)),
    )

    async def look(offsets: Mapping[Place, int]) -> dict[Place, Peeked]:
        return await peek(settings.brokers(), offsets, within_seconds=_PEEK_SECONDS)

    trails = Trails(tracing.connect(settings, "worker"))
    worker = Worker(
        pipeline,
        store,
        HistoryRelay(store, history, AlertChanges(AlertHistory(history.database))),
        Announcer(store, announce, alerting),
        instruments,
        placement=Placement(store, instruments, source=pipeline.source, peek=look, now_ms=_wall_ms),
        acknowledge=lambda event: event.ack(),
        misplace=lambda: _consumer(app).misplace(),
        prepare=rules.read,
        trails=trails,
        flush_events=settings.flush_events,
        dead_letter_share=settings.dead_letter_share,
    )
    for topic in _TOPICS:
        _add_agent(app, worker, topic, settings)
    instruments.stalls.inc(restart.restarts())
    liveness = Liveness(
        store,
        look,
        pipeline.source,
        partitions=lambda: worker.partitions,
        is_placed=lambda: worker.is_placed,
        absorbed=lambda: worker.absorbed_batches,
        is_held_back=lambda: worker.is_writing,
        stall_seconds=settings.stall_seconds,
    )
    tasks.add_flushes(app, worker, history, settings)
    tasks.add_health(app, Health(is_ready=lambda: worker.is_placed), liveness, registry, settings)
    tasks.add_rules(app, rules, worker, alerting)
    cohorts = CohortRefresh(
        store, instruments, coverage=settings.coverage, every_seconds=settings.cohort_seconds, wall_ms=_wall_ms
    )
    tasks.add_cohorts(app, cohorts, settings)

    async def clock_ms() -> int:
        return _wall_ms() if settings.clock == "wall" else await store.clock()

    coverage = CoverageRefresh(
        Coverage(history.database),
        store,
        instruments,
        every_seconds=settings.cohort_seconds,
        clock_ms=clock_ms,
        wall_ms=_wall_ms,
    )
    tasks.add_coverage(app, coverage, settings)
    watched = WatchedStore(store, OpenAlerts(store, alerting), rules, _wall_ms)
    notifier = tasks.add_notifier(app, watched, RedisNotified(store.client), instruments, settings)
    tasks.add_archive(app, history.database, store, instruments, settings)
    _add_rebalancing(app, worker, trails, settings)
    app.closing = (notifier.aclose, store.aclose, history.close, partial(asyncio.to_thread, trails.close))
    return app


def run(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT; raises the TidemarkError that it had to stop for, if there was one."""
    logs.configure(settings)
    app = create_app(settings)
    spare_the_collector()
    take_turns()
    # While the group is joined, which takes longer.
    threading.Thread(target=load_streaming_code, args=(settings.policy(),), name="machine-code", daemon=True).start()
    worker = app.Worker(
        loglevel=logs.level(settings),
        redirect_stdouts=False,
        quiet=True,
        override_logging=False,
    )
    # It writes escape codes into the log, in front of a line that is then no JSON any more.
    worker.spinner = None
    try:
        worker.execute_from_commandline()
    except SystemExit as stopped:
        reason = app.crash_reason
        if isinstance(reason, StalledError):
            restart.start_again()
        if isinstance(reason, TidemarkError):
            raise reason from None
        # Faust's own error says that no broker could be reached.
        if stopped.code and (refused := asyncio.run(refusal(settings.brokers()))):
            raise SettingsError(f"kafka: {refused}") from None
        if stopped.code:
            log.error("worker.stopped", status=stopped.code)  # noqa: TRY400  # the reason was logged where it was known
        sys.exit(stopped.code)


def _faust_app(settings: Settings) -> WorkerApp:
    brokers = ";".join(f"kafka://{one.strip()}" for one in settings.kafka_brokers.split(","))
    app = WorkerApp(
        settings.kafka_group,
        broker=brokers,
        broker_credentials=faust_credentials(settings.brokers()),
        store="memory://",
        # Faust makes a folder even for an app that keeps nothing in it.
        datadir=str(Path(tempfile.gettempdir()) / f"tidemark-faust-{os.getuid()}"),
        autodiscover=False,
        web_enabled=False,
        topic_disable_leader=True,
        topic_partitions=settings.kafka_partitions,
        topic_replication_factor=settings.kafka_replicas,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=4 * 1024 * 1024,
        broker_max_poll_records=min(_POLL_RECORDS, settings.flush_events),
        broker_commit_interval=settings.flush_seconds,
        broker_session_timeout=settings.kafka_session_seconds,
        broker_heartbeat_interval=settings.kafka_session_seconds / 4,
        broker_request_timeout=max(90.0, settings.kafka_session_seconds + 1),
        stream_buffer_maxsize=_WAITING_BATCHES,
        stream_wait_empty=False,
        worker_redirect_stdouts=False,
    )
    app.transport = BatchTransport(app.conf.broker_consumer, app)
    return app


def _add_agent(app: faust.App, worker: Worker, name: str, settings: Settings) -> None:
    topic = app.topic(name, schema=PassThrough(), partitions=settings.kafka_partitions)

    # One agent to a topic and no concurrency: two would absorb a partition's batches out of order.
    @app.agent(topic, name=name, concurrency=1)
    async def absorb(stream: Any) -> None:
        async for event in stream.noack().events():
            tp = event.message.tp
            fetched: Fetched = event.value
            end = app.consumer.highwater(tp)
            batch = Batch(tp.topic, tp.partition, fetched.records, event, end=end, read_ns=fetched.read_ns)
            try:
                await worker.absorb(batch, is_current=partial(_is_current, app, event))
                fetched.records = ()
            except Exception as error:
                # Faust would restart the agent behind the lost batch, and go on. Better to stop than to lose.
                log.exception("absorb.failed", topic=tp.topic, partition=tp.partition)
                worker.abandon()
                await app.crash(error)
                raise


def _add_rebalancing(app: faust.App, worker: Worker, trails: Trails, settings: Settings) -> None:
    searches: set[asyncio.Task[None]] = set()

    async def place(committed: Committed) -> dict[Place, int] | None:
        """Where to begin; None when the worker stops for what it found, or the partitions went meanwhile."""
        try:
            positions = await worker.place({one: committed[one] for one in committed if one[0] in _TOPICS})
        except GivenUpError as error:
            log.info("placement.given_up", reason=str(error))
            return None
        except Exception as error:
            # Without it nothing is read: a worker that only sends heartbeats must not look alive.
            log.exception("placement.failed")
            worker.abandon()
            await app.crash(error)
            return None
        for search in searches:
            search.cancel()
        search = asyncio.create_task(find_unrelayed())
        searches.add(search)
        search.add_done_callback(searches.discard)
        return positions

    async def find_unrelayed() -> None:
        try:
            await _search(app, worker, settings)
        except Exception as error:
            log.exception("recover.failed")
            worker.abandon()
            await app.crash(error)

    @app.on_partitions_revoked.connect  # type: ignore[arg-type]  # mode declares receivers too narrowly
    async def revoked(_app: Any, *partitions: Any, **_: Any) -> None:
        await worker.release(_ours(*partitions), within_seconds=settings.kafka_session_seconds / 2)
        await app.consumer.commit()

    @app.on_partitions_assigned.connect  # type: ignore[arg-type]  # see above
    async def assigned(_app: Any, *partitions: Any, **_: Any) -> None:
        _consumer(app).place = place
        _consumer(app).committed = trails.committed
        if not _ours(*partitions):
            worker.rest()

    @app.on_before_shutdown.connect  # type: ignore[arg-type]  # see above
    async def stopping(_app: Any, *_: Any, **__: Any) -> None:
        await worker.release([], within_seconds=settings.kafka_session_seconds / 2)
        await app.consumer.commit()
        await worker.announce()
        await worker.carry_history()


async def _search(app: faust.App, worker: Worker, settings: Settings) -> None:
    """Find what no worker has handed on; that asks for every subject, so what has piled up is written first."""
    for _ in range(_SEARCH_WAITS):
        await app.sleep(settings.flush_seconds)
        if app.should_stop:
            # The connections are about to close: the next worker looks.
            return
        if not worker.is_busy:
            break
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(DependencyError), wait=wait_random_exponential(max=5)
    ):
        with attempt:
            await worker.find_unrelayed()


def _is_current(app: faust.App, event: Any) -> bool:
    """Whether the batch was fetched since the last rebalance or loss; an older one is fetched again."""
    is_of_this_generation = event.message.generation_id == app.consumer_generation_id
    return bool(is_of_this_generation and event.value.placing == _consumer(app).placing)


def _consumer(app: faust.App) -> BatchConsumer:
    return cast("BatchConsumer", app.consumer)


def _ours(partitions: set[TP]) -> list[tuple[str, int]]:
    return sorted((tp.topic, tp.partition) for tp in partitions if tp.topic in _TOPICS)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
