"""The users that we ship for Redis: each role is allowed what its processes do, and nothing more."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from redis.exceptions import NoPermissionError
from typer.testing import CliRunner

from api.app import create_app
from cli.main import app
from detection.errors import DependencyError
from detection.hours import HOUR_MS, iso
from detection.policy import Policy
from detection.subject import Subject
from local.stack import Stack
from settings import load
from state import acl, keys
from state.migrate import migrate
from state.redis_address import Credentials
from state.redis_notified import RedisNotified
from state.redis_store import RedisStore
from state.store import Reached
from tests.contract.states import biller
from tests.databases import new_database
from tests.guarded_redis import PASSWORDS, GuardedValkey
from tests.worker import WorkerProcess, eventually

RULES = """
rules:
  - {id: high-drift, metric: drift, condition: higher than, boundary: 0.3, severity: critical}
"""
TARGETS = """
targets:
  log: {kind: log, default: true}
"""


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedValkey]:
    server = GuardedValkey(tmp_path_factory.mktemp("guarded-valkey"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def forgotten(valkey: GuardedValkey) -> None:
    with valkey.admin() as client:
        client.flushall()
    valkey.forget_denied()


def url_of(valkey: GuardedValkey, role: acl.Role) -> str:
    return Credentials(acl.user(role), PASSWORDS[role]).within(valkey.url)


def client_of(valkey: GuardedValkey, role: acl.Role) -> redis.Redis:
    return redis.Redis.from_url(url_of(valkey, role), decode_responses=True)


def told(role: acl.Role, valkey: GuardedValkey, folder: Path) -> dict[str, str]:
    """What a process of this role is told of Redis: the password by file."""
    secrets = folder / role
    secrets.mkdir(exist_ok=True)
    (secrets / "tidemark_redis_password").write_text(PASSWORDS[role])
    return {
        "TIDEMARK_REDIS_URL": valkey.url,
        "TIDEMARK_REDIS_USERNAME": acl.user(role),
        "TIDEMARK_SECRETS_DIR": str(secrets),
    }


def run(role: acl.Role, valkey: GuardedValkey, folder: Path, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(arguments), env=told(role, valkey, folder))
    assert done.exit_code == code, (arguments, done.output, done.exception)
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_each_role_is_allowed_everything_that_it_does(
    valkey: GuardedValkey, stack: Stack, stack_settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "targets.yaml").write_text(TARGETS)
    with new_database(stack, "users") as url:
        migrate(url)
        shared = {
            "TIDEMARK_POSTGRES_URL": url,
            "TIDEMARK_KAFKA_GROUP": "redis-users",
            "TIDEMARK_NOTIFY_AFTER_SECONDS": "0",
            "TIDEMARK_FLUSH_SECONDS": "0.2",
            "TIDEMARK_COHORT_SECONDS": "10",
        }
        for name, value in shared.items():
            monkeypatch.setenv(name, value)
        worker_environment = {
            **stack.environment(),
            **shared,
            **told("worker", valkey, tmp_path),
            "TIDEMARK_RULES": str(tmp_path / "rules.yaml"),
            "TIDEMARK_TARGETS": str(tmp_path / "targets.yaml"),
        }
        made = await asyncio.to_thread(
            run, "maintenance", valkey, tmp_path,
            *("keys", "create", "ann", "--scope", "admin", "--scope", "train", "--scope", "ingest", "--scope", "read"),
            *("--per-second", "1000", "--json"),
        )  # fmt: skip
        bearer = {"Authorization": f"Bearer {json.loads(made)['key']}"}
        with monkeypatch.context() as patch:
            for name, value in told("api", valkey, tmp_path).items():
                patch.setenv(name, value)
            patch.setenv("TIDEMARK_AUTH", "on")
            api = create_app(load())
        with WorkerProcess(worker_environment, tmp_path / "worker.log") as worker:
            async with (
                api.router.lifespan_context(api),
                httpx.AsyncClient(
                    transport=httpx.ASGITransport(api), base_url="http://tidemark", headers=bearer
                ) as client,
            ):
                await everything_that_is_asked_of_an_api(client, worker)
            log = tmp_path / "worker.log"
            # Once it has taken its turn at each thing that it does now and then.
            await eventually(lambda: written(valkey, keys.COHORTS, keys.NOTIFIED, keys.PROGRESS), within_seconds=60)
            assert worker.stop() == 0, worker.log()
        assert "NOPERM" not in log.read_text(), log.read_text()
        assert not [secret for secret in PASSWORDS.values() if secret in log.read_text()]
        assert valkey.denied() == []
        await asyncio.to_thread(everything_that_operators_do, valkey, tmp_path)


async def written(valkey: GuardedValkey, *names: str) -> str:
    with valkey.admin() as client:
        missing = [name for name in names if not client.exists(name)]
    return f"{missing} are not there" if missing else ""


async def everything_that_is_asked_of_an_api(client: httpx.AsyncClient, worker: WorkerProcess) -> None:
    now_ms = time.time_ns() // 1_000_000
    hour_ms = now_ms // HOUR_MS * HOUR_MS

    async def ask(method: str, path: str, *, json: Any = None, status: int = 200) -> httpx.Response:
        answer = await client.request(method, path, json=json)
        assert answer.status_code == status, (method, path, answer.text)
        return answer

    calls = [{"biller_id": "B1", "timestamp": now_ms - at, "latency_ms": 9.0, "outcome": "ok"} for at in range(20)]
    await ask("POST", "/events/calls", json=calls, status=202)
    event = {"name": "M", "version": "v1", "timestamp": now_ms, "drift": 0.9, "prediction_accuracy": 0.8}
    await ask("POST", "/events/observations", json=[event], status=202)
    rows = [{"timestamp": iso(hour_ms - at * HOUR_MS), "value": 100.0 + at % 7, "count": 9} for at in range(200, 2, -1)]
    await ask("POST", "/metrics/train/1/B1", json={"rows": rows})
    await ask("POST", "/metrics/train/gauges/drift/M/v1", json={"rows": rows})
    await ask("POST", "/metrics/predict/1/B1")
    await ask("POST", "/metrics/predict", json={"items": [{"billerId": "B1", "metricTypeId": 1}]})
    found: list[dict[str, Any]] = []

    async def silent() -> str:
        assert worker.status is None, worker.log()
        found[:] = (await ask("GET", "/alerts")).json()["alerts"]
        return "" if found else f"no alert: {worker.log()[-2000:]}"

    await eventually(silent, within_seconds=90)
    await ask("POST", "/alerts/acknowledge", json={"id": found[0]["id"], "by": "ann"})
    await ask("POST", "/alerts/feedback", json={"id": found[0]["id"], "opinion": "false"})
    span = {"from": iso(hour_ms - 50 * HOUR_MS), "to": iso(hour_ms - 40 * HOUR_MS), "reason": "outage", "by": "ann"}
    excluded = await ask("POST", "/billers/B1/exclusions", json=span, status=201)
    await ask("DELETE", f"/billers/B1/exclusions/{excluded.json()['id']}?by=ann")
    await ask(
        "PUT", "/rules/low?by=ann", json={"metric": "drift", "condition": "lower than", "boundary": 0}, status=201
    )
    await ask("DELETE", "/rules/low?by=ann", status=204)
    for path in ("/thresholds", "/coverage", "/coverage/cohorts", "/overview", "/pipeline", "/pipeline/dead-letters"):
        await ask("GET", path)
    for path in ("/rules", "/rules/audit", "/alerts/history", "/metrics", "/readyz", "/stats/billers/B1"):
        await ask("GET", path)


def everything_that_operators_do(valkey: GuardedValkey, folder: Path) -> None:
    run("reader", valkey, folder, "log", "show")
    assert valkey.denied() == []
    checks = json.loads(run("reader", valkey, folder, "doctor", "--json", "--timeout", "10"))["checks"]
    by_name = {one["name"]: one for one in checks}
    assert by_name["redis"]["status"] == "ok"
    # What it may not ask, it does without.
    assert valkey.denied() == ["tidemark-reader: command config|get (toplevel)"]
    valkey.forget_denied()
    file = str(folder / "state.ndjson.gz")
    run("maintenance", valkey, folder, "state", "export", file)
    run("maintenance", valkey, folder, "state", "import", file, "--replace", "--force")
    run("maintenance", valkey, folder, "state", "refold", "B1")
    run("maintenance", valkey, folder, "inspect", "biller:B1", "--json")
    run("maintenance", valkey, folder, "keys", "list")
    run("maintenance", valkey, folder, "dead-letters", "replay", "--send", "--yes")
    run("maintenance", valkey, folder, "log", "renew", "calls", "--yes", "--force")
    assert valkey.denied() == []


async def test_a_worker_is_allowed_what_it_does_once_in_a_year(valkey: GuardedValkey) -> None:
    """Topics that were made anew, a Redis that was restored or failed over: paths of a worker that nobody waits for."""
    store = RedisStore.connect(url_of(valkey, "worker"), Policy())
    subject = Subject.biller("B1")
    try:
        await store.note_recreated("calls", now_ms=1)
        await store.log_lives()
        await store.advance_progress({"kafka/calls/0": -1}, {"kafka/calls/0": Reached(5)})
        await store.advance_clock(1)
        state = biller(subject.id)
        await store.save([state])
        await store.confirm([state])
        await store.behind([subject], places=["kafka/calls/0"], hour=2)
        await store.announced({})
        await store.claim_cohorts(now_ms=1, due_ms=2)
        await store.keep_cohorts([], now_ms=1, due_ms=2)
        notified = RedisNotified(store.client)
        await notified.claim("me", for_ms=1000)
        await notified.keep("me", {b"one": b"two"})
        await notified.release("me")
        # After a restart, a server knows no script.
        with valkey.admin() as client:
            client.script_flush()
        await store.advance_clock(2)
    finally:
        await store.aclose()
    assert valkey.denied() == []


NOBODYS: tuple[tuple[str, ...], ...] = (
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("KEYS", "*"),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "maxmemory", "1"),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "me", "on", "nopass", "+@all"),
    ("SHUTDOWN",),
    ("MONITOR",),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("REPLICAOF", "NO", "ONE"),
    ("SCRIPT", "FLUSH"),
    ("FUNCTION", "LIST"),
    ("SAVE",),
    ("SWAPDB", "0", "1"),
    ("MIGRATE", "127.0.0.1", "1", "k", "0", "1"),
    ("PUBLISH", "channel", "text"),
    ("GET", "of-another-program"),
    ("HSET", "of-another-program", "a", "b"),
    ("HGETALL", "tidemark:2:{biller:B1}"),
)
SUBJECT = keys.subject_key(Subject.biller("B1"))
READERS: tuple[tuple[str, ...], ...] = (
    ("EVAL", "return 1", "0"),
    ("EVALSHA", "0" * 40, "0"),
    ("SCRIPT", "LOAD", "return 1"),
    ("HSET", SUBJECT, "rev", "7"),
    ("HDEL", SUBJECT, "rev"),
    ("DEL", SUBJECT),
    ("EXPIRE", SUBJECT, "1"),
    ("ZADD", keys.SUBJECTS, "0", "x"),
    ("HGETALL", keys.API_KEYS),
)
REFUSED: dict[acl.Role, tuple[tuple[str, ...], ...]] = {
    "worker": (
        ("HGETALL", keys.API_KEYS),
        ("HSET", keys.API_KEYS, "a", "b"),
        ("GET", keys.rate_key("a")),
        ("HGETALL", keys.REPLAYED),
        ("INCRBY", keys.rate_key("a"), "1"),
        ("RENAME", SUBJECT, keys.SUBJECTS),
    ),
    "api": (
        ("HSET", keys.API_KEYS, "a", "b"),
        ("HDEL", keys.API_KEYS, "a"),
        ("HSET", keys.PROGRESS, "a", "b"),
        ("HSET", keys.LOG, "a", "b"),
        ("HSET", keys.NOTIFIED, "a", "b"),
        ("HSET", keys.CLOCK, "ms", "1"),
        ("EVAL", "return redis.call('HSET', KEYS[1], 'a', 'b')", "1", keys.PROGRESS),
        ("RENAME", SUBJECT, keys.SUBJECTS),
    ),
    "reader": READERS,
    "maintenance": (("RENAME", SUBJECT, keys.SUBJECTS), ("EVAL", "return redis.call('FLUSHALL')", "0")),
}


@pytest.mark.parametrize("role", acl.OF_SERVERS)
def test_no_role_is_allowed_what_it_does_not_do(valkey: GuardedValkey, role: acl.Role) -> None:
    with client_of(valkey, role) as client:
        assert client.ping()
        for command in (*NOBODYS, *REFUSED[role]):
            with pytest.raises(redis.ResponseError) as refused:
                client.execute_command(*command)
            assert isinstance(refused.value, NoPermissionError) or "permissions" in str(refused.value), command
    # Each refusal is remembered by the server, so that what a stolen password was tried for can be seen.
    assert valkey.denied()


def test_nobody_gets_in_without_a_user(valkey: GuardedValkey) -> None:
    with redis.Redis.from_url(valkey.url) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


async def test_a_wrong_password_is_said_without_it(valkey: GuardedValkey) -> None:
    url = Credentials("tidemark-worker", "wrong-secret-77").within(valkey.url)
    store = RedisStore.connect(url, Policy())
    with pytest.raises(DependencyError, match="TIDEMARK_REDIS_PASSWORD") as refused:
        await store.ping()
    assert "wrong-secret-77" not in str(refused.value)
    await store.aclose()
