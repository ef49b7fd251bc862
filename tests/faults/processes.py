"""The processes of one run, what is sent to them, and what they have come to."""

import asyncio
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import httpx
from aiokafka import AIOKafkaProducer
from redis.exceptions import RedisError

from local.ports import LOOPBACK, free_port
from tests.faults import content
from tests.faults.content import Content, differences
from tests.faults.nursery import Forked, Mutation
from tests.faults.servers import Servers
from tests.faults.stream import Record, Stream, Training
from tests.faults.topics import CLIENT_ID
from tests.worker import Hashes

_GRACE_SECONDS: Final = 25.0
_OPERATOR_EXIT: Final = 4
_RETRIED: Final = frozenset({409, 500, 503})

LOOK_SECONDS: Final = 0.03


class Processes:
    """The processes of one run, and what can be asked of them."""

    def __init__(
        self, servers: Servers, stream: Stream, environment: dict[str, str], folder: Path, mutation: Mutation | None
    ) -> None:
        self.servers = servers
        self.stream = stream
        self.workers: list[Forked] = []
        self.ended_by_themselves: list[str] = []
        self.failures: list[str] = []
        self.sent = 0
        self._environment = environment
        self._folder = folder
        self._mutation = mutation
        self._names = 0
        self._api: Forked | None = None
        self._http = httpx.AsyncClient(timeout=15)
        self._producer: AIOKafkaProducer
        self._acknowledged: dict[tuple[str, int], list[int]] = {}

    async def __aenter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._environment["TIDEMARK_HTTP_PORT"] = str(free_port())
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self.servers.bootstrap,
            client_id=CLIENT_ID,
            linger_ms=5,
            request_timeout_ms=60_000,
            enable_idempotence=self.servers.is_idempotent,
        )
        await self._producer.start()
        self.start_api()
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in [*self.workers, *([] if self._api is None else [self._api])]:
            process.end()
        await self._http.aclose()
        await self._producer.stop()

    def start_worker(self) -> None:
        self._names += 1
        log = self._folder / f"worker-{self._names}.log"
        self.workers.append(Forked("worker", self._environment, log, mutation=self._mutation))

    def kill_worker(self, worker: Forked) -> None:
        if worker in self.workers:
            self.workers.remove(worker)
            worker.end()

    async def stop_worker(self, worker: Forked) -> str:
        """As an orchestrator would: asked first, killed when it takes too long; what came of it."""
        if worker not in self.workers:
            return "is gone already"
        self.workers.remove(worker)
        worker.signal(signal.SIGCONT)
        worker.signal(signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_SECONDS
        while worker.status is None and time.monotonic() < deadline:  # noqa: ASYNC110 (a process sets no event)
            await asyncio.sleep(LOOK_SECONDS)
        note = f"ended with {worker.status}" if worker.status is not None else "had to be killed"
        worker.end()
        return note

    async def stop_workers(self) -> None:
        """All of them, at the end: nothing is in their way, so they must end by themselves, and well."""
        for note in await asyncio.gather(*[self.stop_worker(worker) for worker in list(self.workers)]):
            # One that was started a moment ago has no handlers yet: the signal itself ends it, before it has begun.
            if note not in {"ended with 0", f"ended with {-signal.SIGTERM}"}:
                self.failures.append(f"a worker that was asked to stop {note}")

    def start_api(self) -> None:
        if self._api is not None:
            self._api.end()
        self._names += 1
        self._api = Forked("api", self._environment, self._folder / f"api-{self._names}.log")

    def tend(self) -> None:
        """Start again what ended by itself, as an orchestrator would."""
        if self._api is not None and self._api.status is not None:
            self.ended_by_themselves.append(f"{self._api.log.name}: {self._api.last_lines(3)}")
            self.start_api()
        for worker in list(self.workers):
            if worker.status is not None:
                self.workers.remove(worker)
                self.ended_by_themselves.append(f"{worker.log.name}, status {worker.status}: {worker.last_lines(3)}")
                if worker.status == _OPERATOR_EXIT:
                    self.failures.append(f"a worker stopped for an operator: {worker.last_lines(3)}")
                worker.end()
                self.start_worker()

    async def send(self, records: Sequence[Record]) -> None:
        """Returns when the broker has them all."""
        # The producer keeps the order within a partition.
        sent = [
            await self._producer.send(one.topic, key=one.key, value=one.value, partition=one.partition)
            for one in records
        ]
        for one, future in zip(records, sent, strict=True):
            place = await future
            self._acknowledged.setdefault((place.topic, place.partition), []).append(place.offset)
            self.sent += len(one.events)

    def check_sent(self) -> None:
        """A producer that repeats itself would make second events of first ones: that would be our fault."""
        for place, offsets in self._acknowledged.items():
            assert sorted(offsets) == list(range(len(offsets))), f"the driver has sent twice to {place}"

    async def train(self, training: Training, order: Sequence[int]) -> int:
        """Send the halves in this order, each until it is taken; how many tries it took."""
        tries = 0
        deadline = time.monotonic() + 90
        for half in order:
            while True:
                tries += 1
                answer = await self._post(training, half)
                if answer is not None and answer.status_code == 200:
                    assert answer.json()["rejected_total"] == 0, answer.text
                    break
                assert answer is None or answer.status_code in _RETRIED, answer.text
                assert time.monotonic() < deadline, f"training {training.path} is refused again and again: {answer}"
                await asyncio.sleep(0.1)
        return tries

    async def _post(self, training: Training, half: int) -> httpx.Response | None:
        url = f"http://{LOOPBACK}:{self._environment['TIDEMARK_HTTP_PORT']}/metrics/train/{training.path}"
        try:
            return await self._http.post(
                url, content=training.halves[half], headers={"content-type": "application/json"}
            )
        except httpx.TransportError:
            return None

    async def in_state(self) -> int | None:
        """How many events the state has; None while Redis does not say."""
        try:
            async with asyncio.timeout(0.5):
                return await content.in_state(self.servers.redis, self.stream)
        except (RedisError, OSError, TimeoutError):
            return None

    async def content(self) -> Content:
        fields = await content.in_redis(self.servers.redis)
        fields |= await content.in_history(self.servers.postgres_url, trained=self.stream.trained)
        expected = frozenset(self.stream.letters())
        return Content(fields, await content.letters(self.servers.bootstrap, CLIENT_ID, expected))

    async def settle(self, expected: Content, stall_seconds: float, *, kicks: int) -> int:
        """Wait until the content is as expected, or nothing moves any more; how often workers had to be kicked."""
        for kick in range(kicks):
            if await self._settled(expected, stall_seconds):
                return kick
            # What is not right by now may be a worker that hangs. Whether it should is not our question, but said.
            for worker in list(self.workers):
                self.kill_worker(worker)
            self.start_worker()
        await self._settled(expected, stall_seconds)
        return kicks

    async def _settled(self, expected: Content, stall_seconds: float) -> bool:
        moved, before = time.monotonic(), -1
        while time.monotonic() < moved + stall_seconds:
            self.tend()
            reached = await self.in_state()
            if reached is not None and reached != before:
                moved, before = time.monotonic(), reached
            if reached == self.stream.events and await self._is_as(expected):
                return True
            await asyncio.sleep(0.2)
        return False

    async def _is_as(self, expected: Content) -> bool:
        found = await content.in_redis(self.servers.redis)
        if differences(_of_redis(expected), found):
            return False
        return not differences(
            expected.fields, found | await content.in_history(self.servers.postgres_url, trained=self.stream.trained)
        )

    async def rewind(self) -> None:
        """Workers that are started from now on begin where the topics do."""
        group = await self.servers.rewound(self._environment["TIDEMARK_KAFKA_GROUP"])
        self._environment["TIDEMARK_KAFKA_GROUP"] = group


def _of_redis(expected: Content) -> Hashes:
    return {key: fields for key, fields in expected.fields.items() if not key.startswith("postgres:")}
