"""With the real Prometheus: the shipped rules are rules, fire when they should, and what they ask for is scraped."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from local.ports import free_port
from local.stack import Stack
from tests.worker import WorkerProcess, eventually

pytestmark = [pytest.mark.debian, pytest.mark.timeout(400)]

MONITORING = Path(__file__).parents[2] / "monitoring"
HOUR_MS = 490_000 * 3_600_000

# One or more of each row of the dashboard; what has labels appears with its first event.
KEY_SERIES = {
    "tidemark-worker": [
        'tidemark_events_total{result="accepted",topic="calls"}',
        'tidemark_consumer_lag_records{topic="calls"}',
        "tidemark_windows_closed_total",
        "tidemark_flush_seconds_count",
        "tidemark_history_pending_subjects",
        "tidemark_announcements_pending_subjects",
        "tidemark_notifications_oldest_seconds",
        "tidemark_store_losses_total",
        "tidemark_stalls_total",
    ],
    "tidemark-api": [
        'tidemark_http_requests_total{route="/events/calls",status="202"}',
        'tidemark_http_request_seconds_bucket{le="+Inf"}',
        'tidemark_dependency_up{dependency="kafka"} == 1',
        'tidemark_dependency_up{dependency="postgres"} == 1',
        'tidemark_series{status="learning"}',
    ],
}


@pytest.fixture(autouse=True)
def _programs() -> None:
    for program in ("prometheus", "promtool"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing: install the Debian package prometheus")


def _promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], cwd=MONITORING, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_takes_the_rules_and_the_example_of_a_configuration() -> None:
    assert "SUCCESS" in _promtool("check", "rules", "--lint-fatal", "alerts.yaml")
    assert "SUCCESS" in _promtool("check", "config", "--lint-fatal", "prometheus.yaml")


def test_promtool_takes_every_question_of_the_dashboard(tmp_path: Path) -> None:
    board = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    # What Grafana puts in their places.
    for name, value in {"$__rate_interval": "1m", "$__range": "6h", "$span": "week"}.items():
        asked = [one.replace(name, value) for one in asked]
    rules = [{"record": f"asked:{at}", "expr": one} for at, one in enumerate(asked)]
    path = tmp_path / "asked.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")
    assert f"SUCCESS: {len(asked)} rules found" in _promtool("check", "rules", str(path))


@pytest.mark.slow
def test_each_rule_fires_when_it_should_and_is_silent_when_not() -> None:
    assert "SUCCESS" in _promtool("test", "rules", "alerts_test.yaml")


@pytest.mark.parametrize(
    ("name", "was", "becomes"),
    [
        ("TidemarkLagGrowing", "> 10000", "> 100000"),
        ("TidemarkLostRecords", "unless tidemark_lost_records_total offset 1h", "unless tidemark_lost_records_total"),
        ("TidemarkDependencyDown", "== 0", "== 1"),
    ],
)
def test_a_rule_that_is_changed_fails_its_test(tmp_path: Path, name: str, was: str, becomes: str) -> None:
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))
    tests = yaml.safe_load((MONITORING / "alerts_test.yaml").read_text(encoding="utf-8"))
    tests["tests"] = [one for one in tests["tests"] if one["name"].split()[0] == name]
    [rule] = [rule for group in rules["groups"] for rule in group["rules"] if rule["alert"] == name]
    assert was in rule["expr"]
    rule["expr"] = rule["expr"].replace(was, becomes)
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(rules), encoding="utf-8")
    (tmp_path / "alerts_test.yaml").write_text(yaml.safe_dump(tests), encoding="utf-8")
    done = subprocess.run(
        ["promtool", "test", "rules", "alerts_test.yaml"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 1


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One for this file: its worker reads whole topics."""
    with Stack(tmp_path_factory.mktemp("watched")) as running:
        yield running


@dataclass(frozen=True, slots=True)
class Watched:
    """An API of ours and a Prometheus that scrapes it and a worker, by their URLs."""

    api: str
    prometheus: str


@pytest.fixture
def watched(stack: Stack, tmp_path: Path) -> Iterator[Watched]:
    """Scraped five times a second, otherwise by our example."""
    api_port, worker_port, port = free_port(), free_port(), free_port()
    environment = {
        **stack.environment(),
        "TIDEMARK_CLOCK": "events",
        "TIDEMARK_FLUSH_SECONDS": "0.2",
        "TIDEMARK_HTTP_PORT": str(api_port),
        "TIDEMARK_WORKER_HTTP_PORT": str(worker_port),
    }
    configuration = (
        (MONITORING / "prometheus.yaml")
        .read_text(encoding="utf-8")
        .replace("127.0.0.1:8000", f"127.0.0.1:{api_port}")
        .replace("127.0.0.1:8001", f"127.0.0.1:{worker_port}")
        .replace("_interval: 15s", "_interval: 200ms")
    )
    (tmp_path / "prometheus.yaml").write_text(configuration, encoding="utf-8")
    shutil.copy(MONITORING / "alerts.yaml", tmp_path)
    command = [
        "prometheus",
        f"--config.file={tmp_path / 'prometheus.yaml'}",
        f"--storage.tsdb.path={tmp_path / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (
        WorkerProcess(environment, tmp_path / "worker.log"),
        WorkerProcess(environment, tmp_path / "api.log", command=("-m", "cli.main", "api")),
        (tmp_path / "prometheus.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            yield Watched(f"http://127.0.0.1:{api_port}", f"http://127.0.0.1:{port}/api/v1")
        finally:
            process.terminate()
            process.wait(30)


async def _send_calls(url: str) -> None:
    calls = [
        {"biller_id": "B1", "timestamp": HOUR_MS + hour * 3_600_000, "latency_ms": 20.0, "outcome": "ok"}
        for hour in range(4)
    ]
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:

        async def untaken() -> str:
            try:
                # Readiness is what asks Kafka and PostgreSQL, and an orchestrator's probe does.
                ready = await client.get("/readyz")
                if ready.status_code != 200 or '"error"' in ready.text:
                    return ready.text
                answer = await client.post("/events/calls", json=calls)
                return "" if answer.status_code == 202 else answer.text
            except httpx.TransportError as error:
                return repr(error)

        await eventually(untaken, within_seconds=120)


async def _asked(client: httpx.AsyncClient, path: str, **parameters: str) -> Any:
    answer = await client.get(path, params=parameters)
    answer.raise_for_status()
    found = answer.json()
    assert found["status"] == "success"
    return found["data"]


@pytest.mark.slow
async def test_prometheus_scrapes_a_live_stack_by_the_example_and_loads_the_rules(watched: Watched) -> None:
    await _send_calls(watched.api)
    async with httpx.AsyncClient(base_url=watched.prometheus, timeout=10) as client:
        await _check(client)


async def _check(prometheus: httpx.AsyncClient) -> None:
    async def down() -> str:
        try:
            targets = (await _asked(prometheus, "/targets"))["activeTargets"]
        except httpx.HTTPError as error:
            return repr(error)
        # Prometheus answers before its discovery has found the first target.
        if (jobs := sorted(one["labels"]["job"] for one in targets)) != ["tidemark-api", "tidemark-worker"]:
            return f"the jobs are {jobs}"
        return "; ".join(f"{one['labels']['job']}: {one['lastError']}" for one in targets if one["health"] != "up")

    await eventually(down, within_seconds=120)

    async def missing() -> str:
        absent = []
        for job, wanted in KEY_SERIES.items():
            for one in wanted:
                name, brace, rest = one.partition("{")
                query = f'{name}{{job="{job}",{rest}' if brace else f'{name}{{job="{job}"}}'
                if not (await _asked(prometheus, "/query", query=query))["result"]:
                    absent.append(query)
        return ", ".join(absent)

    await eventually(missing, within_seconds=120)

    groups = (await _asked(prometheus, "/rules"))["groups"]
    loaded = {rule["name"] for group in groups for rule in group["rules"]}
    shipped = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))
    assert loaded == {rule["alert"] for group in shipped["groups"] for rule in group["rules"]}

    async def unevaluated() -> str:
        groups = (await _asked(prometheus, "/rules"))["groups"]
        return ", ".join(
            f"{rule['name']}: {rule['health']} {rule.get('lastError', '')}"
            for group in groups
            for rule in group["rules"]
            if rule["health"] != "ok"
        )

    await eventually(unevaluated, within_seconds=120)
    alerts = (await _asked(prometheus, "/alerts"))["alerts"]
    assert [one["labels"]["alertname"] for one in alerts if one["state"] == "firing"] == []
