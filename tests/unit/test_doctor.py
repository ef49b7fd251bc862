"""What `tidemark doctor` makes of what it is told, without anybody to ask."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from api.log_extents import Extent
from cli import machine_checks
from cli.doctor import exit_code, progress_finding
from cli.main import app
from settings import Settings
from state import redis_checks
from state.finding import Finding, away, clock_finding, failed, ok, unknown, warning
from state.store import Reached
from stream import broker_checks

# What a server says that is as it should be.
INFO: dict[str, Any] = {
    "redis_version": "7.2.4",
    "role": "master",
    "maxmemory": 0,
    "maxmemory_policy": "noeviction",
    "used_memory": 1 << 20,
    "total_system_memory": 1 << 34,
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "rdb_last_bgsave_status": "ok",
    "connected_slaves": 0,
    "loading": 0,
}
DAY_MS = 86_400_000


def levels(findings: list[Finding]) -> dict[str, str]:
    return {one.name: one.level for one in findings}


def of_redis(save: str | None = "", replicas: int = 0, **info: Any) -> dict[str, str]:
    found = redis_checks._of_node("", INFO | info, save=save, replicas=replicas)
    assert all(one.advice for one in found if one.level != "ok")
    return levels([one for one in found if one.level != "ok"])


def of_topic(name: str, config: Mapping[str, str] | None = None, *, nodes: int = 1, **partition: Any) -> dict[str, str]:
    told = {"leader": 1, "replicas": [1], "isr": [1]} | partition
    found = broker_checks._topic(
        name,
        {"partitions": [told]},
        {"cleanup.policy": "delete"} if config is None else config,
        nodes=nodes,
        settings=Settings(),
    )
    assert all(one.advice for one in found if one.level not in {"ok", "unknown"})
    return levels([one for one in found if one.level != "ok"])


@pytest.mark.parametrize(
    ("findings", "code"),
    [
        ([ok("a", ""), warning("b", "", ""), unknown("c", "")], 0),
        ([ok("a", ""), away("redis", "", "")], 3),
        ([failed("a", "", ""), away("redis", "", "")], 4),
        ([], 0),
    ],
)
def test_what_a_person_must_mend_outweighs_what_may_come_back(findings: list[Finding], code: int) -> None:
    assert exit_code(findings) == code


def test_a_server_as_it_should_be_gives_no_reason_to_act() -> None:
    assert of_redis() == {}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"redis_version": "6.0.16"}, {"redis.version": "failed"}),
        ({"role": "slave"}, {"redis.role": "failed"}),
        ({"maxmemory_policy": "allkeys-lru"}, {"redis.eviction": "warning"}),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 1 << 30}, {"redis.eviction": "failed"}),
        ({"maxmemory": 1 << 20}, {"redis.memory": "failed"}),
        ({"maxmemory": (1 << 20) + (1 << 18)}, {"redis.memory": "warning"}),
        ({"aof_last_write_status": "err"}, {"redis.persistence": "failed"}),
        ({"aof_enabled": 0}, {"redis.persistence": "warning"}),
        ({"aof_enabled": 0, "save": "900 1"}, {"redis.persistence": "warning"}),
        ({"aof_enabled": 0, "rdb_last_bgsave_status": "err"}, {"redis.persistence": "failed"}),
        ({"loading": 1}, {"redis.persistence": "warning"}),
        ({"replicas": 1}, {"redis.replicas": "failed"}),
    ],
)
def test_a_server_that_may_lose_or_refuse_what_it_is_told_is_said(
    told: dict[str, Any], expected: dict[str, str]
) -> None:
    assert of_redis(**told) == expected


@pytest.mark.parametrize(
    ("skew_seconds", "level"), [(0.0, "ok"), (-1.9, "ok"), (2.0, "warning"), (-59.0, "warning"), (-60.0, "failed")]
)
def test_a_clock_that_is_off_is_said_with_its_direction(skew_seconds: float, level: str) -> None:
    found = clock_finding("redis.clock", skew_seconds)
    assert found.level == level
    assert ("ahead of" in found.found) == (skew_seconds > 0)


@pytest.mark.parametrize(
    ("name", "config", "expected"),
    [
        ("calls", {"cleanup.policy": "compact"}, {"kafka.calls.retention": "failed"}),
        ("calls", {"cleanup.policy": "compact,delete"}, {"kafka.calls.retention": "failed"}),
        ("calls", {"retention.ms": "60000"}, {"kafka.calls.retention": "failed"}),
        ("calls", {"retention.ms": str(DAY_MS - 1)}, {"kafka.calls.retention": "warning"}),
        ("calls", {"retention.ms": str(DAY_MS)}, {}),
        ("calls", {"retention.ms": "-1"}, {}),
        ("observations", {"max.message.bytes": "999999"}, {"kafka.observations.size": "warning"}),
        ("dead-letters", {"max.message.bytes": "1000"}, {"kafka.dead-letters.size": "warning"}),
        ("thresholds", {"cleanup.policy": "delete"}, {"kafka.thresholds.cleanup": "failed"}),
        ("thresholds", {"cleanup.policy": "compact"}, {}),
        ("alerts", {"cleanup.policy": "delete"}, {}),
        ("alerts", {}, {"kafka.alerts.settings": "unknown"}),
    ],
)
def test_a_topic_that_loses_what_is_in_it_is_said(name: str, config: dict[str, str], expected: dict[str, str]) -> None:
    assert of_topic(name, config) == expected


def test_partitions_without_leader_or_copies_are_said() -> None:
    assert of_topic("alerts", nodes=3) == {"kafka.alerts": "warning"}
    assert of_topic("alerts", nodes=3, replicas=[1, 2], isr=[1, 2]) == {}
    assert of_topic("alerts", nodes=3, replicas=[1, 2], isr=[1]) == {"kafka.alerts": "warning"}
    assert of_topic("alerts", leader=-1) == {"kafka.alerts": "failed"}


def test_a_state_that_is_further_than_the_topic_was_learned_from_another_one() -> None:
    ends = {"calls": {0: Extent(10, 100), 1: Extent(0, 50)}}
    here = {"log.2/calls/0": Reached(70), "log/calls/0": Reached(9999)}
    assert progress_finding("log", ends, {"calls": 2}, here).found == "80 records are to be read"
    lost = progress_finding("log", ends, {"calls": 2}, {"log.2/calls/0": Reached(4)})
    assert (lost.level, lost.found[:10]) == ("warning", "6 records ")
    anew = progress_finding("log", ends, {}, here)
    assert anew.level == "failed"
    assert "calls/0 ends at 100, and 9999 were read" in anew.found
    assert "tidemark log renew" in anew.advice


def test_packages_that_are_missing_or_old_are_named() -> None:
    needed = {"river": "0.22", "redis": "5.2", "faust-streaming": "0.11.3"}
    assert (
        machine_checks.package_finding(needed, {"river": "0.26.1", "redis": "5.2", "faust-streaming": "0.15.3"}).level
        == "ok"
    )
    found = machine_checks.package_finding(needed, {"river": "0.9.4", "redis": "5.10rc1"})
    assert found.level == "failed"
    assert found.found == "missing: faust-streaming; too old: river 0.9.4 (needs 0.22)"


@pytest.mark.parametrize(("soft", "level"), [(256, "failed"), (1024, "warning"), (4096, "ok")])
def test_few_open_files_are_said(soft: int, level: str) -> None:
    assert machine_checks.files_finding(soft).level == level


@pytest.mark.parametrize(("free", "level"), [(0.5, "failed"), (5, "warning"), (50, "ok")])
def test_a_full_disk_is_said(free: float, level: str) -> None:
    assert machine_checks.disk_finding(Path(), int(free * 2**30), 100 * 2**30).level == level


def test_the_disk_of_a_folder_that_is_not_there_yet_is_that_of_its_parent(tmp_path: Path) -> None:
    assert machine_checks.disk(tmp_path / "not" / "yet").found.startswith(f"{tmp_path}: ")


def test_an_old_python_is_said() -> None:
    assert machine_checks.python_finding((3, 10, 9)).level == "failed"
    assert machine_checks.python_finding((3, 12, 0)).level == "ok"


def test_settings_that_open_the_door_or_divert_everything_are_said() -> None:
    assert machine_checks.dangers(Settings()) == []
    open_to_all = Settings(http_host="0.0.0.0")  # noqa: S104 (what it must warn of)
    assert levels(machine_checks.dangers(open_to_all)) == {"settings.http_host": "failed"}
    insecure = Settings(insecure=True, clock="events", dead_letter_share=1.0)
    assert levels(machine_checks.dangers(insecure)) == {
        "settings.insecure": "warning",
        "settings.clock": "warning",
        "settings.dead_letter_share": "warning",
    }


def test_files_that_settings_name_are_read(tmp_path: Path) -> None:
    rules, targets = tmp_path / "rules.yaml", tmp_path / "targets.yaml"
    rules.write_text("rules: 3\n")
    targets.write_text("targets: 3\n")
    found = machine_checks.dangers(Settings(rules=rules, targets=targets))
    assert levels(found) == {"settings.rules": "failed", "settings.targets": "failed"}


def test_a_secret_that_anybody_can_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "tidemark_redis_url"
    secret.write_text("redis://:geheim@127.0.0.1:1/0")
    monkeypatch.setenv("TIDEMARK_SECRETS_DIR", str(tmp_path))
    secret.chmod(0o644)
    found, findings = machine_checks.settings_findings()
    assert levels(findings) == {"settings": "ok", "settings.secrets": "warning"}
    assert found is not None
    assert found.redis_url.get_secret_value().endswith("@127.0.0.1:1/0")
    secret.chmod(0o640)
    assert levels(machine_checks.settings_findings()[1])["settings.secrets"] == "ok"


def test_a_misspelt_setting_is_said_and_what_depends_on_the_others_is_still_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TIDEMARK_REDIS_ULR", "redis://elsewhere")
    for name in ("TIDEMARK_KAFKA_BROKERS", "TIDEMARK_REDIS_URL", "TIDEMARK_POSTGRES_URL"):
        monkeypatch.setenv(name, {"K": "127.0.0.1:1", "R": "redis://:geheim@127.0.0.1:1/0"}.get(name[9], _POSTGRES))
    run = CliRunner().invoke(app, ["doctor", "--json", "--timeout", "1"])
    assert run.exit_code == 4
    checks = {one["name"]: one for one in json.loads(run.stdout)["checks"]}
    assert "did you mean TIDEMARK_REDIS_URL?" in checks["settings.unknown"]["found"]
    assert {name: checks[name]["status"] for name in ("kafka", "redis", "postgres")} == dict.fromkeys(
        ("kafka", "redis", "postgres"), "failed"
    )
    assert "geheim" not in run.output


def test_a_setting_that_cannot_be_used_leaves_the_rest_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_COVERAGE", "7")
    run = CliRunner().invoke(app, ["doctor", "--json"])
    assert run.exit_code == 4
    checks = {one["name"]: one["status"] for one in json.loads(run.stdout)["checks"]}
    assert checks["settings"] == "failed"
    assert checks["kafka"] == checks["redis"] == checks["postgres"] == "unknown"
    assert checks["machine.python"] == "ok"


_POSTGRES = "postgresql://tidemark:geheim@127.0.0.1:1/tidemark"
