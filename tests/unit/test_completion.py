"""The shells complete the command: what the real bash does with the script, and what the others are told."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import _SUBCOMMANDS, app

TIDEMARK = Path(sys.executable).with_name("tidemark")
SCRIPT = CliRunner().invoke(app, ["completion", "bash"]).stdout


def completed(*words: str, environment: dict[str, str] | None = None) -> list[str]:
    """What bash would offer for the last of the words, after it has read the script."""
    # In a bash that reads no keyboard, what the key does is done by hand: `complete` says which function it calls.
    told = f"""
    set -e
    {SCRIPT}
    COMP_WORDS=({shlex.join(words)})
    COMP_CWORD={len(words) - 1}
    function=$(complete -p tidemark | grep -o '_[a-z_]*completion')
    $function {shlex.quote(str(TIDEMARK))}
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    run = subprocess.run(
        ["bash", "--norc", "-c", told],
        capture_output=True,
        text=True,
        check=True,
        # Away: what is asked for there is not waited for.
        env={**os.environ, "TIDEMARK_REDIS_URL": "redis://127.0.0.1:9", **(environment or {})},
    )
    assert run.stderr == ""
    return run.stdout.split()


def test_commands_are_completed() -> None:
    assert completed("tidemark", "") == list(_SUBCOMMANDS)
    assert completed("tidemark", "ins") == ["inspect"]
    assert completed("tidemark", "nothing") == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["thresholds", ""], {"list", "export"}),
        (["dead-letters", "re"], {"replay"}),
        (["state", ""], {"export", "import", "refold"}),
        (["rules", "ch"], {"check"}),
        (["completion", ""], {"bash", "zsh", "fish"}),
        (["thresholds", "list", "--me"], {"--metric"}),
        (["dead-letters", "replay", "--reason", ""], {"invalid", "late"}),
        (["thresholds", "list", "--status", "re"], {"ready"}),
        (["predict", "err"], {"error-rate"}),
        (["explain", "B1", "time"], {"timeout-error-rate"}),
        (["state", "refold", "pro"], set()),
    ],
)
def test_what_follows_is_completed(words: list[str], expected: set[str]) -> None:
    assert set(completed("tidemark", *words)) == expected


def test_names_of_commands_are_completed_without_loading_one() -> None:
    script = """
import os, sys
os.environ |= {"COMP_WORDS": "tidemark ", "COMP_CWORD": "1", "_TIDEMARK_COMPLETE": "complete_bash"}
from cli.main import app
try:
    app(prog_name="tidemark")
finally:
    print("loaded", sorted(name for name in sys.modules if name.startswith("cli.")))
"""
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert run.stdout.split()[0] == "up"
    assert run.stdout.splitlines()[-1] == "loaded ['cli.main']"


@pytest.mark.parametrize(("shell", "variable"), [("zsh", "_TYPER_COMPLETE_ARGS"), ("fish", "_TYPER_COMPLETE_ARGS")])
def test_other_shells_are_answered_too(shell: str, variable: str) -> None:
    script = CliRunner().invoke(app, ["completion", shell]).stdout
    assert f"complete_{shell}" in script
    told = {
        **os.environ,
        variable: "tidemark insp",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TIDEMARK_COMPLETE": f"complete_{shell}",
    }
    run = subprocess.run([TIDEMARK], env=told, check=True, capture_output=True, text=True)
    assert "inspect" in run.stdout
    assert _SUBCOMMANDS["inspect"].line in run.stdout


def test_a_shell_that_is_not_known_is_refused() -> None:
    assert CliRunner().invoke(app, ["completion", "tcsh"]).exit_code == 2
