"""Where simulated events can go: to the broker, to the API, or to standard output."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from cli import credentials
from detection.errors import DependencyError, InputError

if TYPE_CHECKING:
    import asyncio

    import httpx
    from aiokafka import AIOKafkaProducer

    from settings import Settings

CALLS: Final = "calls"
OBSERVATIONS: Final = "observations"

# Enough for full batches to each partition, and about 10 MB.
_IN_FLIGHT = 20_000
_LINGER_MS = 20
# Well below the most rows and bytes that the API takes in one request.
_EVENTS_A_REQUEST = 2000
_REQUEST_SECONDS = 30.0


class Outlet(Protocol):
    """Takes events in order; DependencyError where they cannot be delivered, InputError where they are refused."""

    async def send(self, topic: str, key: bytes, event: bytes) -> None:
        """Take one event; it may wait for others before it is on its way."""
        ...

    async def settle(self) -> None:
        """Return when every event that was taken has been acknowledged."""
        ...


class _Kafka:
    def __init__(self, producer: "AIOKafkaProducer") -> None:
        self._producer = producer
        self._in_flight: list[asyncio.Future[Any]] = []

    async def send(self, topic: str, key: bytes, event: bytes) -> None:
        self._in_flight.append(await self._producer.send(topic, key=key, value=event))
        if len(self._in_flight) >= _IN_FLIGHT:
            await self.settle()

    async def settle(self) -> None:
        import asyncio

        waiting, self._in_flight = self._in_flight, []
        await asyncio.gather(*waiting)


@asynccontextmanager
async def kafka(settings: "Settings") -> AsyncIterator[Outlet]:
    """Each event is a message of its topic; topics that are missing are created."""
    from aiokafka.errors import KafkaError

    from api.event_producer import ensure_topics, started_producer
    from state.broker_refusal import reason

    try:
        await ensure_topics(settings, [CALLS, OBSERVATIONS])
        producer, _ = await started_producer(settings.brokers(), linger_ms=_LINGER_MS)
        try:
            yield _Kafka(producer)
        finally:
            await producer.stop()
    except KafkaError as error:
        raise DependencyError(
            "Kafka", f"{settings.kafka_brokers}: {await reason(settings.brokers(), error)}"
        ) from error


class _Http:
    def __init__(self, client: "httpx.AsyncClient", url: str) -> None:
        self._client = client
        self._url = url
        self._waiting: dict[str, list[bytes]] = {CALLS: [], OBSERVATIONS: []}

    async def send(self, topic: str, key: bytes, event: bytes) -> None:  # noqa: ARG002 - the API takes its own keys
        waiting = self._waiting[topic]
        waiting.append(event)
        if len(waiting) >= _EVENTS_A_REQUEST:
            await self._post(topic)

    async def settle(self) -> None:
        for topic in self._waiting:
            await self._post(topic)

    async def _post(self, topic: str) -> None:
        import httpx

        from cli.predict import refusal

        waiting, self._waiting[topic] = self._waiting[topic], []
        if not waiting:
            return
        try:
            response = await self._client.post(
                f"{self._url.rstrip('/')}/events/{topic}",
                content=b"\n".join(waiting),
                headers={"content-type": "application/x-ndjson"},
            )
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise InputError(f"--url {self._url}: {error}") from error
        except httpx.HTTPError as error:
            raise DependencyError("api", f"{self._url}: {str(error) or type(error).__name__}") from error
        if not response.is_success:
            raise refusal(response)


@asynccontextmanager
async def http(url: str) -> AsyncIterator[Outlet]:
    """Events are posted in NDJSON, calls and observations each in their order; the API answers for the broker."""
    import httpx

    async with httpx.AsyncClient(timeout=_REQUEST_SECONDS, headers=credentials.headers()) as client:
        yield _Http(client, url)


class _Stdout:
    async def send(self, topic: str, key: bytes, event: bytes) -> None:  # noqa: ARG002 - a line is all
        sys.stdout.buffer.write(event + b"\n")

    async def settle(self) -> None:
        sys.stdout.buffer.flush()


@asynccontextmanager
async def stdout() -> AsyncIterator[Outlet]:
    """Each event is a line of standard output."""
    yield _Stdout()
