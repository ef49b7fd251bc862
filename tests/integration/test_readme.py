"""What README.md tells a newcomer to type works as it is printed, against a `tidemark up` of their own."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from cli.main import _SUBCOMMANDS
from local.ports import free_port
from tests.worker import CALLS, RECORDED_CALLS, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# The last month of the endpoints that were probed until the end.
RECORDED = 2_000


@dataclass(frozen=True, slots=True)
class Running:
    """A `tidemark up` that has absorbed its recording."""

    url: str
    valkey_port: int

    def run(self, command: str) -> str:
        """What the shell says to a printed command, with the addresses and the environment of this run put in."""
        told = command.replace("http://127.0.0.1:8000", self.url).replace("PORT", str(self.valkey_port))
        # Without this, curl takes a problem for a success.
        return _run(re.sub(r"^curl ", "curl --fail-with-body --silent --show-error ", told))


def _run(told: str) -> str:
    """What the shell says, in the project's folder, to a command of the project's own environment."""
    told = told.replace(".venv/bin/tidemark", f"{sys.executable} -m cli.main")
    run = subprocess.run(
        ["bash", "-c", told], cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, (told, run.stdout, run.stderr)
    return run.stdout


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("readme")
    recording = folder / "calls.ndjson"
    with gzip.open(CALLS) as lines:
        recording.write_bytes(b"".join(islice(lines, RECORDED_CALLS - RECORDED, None)))
    output = folder / "output.txt"
    command = [sys.executable, "-m", "cli.main", "up", "--plain", "--data", str(folder / "data"), "--for", "200"]
    command += ["--replay", str(recording), "--port", str(free_port())]
    with (
        output.open("wb") as file,
        subprocess.Popen(command, cwd=ROOT, env=_environment(), stdout=file, stderr=subprocess.STDOUT) as process,
    ):
        try:
            url = _says(output, r"ready at (http://\S+)")
            valkey_port = int(_says(output, r"redis-cli -p (\d+)"))
            _says(output, rf"(absorbed {RECORDED:,}) ")
            yield Running(url, valkey_port)
        finally:
            process.terminate()
            process.wait(60)
    assert process.returncode == 0, output.read_text()


@retry(retry=retry_if_exception_type(AssertionError), stop=stop_after_delay(60), wait=wait_fixed(0.2), reraise=True)
def _says(output: Path, pattern: str) -> str:
    text = output.read_text()
    found = re.search(pattern, text)
    assert found, text
    return found[1]


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("TIDEMARK_")}


def commands_of(title: str) -> list[str]:
    """The commands that the section of this title tells one to type."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("command", commands_of("Look around"))
def test_a_command_of_the_readme_succeeds(running: Running, command: str) -> None:
    if command.startswith("curl ") and shutil.which("curl") is None:
        pytest.skip("curl is missing")
    assert running.run(command).strip()


@pytest.mark.parametrize("command", commands_of("Back-test"))
def test_a_back_test_of_the_readme_writes_what_it_names(command: str, tmp_path: Path) -> None:
    _run(command.replace("/tmp/", f"{tmp_path}/"))  # noqa: S108 - the folder that the page names
    predictions = (tmp_path / "said.csv").read_text(encoding="utf-8").splitlines()
    named = {row.split(",")[0] for row in predictions[1:]}
    assert named
    drawn = {path.name for path in (tmp_path / "plots").iterdir()}
    assert drawn == {"index.html", *(f"{name}.svg" for name in named)}
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(f">{name}</h3>" in report for name in named)


@pytest.mark.parametrize("metric", ["1", "2", "3"])
def test_a_biller_that_the_readme_names_has_a_ready_threshold_for_every_metric(running: Running, metric: str) -> None:
    said = running.run(f".venv/bin/tidemark predict {metric} probe-01 --json --url http://127.0.0.1:8000")
    answer: dict[str, Any] = json.loads(said)
    assert answer["status"] == "ready"
    assert answer["threshold"] >= answer["estimate"] >= 0


def test_every_command_in_the_readme_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `tidemark ([\w-]+)", text, re.MULTILINE))
    assert named == _SUBCOMMANDS.keys()


def test_every_page_that_the_readme_points_to_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
