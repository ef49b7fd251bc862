"""A whole Tidemark that asks for keys: servers, a worker, an API, and subjects that have learned and have alerts open.

The subjects are those of the examples in the API's description, so that what is sent by its examples finds them.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from detection.hours import HOUR_MS, MINUTE_MS
from local.ports import free_port
from local.stack import Stack
from state.migrate import migrate
from tests.worker import ROOT, WorkerProcess

BILLERS: Final = ("B1", "B2", "B3", "own-1")
MODELS: Final = (("Mistral", "v1"), ("Phi", "v2"))

_TRAINED_HOURS: Final = 21 * 24
_LIVE_MINUTES: Final = 200
_TROUBLE_MINUTES: Final = 12
_SEED: Final = 7
# Counted with every request, and never reached.
_PER_SECOND: Final = 1_000_000
_RULE: Final = {"metric": "prediction_accuracy", "condition": "lower than", "boundary": 0.3, "severity": "critical"}


@dataclass(frozen=True, slots=True)
class ServedApi:
    """Where it listens, a key that may do everything, one that may look at `biller:own-*`, and its log."""

    url: str
    admin_key: str
    limited_key: str
    alert_ids: tuple[str, ...]
    log: Path


@contextmanager
def served_api(folder: Path) -> Iterator[ServedApi]:
    """Started, fed and alerting; everything ends with the block, and fails if a process had ended before."""
    with Stack(folder / "stack") as stack:
        migrate(stack.postgres.url)
        port = free_port()
        environment = {
            **stack.environment(),
            "TIDEMARK_COHORT_SECONDS": "10",
            "TIDEMARK_HTTP_PORT": str(port),
            "TIDEMARK_AUTH": "on",
            "TIDEMARK_LOG_LEVEL": "warning",
        }
        admin = _key(environment, "admin", "--scope", "admin")
        limited = _key(environment, "limited", "--scope", "read", "--subject", "biller:own-*")
        url = f"http://127.0.0.1:{port}"
        worker = WorkerProcess(environment, folder / "worker.log")
        api = WorkerProcess(environment, folder / "api.log", ["-m", "cli.main", "api"])
        client = httpx.Client(base_url=url, headers={"X-API-Key": admin}, trust_env=False, timeout=60)
        with worker, api, client:
            _until_ready(client)
            _feed(client)
            yield ServedApi(url, admin, limited, _open_alerts(client), folder / "api.log")
            assert api.status is None, "the API has ended by itself"
            assert worker.status is None, "the worker has ended by itself"
            api.stop()
            worker.stop()


def _key(environment: dict[str, str], name: str, *options: str) -> str:
    """Made as operators make them."""
    command = [sys.executable, "-m", "cli.main", "keys", "create", name, "--per-second", str(_PER_SECOND), "--json"]
    made = subprocess.run(
        [*command, *options], env={**os.environ, **environment}, cwd=ROOT, capture_output=True, check=True
    )
    return str(orjson.loads(made.stdout)["key"])


_patiently: Final = retry(
    retry=retry_if_exception_type((httpx.HTTPError, AssertionError)),
    stop=stop_after_delay(120),
    wait=wait_fixed(0.2),
    reraise=True,
)


@_patiently
def _until_ready(client: httpx.Client) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == httpx.codes.OK, answer.text


@_patiently
def _open_alerts(client: httpx.Client) -> tuple[str, ...]:
    """Their ids, once there is one of a biller and one of a model."""
    ids = tuple(alert["id"] for alert in client.get("/alerts").raise_for_status().json()["alerts"])
    assert {"biller", "model"} <= {one.partition(":")[0] for one in ids}, ids
    return ids


def _feed(client: httpx.Client) -> None:
    """Three weeks of hours as data sets, then some live hours whose last minutes are bad for B2 and Mistral."""
    chance = random.Random(_SEED)
    now_ms = time.time_ns() // 1_000_000
    _send(client, "PUT", "/rules/low-accuracy", _RULE)
    first_ms = (now_ms // HOUR_MS - _TRAINED_HOURS) * HOUR_MS
    for path, typical in _series():
        rows = [
            {"timestamp": first_ms + hour * HOUR_MS, "value": typical * chance.uniform(0.8, 1.2), "count": 60}
            for hour in range(_TRAINED_HOURS - _LIVE_MINUTES // 60 - 1)
        ]
        _send(client, "POST", f"/metrics/train/{path}", {"rows": rows})
    calls: list[dict[str, Any]] = []
    observations: list[dict[str, Any]] = []
    for minute in range(_LIVE_MINUTES, 0, -1):
        at, is_late = now_ms - minute * MINUTE_MS, minute <= _TROUBLE_MINUTES
        for biller in BILLERS:
            slow = 20 if is_late and biller == "B2" else 1
            calls += [
                {"biller_id": biller, "timestamp": at + n, "latency_ms": 200 * slow * chance.uniform(0.5, 2)}
                | {"outcome": chance.choice(["ok"] * 20 + ["error"])}
                for n in range(4)
            ]
        for name, version in MODELS:
            accuracy = 0.19 if is_late and name == "Mistral" else chance.uniform(0.7, 0.9)
            observations.append(
                {"name": name, "version": version, "timestamp": at, "prediction_accuracy": accuracy}
                | {"drift": 0.1, "inference_time": chance.uniform(10, 20)}
            )
    _send(client, "POST", "/events/calls", {"calls": calls})
    _send(client, "POST", "/events/observations", {"observations": observations})


def _series() -> Iterator[tuple[str, float]]:
    for biller in BILLERS:
        for metric, typical in (("average-response-time", 200.0), ("error-rate", 3.0), ("timeout-error-rate", 1.0)):
            yield f"{metric}/{biller}", typical
    for name, version in MODELS:
        for metric, typical in (("prediction-accuracy", 0.8), ("drift", 0.1), ("inference-time", 15.0)):
            yield f"gauges/{metric}/{name}/{version}", typical


def _send(client: httpx.Client, method: str, path: str, body: object) -> None:
    answer = client.request(method, path, json=body)
    assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
