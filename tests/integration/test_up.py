"""`tidemark up` is ready by itself, heals a killed worker, and leaves no process behind however it ends."""

import gzip
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from local.process import orphans

EXAMPLE = Path(__file__).parents[2] / "examples" / "calls.ndjson.gz"
CALLS = 2_000

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@retry(retry=retry_if_exception_type(AssertionError), stop=stop_after_delay(60), wait=wait_fixed(0.2), reraise=True)
def eventually_says(log: Path, pattern: str) -> re.Match[str]:
    text = log.read_text()
    found = re.search(pattern, text)
    assert found, text
    return found


@contextmanager
def running(folder: Path, *options: str) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """A `tidemark up` with its output in a file; killed at the end if it still runs."""
    output = folder / "output.txt"
    command = [sys.executable, "-m", "cli.main", "up", "--plain", "--data", str(folder / "data"), *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMARK_")}
    with (
        output.open("wb") as file,
        subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment) as process,
    ):
        try:
            yield process, output
        finally:
            process.kill()


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "calls.ndjson"
    with gzip.open(EXAMPLE) as lines:
        path.write_bytes(b"".join(next(lines) for _ in range(CALLS)))
    return path


def nothing_is_left(folder: Path) -> None:
    gone, alive = psutil.wait_procs(orphans((folder / "data").resolve()), timeout=60)
    assert not alive, gone


def test_it_replays_answers_and_stops_on_ctrl_c(tmp_path: Path, recording: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        running(tmp_path, "--replay", str(recording), "--port", str(taken.getsockname()[1])) as (process, output),
    ):
        url = eventually_says(output, r"ready at (http://\S+)")[1]
        assert f"Port {taken.getsockname()[1]} is taken" in output.read_text()
        eventually_says(output, rf"sent {CALLS:,} \(100%\) · absorbed {CALLS:,} ")
        answer = httpx.post(f"{url}/metrics/predict/1/probe-05", trust_env=False)
        assert answer.status_code == httpx.codes.OK
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert "no process is left" in output.read_text()
        assert orphans((tmp_path / "data").resolve()) == []


def test_a_killed_worker_is_started_again_and_a_killed_api_ends_the_run(tmp_path: Path) -> None:
    with running(tmp_path) as (process, output):
        eventually_says(output, "ready at")
        of_command = {
            words[-1]: child
            for child in psutil.Process(process.pid).children(recursive=True)
            if (words := child.cmdline())[-3:-1] == ["-m", "cli.main"] and "guard.py" not in " ".join(words)
        }
        of_command["worker"].kill()
        eventually_says(output, r"the worker ended unexpectedly \(SIGKILL\) and was started again")
        of_command["api"].kill()
        assert process.wait(60) == 4
        assert "the api ended unexpectedly (SIGKILL)" in output.read_text()
        assert "Traceback" not in output.read_text()
        assert orphans((tmp_path / "data").resolve()) == []


def test_it_stops_by_itself_after_the_time_asked_for(tmp_path: Path) -> None:
    with running(tmp_path, "--for", "1") as (process, output):
        assert process.wait(90) == 0, output.read_text()


def test_nothing_outlives_it_when_it_is_killed(tmp_path: Path) -> None:
    with running(tmp_path) as (process, output):
        eventually_says(output, "ready at")
        process.kill()
        process.wait(10)
        nothing_is_left(tmp_path)


def test_a_recording_that_is_missing_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with running(tmp_path, "--replay", str(tmp_path / "none.csv")) as (process, output):
        assert process.wait(30) == 2
        assert "none.csv" in output.read_text()
        assert not (tmp_path / "data").exists()
