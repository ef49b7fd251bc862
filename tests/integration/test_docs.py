"""What the pages under docs/ tell one to type works as it is printed, against a stack with simulated data."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from local.ports import free_port
from local.stack import Stack
from tests.worker import ROOT, WorkerProcess

pytestmark = [pytest.mark.docs, pytest.mark.timeout(600)]

PAGES = sorted((ROOT / "docs").glob("*.md"))
LANGUAGES = ("sh", "bash", "python", "sql")
SHELLS = ("sh", "bash")

# Pages whose commands another test executes, with what it takes to do so.
EXECUTED_ELSEWHERE = {"redis.md": "tests/integration/test_redis_cli.py"}
# Lines that cannot end, or need what no test machine has: the line as it is printed, and why.
NOT_EXECUTED = {
    "make run": "goes on until Ctrl-C; tests/integration/test_up.py and test_readme.py start what it starts",
    "tidemark simulate --live --hours 48 --labels incidents.json": "goes on until Ctrl-C",
}
BILLERS = ("B1", "probe-01", "probe-02")
# Where a page tells one to run a command, the API is at its usual address, which a test cannot count on.
PROGRAM = """#!/bin/sh
case "$1 $2" in
simulate*|predict*|thresholds*|explain*|"rules dry-run"|"rules apply"|"rules list") set -- "$@" --url "{url}" ;;
esac
exec "{python}" -m cli.main "$@"
"""
CALENDAR = """BEGIN:VCALENDAR\r
VERSION:2.0\r
PRODID:-//example//holidays//EN\r
BEGIN:VEVENT\r
UID:carnival@example.org\r
DTSTAMP:20260101T000000Z\r
DTSTART;VALUE=DATE:20280229\r
SUMMARY:Carnival\r
END:VEVENT\r
END:VCALENDAR\r
"""
# What is printed once, and here done with less, as the printed one takes long.
SHORTER = {"billers=50, hours=8 * 168": "billers=2, hours=8 * 168"}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page; `line` is that of its fence."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """The blocks of one page that somebody might type, in their order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page.name, text.count("\n", 0, found.start()) + 1, found["language"], found["text"])
        for found in re.finditer(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if found["language"] in LANGUAGES
    ]


BLOCKS = [block for page in PAGES if page.name not in EXECUTED_ELSEWHERE for block in blocks_of(page)]


@dataclass(frozen=True, slots=True)
class Documented:
    """A stack with a worker, the API and some data, and the folder in which one types."""

    folder: Path
    url: str
    environment: dict[str, str]
    postgres_url: str

    def run(self, text: str) -> str:
        """What the shell says; a problem that the API answers with is a failure."""
        told = text.replace("http://127.0.0.1:8000", self.url).replace(".venv/bin/tidemark", "tidemark")
        script = f'set -eo pipefail\ncurl() {{ command curl --fail-with-body -sS "$@"; }}\n{told}'
        run = subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, (told, run.stdout[-2000:], run.stderr[-2000:])
        return run.stdout


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Documented]:
    folder = tmp_path_factory.mktemp("docs")
    (folder / "examples").symlink_to(ROOT / "examples")
    shutil.copy(ROOT / "examples" / "rules.yaml", folder / "rules.yaml")
    program = folder / "bin" / "tidemark"
    program.parent.mkdir()
    (folder / "bank-holidays.ics").write_text(CALENDAR, encoding="utf-8")
    with Stack(folder / "data") as stack:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        program.write_text(PROGRAM.format(python=sys.executable, url=url))
        program.chmod(0o755)
        plain = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMARK_")}
        own = stack.environment() | {"TIDEMARK_HTTP_PORT": str(port), "TIDEMARK_WORKER_HTTP_PORT": str(free_port())}
        environment = (
            plain
            | own
            | {
                "PATH": f"{program.parent}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{plain['PATH']}",
                "PYTHONPATH": str(ROOT),
                # Printed where a key is asked for; without TIDEMARK_AUTH nobody looks at it.
                "KEY": "tm_printed",
            }
        )
        this = Documented(folder, url, environment, stack.postgres.url)
        with (
            WorkerProcess(environment, folder / "worker.log"),
            WorkerProcess(environment, folder / "api.log", ("-m", "cli.main", "api")),
        ):
            _answers(this, "/readyz")
            (folder / "calls.ndjson").write_text(_calls(), encoding="utf-8")
            this.run("tidemark simulate --hours 50 --billers 2 --models 2")
            this.run(
                "curl http://127.0.0.1:8000/events/calls -H 'Content-Type: application/x-ndjson' "
                "--data-binary @calls.ndjson"
            )
            for path in ("/thresholds", "/stats/Llama/v1", "/stats/billers/B1?step=1h"):
                _answers(this, path)
            yield this


def _calls() -> str:
    """Six calls of each of the billers that pages name, in each of the last fifty hours by the clock."""
    now_ms = int(time.time() * 1000)
    return "\n".join(
        json.dumps({"biller_id": name, "timestamp": now_ms - at * 600_000, "latency_ms": 100 + at % 7, "outcome": "ok"})
        for at in range(300, 0, -1)
        for name in BILLERS
    )


@retry(retry=retry_if_exception_type(AssertionError), stop=stop_after_delay(120), wait=wait_fixed(0.5), reraise=True)
def _answers(this: Documented, path: str) -> None:
    assert this.run(f"curl 'http://127.0.0.1:8000{path}'").strip()


def executable(text: str) -> str:
    """A printed script without the lines that are known not to end."""
    return "\n".join(
        line for line in text.splitlines() if not any(line.startswith(printed) for printed in NOT_EXECUTED)
    )


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_printed_block_runs(documented: Documented, block: Block) -> None:
    if block.language in SHELLS:
        documented.run(executable(block.text))
    elif block.language == "sql":
        with psycopg.connect(documented.postgres_url) as connection:
            connection.execute(block.text)
    else:
        text = block.text
        for printed, shorter in SHORTER.items():
            text = text.replace(printed, shorter)
        text = text.replace("http://127.0.0.1:8000", documented.url)
        run = subprocess.run(
            [sys.executable, "-c", text],
            cwd=documented.folder,
            env=documented.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr


def test_every_exception_is_still_printed() -> None:
    printed = "\n".join(block.text for block in BLOCKS)
    assert [line for line in NOT_EXECUTED if not re.search(rf"^{re.escape(line)}", printed, re.MULTILINE)] == []
    assert [text for text in SHORTER if text not in printed] == []
    for page, test in EXECUTED_ELSEWHERE.items():
        assert blocks_of(ROOT / "docs" / page)
        assert f'"{page}"' in (ROOT / test).read_text(encoding="utf-8")
