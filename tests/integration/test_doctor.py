"""`tidemark doctor` over the real broker, Valkey and PostgreSQL, and over those that are away."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from api.event_producer import ensure_topics
from cli.main import app
from local.stack import Stack
from settings import Settings
from state.migrate import migrate, newest_revision
from state.redis_store import RedisStore
from state.store import Reached
from stream.broker_checks import TOPICS
from tests.contract.conftest import cluster as cluster  # noqa: PLC0414 (a fixture)
from tests.contract.redis_servers import Cluster
from tests.databases import ask, new_database


@pytest.fixture
def examined(stack: Stack, stack_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Runs the command over a database of its own, with what is set beside; its exit code, and the checks by name."""
    with new_database(stack, "doctor") as url:
        monkeypatch.setenv("TIDEMARK_POSTGRES_URL", url)

        def examine(**settings: str) -> tuple[int, dict[str, dict[str, str]]]:
            for name, value in settings.items():
                monkeypatch.setenv(f"TIDEMARK_{name.upper()}", value)
            run = CliRunner().invoke(app, ["doctor", "--json", "--timeout", "10"])
            assert run.exception is None or isinstance(run.exception, SystemExit), run.output
            document = json.loads(run.stdout)
            assert document["exit_code"] == run.exit_code
            return run.exit_code, {one["name"]: one for one in document["checks"]}

        examine.url = url  # type: ignore[attr-defined]  # where the tables are
        yield examine


def test_every_dependency_that_answers_is_looked_into(examined: Any) -> None:
    migrate(examined.url)
    code, checks = examined()
    assert code == 0
    assert not [one for one in checks.values() if one["status"] == "failed"]
    for name in (
        "machine.packages",
        "settings",
        "kafka",
        "kafka.workers",
        "redis",
        "redis.version",
        "redis.eviction",
        "redis.persistence",
        "redis.clock",
        "postgres",
        "postgres.version",
        "postgres.writable",
        "postgres.migrations",
        "postgres.connections",
        "postgres.clock",
    ):
        assert checks[name]["status"] in {"ok", "warning"}, checks[name]
    assert checks["postgres.migrations"]["found"] == f"{newest_revision()}, the newest"
    assert "Valkey" in checks["redis.version"]["found"]


def test_tables_of_another_version_are_said(examined: Any) -> None:
    code, checks = examined()
    assert (code, checks["postgres.migrations"]["status"]) == (0, "warning")
    assert checks["postgres.partitions"]["status"] == "unknown"
    migrate(examined.url)
    ask(examined.url, "update alembic_version set version_num = '0001' returning version_num")
    code, checks = examined()
    assert (code, checks["postgres.migrations"]["status"]) == (0, "warning")
    assert "tidemark migrate" in checks["postgres.migrations"]["advice"]
    ask(examined.url, "update alembic_version set version_num = '9999' returning version_num")
    code, checks = examined()
    assert (code, checks["postgres.migrations"]["status"]) == (4, "failed")


def test_a_valkey_that_evicts_is_a_case_for_a_person(examined: Any, stack: Stack) -> None:
    with redis.Redis.from_url(stack.valkey.url) as client:
        client.config_set("maxmemory", 1 << 33)
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            code, checks = examined()
        finally:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", 0)
    assert (code, checks["redis.eviction"]["status"]) == (4, "failed")
    assert "noeviction" in checks["redis.eviction"]["advice"]


def test_what_is_away_is_named_and_the_others_are_looked_into(examined: Any) -> None:
    code, checks = examined(kafka_brokers="127.0.0.1:1")
    assert (code, checks["kafka"]["status"], checks["redis"]["status"]) == (3, "failed", "ok")
    assert "TIDEMARK_KAFKA_BROKERS" in checks["kafka"]["advice"]
    code, checks = examined(
        redis_url="redis://:geheim@127.0.0.1:1/0", postgres_url="postgresql://x:geheim@127.0.0.1:1/y"
    )
    assert (code, checks["redis"]["status"], checks["postgres"]["status"]) == (3, "failed", "failed")
    assert "geheim" not in json.dumps(checks)


async def _pretend_to_have_read(settings: Settings, source: str) -> None:
    store = RedisStore.connect(settings.redis_url.get_secret_value(), settings.policy())
    await store.advance_progress({source: 0}, {source: Reached(10**9)})
    await store.aclose()


def test_a_topic_that_was_made_anew_is_said(examined: Any, stack: Stack, stack_settings: Settings) -> None:
    url = stack.valkey.url.rsplit("/", 1)[0] + "/8"
    settings = stack_settings.model_copy(update={"redis_url": Settings(redis_url=url).redis_url})
    asyncio.run(ensure_topics(settings, TOPICS))
    asyncio.run(_pretend_to_have_read(settings, f"{settings.kafka_log_id}/calls/0"))
    code, checks = examined(redis_url=url)
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    assert (code, checks["pipeline.progress"]["status"]) == (4, "failed")
    assert "tidemark log renew" in checks["pipeline.progress"]["advice"]
    code, checks = examined(redis_url=url)
    assert (code, checks["pipeline.progress"]["status"]) == (0, "ok")
    assert checks["kafka.calls"]["found"] == "4 partitions, 1 copy of each"


def test_each_master_of_a_cluster_is_looked_into(examined: Any, cluster: Cluster) -> None:
    code, checks = examined(redis_url=cluster.url)
    assert code == 0, checks
    assert checks["redis"]["found"].count("3 masters") == 1


def test_the_table_says_in_words_what_is_to_be_done(examined: Any) -> None:
    run = CliRunner().invoke(
        app, ["doctor", "--timeout", "10"], env={"COLUMNS": "200", "TIDEMARK_KAFKA_BROKERS": "127.0.0.1:1"}
    )
    assert run.exit_code == 3
    assert "what to do" in run.stdout
    assert "failed" in run.stdout
