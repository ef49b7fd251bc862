"""The command ends with the exit code and the advice that fit the error, and never with a traceback."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from cli import replay
from cli.main import _SUBCOMMANDS, app, ending
from detection import errors
from detection.errors import TidemarkError


def leaves(kind: type[TidemarkError]) -> set[type[TidemarkError]]:
    below = [leaf for child in kind.__subclasses__() for leaf in leaves(child)]
    return set(below) or {kind}


def test_every_error_ends_in_the_exit_code_of_its_branch() -> None:
    branches: dict[type[TidemarkError], int] = {errors.InputError: 2, errors.RetryError: 3, errors.OperatorError: 4}
    for leaf in leaves(TidemarkError):
        (expected,) = {code for branch, code in branches.items() if issubclass(leaf, branch)}
        code, _ = ending(leaf.__new__(leaf))
        assert code == expected, leaf


def test_a_misspelt_setting_ends_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_REDIS_ULR", "redis://elsewhere")
    run = CliRunner().invoke(app, ["worker"])
    assert run.exit_code == 4
    assert "did you mean TIDEMARK_REDIS_URL?" in run.stderr
    assert "Traceback" not in run.output


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "fast"])
def test_a_speed_that_is_none_is_refused(text: str) -> None:
    assert CliRunner().invoke(app, ["replay", "calls.csv", "--speed", text]).exit_code == 2


def test_speeds_are_read_as_factors() -> None:
    assert replay.speed_factor("100000") == 100_000
    assert replay.speed_factor("max") is None


def test_help_loads_neither_servers_nor_clients() -> None:
    heavy = {
        "faust",
        "river",
        "fastapi",
        "aiokafka",
        "redis",
        "psycopg",
        "matplotlib",
        "pyarrow",
        "pydantic",
        "httpx",
        "rich.console",
    }
    script = f"""
import sys
from cli.main import app
try:
    app(["--help"])
finally:
    print("loaded", sorted({heavy} & set(sys.modules)))
"""
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert "backtest" in loaded.stdout
    assert loaded.stdout.splitlines()[-1] == "loaded []"


@pytest.mark.parametrize("name", list(_SUBCOMMANDS))
def test_every_command_is_found_and_explains_itself(name: str) -> None:
    run = CliRunner().invoke(app, [name, "--help"])
    assert run.exit_code == 0
    assert f" {name} " in run.output.splitlines()[0]


def test_an_unknown_command_is_refused() -> None:
    run = CliRunner().invoke(app, ["inspct"])
    assert run.exit_code == 2
    assert "inspct" in run.stderr
