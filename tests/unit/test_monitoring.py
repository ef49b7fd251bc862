"""What is shipped to Prometheus and Grafana speaks of metrics that are really emitted, and leads to the runbook."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from metrics import INSTRUMENTS
from monitoring.generate import FILE, ROWS, dashboard

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"
RUNBOOK = ROOT / "docs" / "runbook.md"

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
TESTS: list[dict[str, Any]] = yaml.safe_load((MONITORING / "alerts_test.yaml").read_text(encoding="utf-8"))["tests"]
BOARD: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))

each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])

# What Prometheus itself knows of what it reads.
ITS_OWN = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate"}}
TARGET = {"job", "instance"}


def _emitted() -> dict[str, set[str]]:
    """Every name that a scrape brings, with its labels."""
    found: dict[str, set[str]] = {}
    for item in INSTRUMENTS:
        labels = set(item.labels) | TARGET
        if item.kind == "histogram":
            found |= {f"{item.name}_bucket": labels | {"le"}, f"{item.name}_sum": labels, f"{item.name}_count": labels}
        else:
            found[item.name] = labels
    return found


EMITTED = _emitted() | ITS_OWN


def _expressions() -> Iterator[tuple[str, str]]:
    yield from ((rule["alert"], rule["expr"]) for rule in RULES)
    for panel in BOARD["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel.get("targets", []))


@pytest.mark.parametrize(("name", "expression"), list(_expressions()))
def test_an_expression_names_metrics_and_labels_that_are_emitted(name: str, expression: str) -> None:
    named = re.findall(r"\b(tidemark_\w+|up|ALERTS)\b(?:\s*\{([^}]*(?:\{[^}]*\}[^}]*)*)\})?", expression)
    assert named, "no metric is named"
    for metric, matchers in named:
        assert metric in EMITTED
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= EMITTED[metric]
    known = set().union(*(EMITTED[metric] for metric, _ in named))
    for group in re.findall(r"\bby\s*\(([^)]*)\)", expression):
        assert {label.strip() for label in group.split(",")} <= known


@pytest.mark.parametrize("item", INSTRUMENTS, ids=lambda item: item.name)
def test_every_instrument_is_on_the_dashboard(item: Any) -> None:
    shown = " ".join(target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", []))
    assert re.search(rf"\b{item.name}(_bucket)?\b", shown)


def test_the_dashboard_is_up_to_date() -> None:
    assert FILE.read_text(encoding="utf-8") == dashboard(), "monitoring/dashboard.json is old: run make docs"


def test_the_panels_of_the_dashboard_have_numbers_of_their_own_and_do_not_overlap() -> None:
    panels = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert rows == [row for row in ROWS if row in rows]


def test_the_dashboard_leaves_the_choice_of_the_prometheus_to_whoever_looks() -> None:
    assert [variable["type"] for variable in BOARD["templating"]["list"]] == ["datasource", "custom"]
    for panel in BOARD["panels"]:
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_no_two_rules_share_a_name() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names))


def test_the_rules_go_by_the_names_of_jobs_that_the_example_and_the_manifests_have() -> None:
    example = yaml.safe_load((MONITORING / "prometheus.yaml").read_text(encoding="utf-8"))
    jobs = {one["job_name"] for one in example["scrape_configs"]}
    for job in ("tidemark-worker", "tidemark-api", "tidemark-(api|worker)"):
        assert any(f'"{job}"' in rule["expr"] for rule in RULES)
    assert jobs == {"tidemark-worker", "tidemark-api"}
    services = yaml.safe_load_all((ROOT / "k8s" / "base" / "service.yaml").read_text(encoding="utf-8"))
    assert {one["metadata"]["name"] for one in services} == jobs
    monitor = yaml.safe_load((ROOT / "k8s/overlays/production/servicemonitor.yaml").read_text(encoding="utf-8"))
    # The operator then calls the jobs like the services.
    assert "jobLabel" not in monitor["spec"]


@each_rule
def test_a_rule_says_how_urgent_it_is_and_what_to_read(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"Tidemark([A-Z][a-z]+)+", rule["alert"])
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"
    assert rule["annotations"]["description"].endswith(".")
    assert not rule["annotations"]["summary"].endswith(".")


@each_rule
def test_the_runbook_has_an_entry_for_the_rule(rule: dict[str, Any]) -> None:
    headings = re.findall(r"^### (\w+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    assert rule["alert"] in headings


@each_rule
def test_a_rule_is_tested_both_ways(rule: dict[str, Any]) -> None:
    name = rule["alert"]
    asked = [
        bool(query["exp_samples"])
        for test in TESTS
        for query in test["promql_expr_test"]
        if f'alertname="{name}", alertstate="firing"' in query["expr"]
    ]
    assert True in asked, "nothing says when it fires"
    assert False in asked, "nothing says when it is silent"
