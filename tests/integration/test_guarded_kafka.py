"""Kafka that asks who asks, over TLS: everything of Tidemark gets in, and who is refused is told why."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner

from api.app import create_app
from cli.main import app
from local.stack import Stack
from settings import load
from state.broker_refusal import refusal
from state.brokers import Brokers
from state.certificates import Certificates
from tests.authority import Authority, Identity
from tests.kafka.guarded import PASSWORD, USER, GuardedKafka
from tests.worker import WorkerProcess, eventually, hashes

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300)]

KEY_PASSWORD = "key-secret-77aa"
WRONG = "wrong-secret-5be1"
CALLS = 40


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "nobody we know")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("guarded")
    with Stack(folder, broker=GuardedKafka(folder, authority)) as stack:
        yield stack


def listener(stack: Stack, name: str) -> str:
    assert isinstance(stack.broker, GuardedKafka)
    return stack.broker.listener(name)


def by_password(stack: Stack, authority: Authority, folder: Path, *, password: str = PASSWORD) -> dict[str, str]:
    """SASL_SSL, with the password in a file."""
    folder.mkdir(exist_ok=True)
    (folder / "tidemark_kafka_password").write_text(f"{password}\n")
    return {
        "TIDEMARK_KAFKA_BROKERS": listener(stack, "SASLSSL"),
        "TIDEMARK_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "TIDEMARK_KAFKA_USERNAME": USER,
        "TIDEMARK_KAFKA_CA_FILE": str(authority.ca),
        "TIDEMARK_SECRETS_DIR": str(folder),
    }


def by_certificate(stack: Stack, authority: Authority) -> dict[str, str]:
    """SSL, with a key that is encrypted."""
    identity = authority.client("tidemark-client", password=KEY_PASSWORD)
    return {
        "TIDEMARK_KAFKA_BROKERS": listener(stack, "MUTUAL"),
        "TIDEMARK_KAFKA_SECURITY_PROTOCOL": "SSL",
        "TIDEMARK_KAFKA_CA_FILE": str(authority.ca),
        "TIDEMARK_KAFKA_CERTIFICATE_FILE": str(identity.certificate),
        "TIDEMARK_KAFKA_KEY_FILE": str(identity.key),
        "TIDEMARK_KAFKA_KEY_PASSWORD": KEY_PASSWORD,
    }


def told(
    monkeypatch: pytest.MonkeyPatch, stack: Stack, environment: Mapping[str, str], database: int
) -> dict[str, str]:
    """The environment of all processes, which is also ours; libraries may say whatever they have to say."""
    redis = stack.valkey.url.rsplit("/", 1)[0] + f"/{database}"
    all_of_it = {
        **stack.environment(),
        "TIDEMARK_REDIS_URL": redis,
        "TIDEMARK_CLOCK": "events",
        "TIDEMARK_FLUSH_SECONDS": "0.2",
        "TIDEMARK_LOG_LEVEL": "debug",
        **environment,
    }
    for name, value in all_of_it.items():
        monkeypatch.setenv(name, value)
    return all_of_it


@asynccontextmanager
async def asking() -> AsyncIterator[httpx.AsyncClient]:
    api = create_app(load())
    async with (
        api.router.lifespan_context(api),
        httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://tidemark") as client,
    ):
        yield client


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, (arguments, done.output, done.exception)
    return done.stdout


def doctor() -> tuple[int, dict[str, dict[str, Any]]]:
    done = CliRunner().invoke(app, ["doctor", "--json", "--timeout", "10"])
    return done.exit_code, {one["name"]: one for one in json.loads(done.stdout)["checks"]}


def no_secret_in(text: str) -> None:
    for secret in (PASSWORD, KEY_PASSWORD, WRONG):
        assert secret not in text


@pytest.mark.parametrize("way", ["password", "certificate"])
async def test_every_client_of_kafka_gets_in_and_no_log_holds_a_secret(
    way: str,
    guarded: Stack,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = {"password": 1, "certificate": 2}[way]
    environment = (
        by_password(guarded, authority, tmp_path / "secrets")
        if way == "password"
        else by_certificate(guarded, authority)
    )
    environment = {"TIDEMARK_KAFKA_GROUP": f"guarded-{way}", **environment}
    environment = told(monkeypatch, guarded, environment, database)
    log = tmp_path / "worker.log"
    caplog.set_level("DEBUG", logger="aiokafka.consumer")
    async with asking() as client, Redis.from_url(environment["TIDEMARK_REDIS_URL"]) as redis:
        with WorkerProcess(environment, log) as worker:
            calls = [
                {
                    "biller_id": f"B-{way}",
                    "timestamp": 1767225600000 + at * 1000,
                    "latency_ms": 100 + at,
                    "outcome": "ok",
                }
                for at in range(CALLS)
            ]

            # A machine that is busy may not have a topic made in time; sent again, calls count again.
            async def refused() -> str:
                answer = await client.post("/events/calls", json=calls)
                return "" if answer.status_code == 202 else answer.text

            await eventually(refused, within_seconds=60)
            event = {"name": f"M-{way}", "version": "v1", "timestamp": 1767225600000, "drift": 0.2}
            assert (await client.post("/events/observations", json=[event])).status_code == 202

            async def missing() -> str:
                assert worker.status is None, worker.log()
                stored = await hashes(redis)
                subject = stored.get(f"tidemark:1:{{biller:B-{way}}}")
                if subject is None or int(subject["accepted"]) < CALLS:
                    return f"{subject} has not all calls"
                return "" if f"tidemark:1:{{model:M-{way}/v1}}" in stored else "the observation is missing"

            await eventually(missing, within_seconds=90)

            # The archive reads in a group of its own.
            async def unread() -> str:
                found = await client.get(f"/stats/M-{way}/v1")
                return "" if found.status_code == 200 and found.json().get("metrics") else found.text

            await eventually(unread, within_seconds=60)
            pipeline = await client.get("/pipeline")
            assert pipeline.status_code == 200
            # What it cannot say of Kafka, it leaves out.
            assert '"calls"' in pipeline.text
            code, checks = await asyncio.to_thread(doctor)
            assert code == 0, checks
            protocol = environment["TIDEMARK_KAFKA_SECURITY_PROTOCOL"]
            assert (checks["kafka.encryption"]["status"], checks["kafka.workers"]["status"]) == ("ok", "ok")
            assert checks["kafka.encryption"]["found"].startswith(protocol)
            assert checks["pipeline.progress"]["status"] == "ok"
            said = await asyncio.to_thread(run, "simulate", "--to", "kafka", "--billers", "2", "--hours", "1")
            said += await asyncio.to_thread(run, "dead-letters", "list", "--json")
            assert worker.stop() == 0, worker.log()
    no_secret_in(log.read_text() + caplog.text + said + json.dumps(checks))


@pytest.mark.parametrize("fault", ["password", "authority"])
def test_a_worker_that_is_refused_ends_and_says_what_to_do(
    fault: str,
    guarded: Stack,
    authority: Authority,
    stranger: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    believed = stranger if fault == "authority" else authority
    password = WRONG if fault == "password" else PASSWORD
    environment = by_password(guarded, believed, tmp_path / "secrets", password=password)
    environment = told(monkeypatch, guarded, environment, 3)
    wanted = "TIDEMARK_KAFKA_PASSWORD" if fault == "password" else "TIDEMARK_KAFKA_CA_FILE"
    log = tmp_path / "worker.log"
    with WorkerProcess(environment, log) as worker:
        assert worker.wait(120) == 4, worker.log()
    said = " ".join(log.read_text().split())
    assert listener(guarded, "SASLSSL") in said
    assert wanted in said
    code, checks = doctor()
    assert (code, checks["kafka"]["status"]) == (4, "failed")
    assert wanted in checks["kafka"]["found"]
    done = CliRunner().invoke(app, ["dead-letters", "list"])
    assert done.exit_code == 3
    assert wanted in done.stderr
    no_secret_in(log.read_text() + json.dumps(checks) + done.output)


async def test_an_api_that_is_refused_says_what_to_do_where_readiness_is_asked(
    guarded: Stack,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    told(monkeypatch, guarded, by_password(guarded, authority, tmp_path / "secrets", password=WRONG), 3)
    async with asking() as client:
        ready = await client.get("/readyz")
        events = await client.post(
            "/events/calls", json=[{"biller_id": "B", "timestamp": 1767225600000, "latency_ms": 1, "outcome": "ok"}]
        )
    assert (ready.status_code, events.status_code) == (503, 503)
    assert "TIDEMARK_KAFKA_PASSWORD" in ready.json()["dependencies"]["kafka"]["reason"]
    no_secret_in(ready.text + events.text + caplog.text)


def certified(authority: Authority, identity: Identity | None = None) -> Certificates:
    return Certificates(
        "TIDEMARK_KAFKA",
        ca=authority.ca,
        certificate=None if identity is None else identity.certificate,
        key=None if identity is None else identity.key,
    )


async def test_each_reason_of_a_refusal_is_told_apart(
    guarded: Stack, authority: Authority, stranger: Authority
) -> None:
    kafka = guarded.broker
    sasl_ssl, mutual, sasl = (listener(guarded, name) for name in ("SASLSSL", "MUTUAL", "SASLPLAIN"))
    known = certified(authority)
    plain = Brokers(sasl_ssl, "SASL_SSL", "PLAIN", USER, PASSWORD, known)
    expected = {
        plain: None,
        Brokers(sasl, "SASL_PLAINTEXT", "SCRAM-SHA-512", USER, PASSWORD): None,
        Brokers(sasl_ssl, "SASL_SSL", "PLAIN", USER, WRONG, known): "TIDEMARK_KAFKA_PASSWORD",
        Brokers(sasl_ssl, "SASL_SSL", "SCRAM-SHA-256", USER, PASSWORD, known): "TIDEMARK_KAFKA_SASL_MECHANISM",
        Brokers(sasl_ssl): "it may want TLS or a user",
        Brokers(sasl): "it may want TLS or a user",
        Brokers(sasl_ssl, "SSL", certificates=known): "or a user",
        Brokers(mutual, "SSL", certificates=known): "TIDEMARK_KAFKA_CERTIFICATE_FILE",
        Brokers(mutual, "SSL", certificates=certified(authority, stranger.client("x"))): "may not take our certificate",
        Brokers(mutual, "SSL", certificates=certified(authority, authority.client("y"))): None,
        Brokers(kafka.bootstrap, "SASL_SSL", "PLAIN", USER, PASSWORD, known): "of another kind",
        Brokers(kafka.bootstrap, "SASL_PLAINTEXT", "PLAIN", USER, PASSWORD): "asks nobody for a user",
        # Nobody there.
        Brokers("localhost:1", "SASL_SSL", "PLAIN", USER, PASSWORD, known): None,
    }
    for brokers, part in expected.items():
        said = await refusal(brokers)
        assert said is None if part is None else said is not None and part in said, (brokers, said)
        no_secret_in(f"{brokers!r} {said}")


@pytest.mark.parametrize("is_abrupt", [False, True])
async def test_a_broker_that_is_away_behind_a_balancer_refuses_nobody(authority: Authority, is_abrupt: bool) -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        if is_abrupt:
            writer.transport.abort()
        writer.close()

    known = certified(authority)
    async with await asyncio.start_server(close, "127.0.0.1", 0) as balancer:
        place = f"127.0.0.1:{balancer.sockets[0].getsockname()[1]}"
        for brokers in (
            Brokers(place),
            Brokers(place, "SSL", certificates=known),
            Brokers(place, "SASL_PLAINTEXT", "PLAIN", USER, PASSWORD),
            Brokers(place, "SASL_SSL", "PLAIN", USER, PASSWORD, known),
        ):
            assert await refusal(brokers) is None, brokers
