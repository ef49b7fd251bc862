"""With the real Alertmanager: what fires goes on firing, is told to its people once, and resolves once."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

import metrics
from detection.rules.platform import Grouping
from detection.subject import Subject
from local.ports import free_port
from state.notified import MemoryNotified
from stream.channels.alertmanager import AlertmanagerChannel
from stream.channels.targets import Target
from stream.notifying import Notifier
from tests.notifying import Alerts, until
from tests.receiver import Receiver

pytestmark = [pytest.mark.debian, pytest.mark.timeout(120)]

PROGRAM = "prometheus-alertmanager"
MISTRAL = Subject.model("Mistral", "v1")

# An alert that is not told of again would be over for it after a second.
CONFIGURATION = """
global:
  resolve_timeout: 1s
route:
  receiver: people
  group_by: [alertname, metric]
  group_wait: 300ms
  group_interval: 500ms
  repeat_interval: 4h
receivers:
  - name: people
    webhook_configs:
      - url: {url}
        send_resolved: true
"""


@dataclass(frozen=True, slots=True)
class Alertmanager:
    """A running one; `people` is whom it notifies."""

    url: str
    people: Receiver

    async def alerts(self) -> list[dict[str, Any]]:
        """Those that it takes for open."""
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{self.url}/api/v2/alerts", params={"active": "true"})
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found

    def said(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """What its people were told: the state of each group, with each alert's subject and state."""
        return [
            (
                one.json["status"],
                sorted((alert["labels"]["subject"], alert["status"]) for alert in one.json["alerts"]),
            )
            for one in self.people.requests
        ]


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[Alertmanager]:
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"{PROGRAM} is missing: install the Debian package of that name")
    with Receiver() as people:
        (tmp_path / "alertmanager.yml").write_text(CONFIGURATION.format(url=people.url))
        port = free_port()
        command = [
            PROGRAM,
            f"--config.file={tmp_path / 'alertmanager.yml'}",
            f"--storage.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ]
        with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                url = f"http://127.0.0.1:{port}"
                _await_ready(url, process, tmp_path / "log")
                yield Alertmanager(url, people)
            finally:
                process.terminate()


@retry(retry=retry_if_exception_type(httpx.HTTPError), stop=stop_after_delay(30), wait=wait_fixed(0.05), reraise=True)
def _await_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    assert process.poll() is None, log.read_text()
    httpx.get(f"{url}/-/ready").raise_for_status()


@asynccontextmanager
async def notifying(url: str, alerts: Alerts, memory: MemoryNotified, *, holder: str) -> AsyncIterator[Notifier]:
    """A notifier that looks five times a second, and tells Alertmanager again every second; killed at the end."""
    channel = AlertmanagerChannel([url], interval_seconds=1)
    notifier = Notifier(
        alerts,
        memory,
        [Target("alertmanager", channel, is_default=True)],
        metrics.instruments(CollectorRegistry()),
        holder=holder,
        wait_ms=0,
        grouping=Grouping(),
    )

    async def look() -> None:
        while True:
            await notifier.reconcile(_now_ms())
            await asyncio.sleep(0.2)

    task = asyncio.create_task(look())
    try:
        yield notifier
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await notifier.aclose()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def _goes_on_firing(alertmanager: Alertmanager, *, subjects: set[str], seconds: float) -> None:
    """At every look in this time, these and no others are open."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert {one["labels"]["subject"] for one in await alertmanager.alerts()} == subjects
        await asyncio.sleep(0.2)


async def test_an_alert_is_told_once_goes_on_firing_through_a_restart_and_resolves_once(
    alertmanager: Alertmanager,
) -> None:
    alerts, memory = Alerts(), MemoryNotified()
    opened = alerts.open(MISTRAL, slug="prediction-accuracy", rule="accuracy", since_ms=_now_ms() - 60_000)
    subjects = {"model:Mistral/v1"}
    async with notifying(alertmanager.url, alerts, memory, holder="worker 1"):
        await until(lambda: len(alertmanager.people.requests) == 1)
        # Longer than its resolve_timeout, and than the three intervals after which it would be over.
        await _goes_on_firing(alertmanager, subjects=subjects, seconds=5)
        (shown,) = await alertmanager.alerts()
        assert shown["labels"] == {
            "alertname": "accuracy",
            "subject": "model:Mistral/v1",
            "metric": "prediction-accuracy",
            "severity": "critical",
            "owner": "payments",
            "name": "Mistral",
            "version": "v1",
        }
        assert shown["annotations"]["summary"] == opened.line
    async with notifying(alertmanager.url, alerts, memory, holder="worker 2"):
        await _goes_on_firing(alertmanager, subjects=subjects, seconds=5)
        (again,) = await alertmanager.alerts()
        assert again["startsAt"] == shown["startsAt"]
        assert again["fingerprint"] == shown["fingerprint"]
        alerts.end(opened)
        ended = time.monotonic()
        await until(lambda: len(alertmanager.people.requests) == 2)
        # It was told of the end, and did not just hear nothing for three seconds.
        assert time.monotonic() - ended < 2.5
        await _goes_on_firing(alertmanager, subjects=set(), seconds=3)
    assert alertmanager.said() == [
        ("firing", [("model:Mistral/v1", "firing")]),
        ("resolved", [("model:Mistral/v1", "resolved")]),
    ]
    assert memory.fields == {}


async def test_alerts_of_one_rule_come_as_one_group(alertmanager: Alertmanager) -> None:
    alerts, memory = Alerts(), MemoryNotified()
    first, second = (alerts.open(Subject.biller(one), since_ms=_now_ms() - 60_000) for one in ("B1", "B2"))
    async with notifying(alertmanager.url, alerts, memory, holder="worker 1"):
        await until(lambda: len(alertmanager.people.requests) == 1)
        assert alertmanager.said() == [("firing", [("biller:B1", "firing"), ("biller:B2", "firing")])]
        alerts.end(first)
        await until(lambda: len(alertmanager.people.requests) == 2)
        alerts.end(second)
        await until(lambda: len(alertmanager.people.requests) == 3)
    assert alertmanager.said()[1:] == [
        ("firing", [("biller:B1", "resolved"), ("biller:B2", "firing")]),
        ("resolved", [("biller:B2", "resolved")]),
    ]


async def test_an_alert_that_opens_again_is_told_again(alertmanager: Alertmanager) -> None:
    alerts, memory = Alerts(), MemoryNotified()
    async with notifying(alertmanager.url, alerts, memory, holder="worker 1"):
        for times in (1, 2):
            opened = alerts.open(MISTRAL, slug="prediction-accuracy", since_ms=_now_ms() - 60_000)
            await until(lambda: len(alertmanager.people.requests) == 2 * times - 1)  # noqa: B023  # awaited at once
            alerts.end(opened)
            await until(lambda: len(alertmanager.people.requests) == 2 * times)  # noqa: B023  # as above
    assert [state for state, _ in alertmanager.said()] == ["firing", "resolved"] * 2


async def test_when_nobody_is_left_to_tell_it_an_alert_is_over_after_three_intervals(
    alertmanager: Alertmanager,
) -> None:
    alerts, memory = Alerts(), MemoryNotified()
    alerts.open(MISTRAL, slug="prediction-accuracy", since_ms=_now_ms() - 60_000)
    async with notifying(alertmanager.url, alerts, memory, holder="worker 1"):
        await until(lambda: len(alertmanager.people.requests) == 1)
    await until(lambda: len(alertmanager.people.requests) == 2)
    assert [state for state, _ in alertmanager.said()] == ["firing", "resolved"]
