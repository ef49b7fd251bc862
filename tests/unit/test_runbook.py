"""The runbook has an entry for everything that calls for an operator, and for nothing that does not exist any more."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer import Context
from typer.core import TyperGroup
from typer.main import get_command

from cli.main import app
from detection.errors import OperatorError
from docs.generate import log_events
from settings import PREFIX, Settings
from tests.unit.test_api_problems import leaves

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
PARTS = ("Means", "Look", "Do", "At risk")

SECTIONS = {part.partition("\n")[0]: part for part in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]}
ENTRIES = {
    (section, part.partition("\n")[0]): part
    for section, text in SECTIONS.items()
    for part in re.split(r"^### ", text, flags=re.MULTILINE)[1:]
}


def _entries(section: str) -> set[str]:
    return {name for where, name in ENTRIES if where.startswith(section)}


def _literals(folder: str, call: str, *, argument: int | str) -> Iterator[str]:
    """The texts that stand as this argument in calls of this name, anywhere below a folder."""
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id != call:
                continue
            given: list[ast.expr] = (
                node.args[argument : argument + 1]
                if isinstance(argument, int)
                else [one.value for one in node.keywords if one.arg == argument]
            )
            yield from (one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str))


def test_every_alert_has_an_entry_and_every_entry_is_an_alert() -> None:
    groups = yaml.safe_load((ROOT / "monitoring" / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    assert _entries("Alerts about ") == {rule["alert"] for group in groups for rule in group["rules"]}


def test_every_error_that_stops_a_process_has_an_entry() -> None:
    assert _entries("What stops a process") == {error.__name__ for error in leaves(OperatorError)}


def test_every_kind_of_problem_has_an_entry_or_a_line() -> None:
    lines = set(re.findall(r"^\| `([a-z-]+)` \|", SECTIONS["Problems"], re.MULTILINE))
    kinds = set(_literals("api", "Kind", argument=1))
    assert "invalid-request" in kinds
    assert not lines & _entries("Problems")
    assert lines | _entries("Problems") == kinds


def test_every_reason_of_a_dead_letter_has_an_entry() -> None:
    reasons = set(_literals("stream", "DeadLetter", argument="reason")) | set(
        _literals("stream", "_of_observation", argument=1)
    )
    assert reasons
    assert _entries("Dead letters") == reasons


@pytest.mark.parametrize("name", ENTRIES, ids=lambda name: name[1])
def test_an_entry_says_what_it_means_where_to_look_what_to_do_and_what_is_at_risk(name: tuple[str, str]) -> None:
    assert re.findall(r"^- \*\*(.+?)\.\*\* \S", ENTRIES[name], re.MULTILINE) == list(PARTS)


def test_the_settings_and_events_of_the_log_that_it_names_exist() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(re.findall(rf"{PREFIX}\w+", TEXT)) <= known
    spoken = set(re.findall(r"`([a-z]+\.[a-z_]+)`", TEXT)) - {"retention.ms"}
    assert spoken <= log_events().keys()


def test_every_event_of_the_log_that_is_an_error_is_spoken_of() -> None:
    errors = {name for name, event in log_events().items() if "error" in event.levels}
    assert len(errors) > 10
    assert {name for name in errors if f"`{name}`" not in TEXT} == set()


def test_the_commands_that_it_names_exist() -> None:
    command = get_command(app)
    assert isinstance(command, TyperGroup)
    known = command.list_commands(Context(command))
    named = set(re.findall(r"`tidemark\s+([a-z-]+)", TEXT))
    assert named
    assert named <= set(known)
