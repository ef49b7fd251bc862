"""`tidemark rules` as people run it, against a served API over stores in memory."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from tenacity import Retrying, retry_if_not_result, stop_after_delay, wait_fixed
from typer.testing import CliRunner, Result

from cli.main import app
from settings import Settings
from tests.memory_api import MemoryApi

EXAMPLE = Path(__file__).parents[2] / "examples" / "rules.yaml"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["rules", *arguments])


@pytest.fixture
def url() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(MemoryApi(Settings()).app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        Retrying(retry=retry_if_not_result(bool), stop=stop_after_delay(20), wait=wait_fixed(0.01))(
            lambda: server.started
        )
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join(20)


def test_the_example_is_checked_without_a_server() -> None:
    found = run("check", str(EXAMPLE))
    assert found.exit_code == 0
    assert found.stdout.splitlines() == [
        "3 rules, nothing wrong with them",
        "beside them hold the defaults biller-failures, biller-latency, biller-silent, model-threshold",
    ]
    assert json.loads(run("check", str(EXAMPLE), "--json").stdout)["rules"][0] == "low-accuracy"


def test_a_faulty_file_ends_with_its_lines_and_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("rules:\n- id: a\n  metric: x\n  condition: lower than\n  boundary: 1\n  window: {n: 3, m: 2}\n")
    for action in ("check", "apply", "dry-run"):
        found = run(action, str(path), "--url", "http://127.0.0.1:1")
        assert found.exit_code == 2
        assert "bad.yaml:6:3: window: 3 of 2 points can never be" in found.stderr


@pytest.mark.parametrize("arguments", [["check"], ["apply"], ["list", "x.yaml"], ["check", "x.yaml", "--from", "now"]])
def test_what_cannot_be_meant_is_refused(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_an_api_that_is_away_is_exit_code_3() -> None:
    found = run("list", "--url", "http://127.0.0.1:1")
    assert found.exit_code == 3
    assert "api:" in found.stderr


def test_a_file_is_tried_applied_and_listed(url: str) -> None:
    tried = run("dry-run", str(EXAMPLE), "--url", url)
    assert (tried.exit_code, "low-accuracy" in tried.stdout) == (0, True), tried.output
    assert "Hours have no labels, so those of slow-inference were not asked for." in tried.stdout.replace("\n", " ")
    applied = run("apply", str(EXAMPLE), "--url", url, "--by", "ann")
    # The server is in this process, and its log in the same output.
    assert applied.stdout.splitlines()[-4:] == [
        "created biller-errors",
        "created low-accuracy",
        "created slow-inference",
        "revision 1, 0 unchanged",
    ]
    assert run("apply", str(EXAMPLE), "--url", url).stdout.endswith("revision 1, 3 unchanged\n")
    listed = run("list", "--url", url)
    assert (listed.exit_code, "revision 1" in listed.stdout, "low-accuracy" in listed.stdout) == (0, True, True)
    rules = json.loads(run("list", "--url", url, "--json").stdout)["rules"]
    assert {one["rule"]["id"]: (one["source"], one["by"]) for one in rules}["low-accuracy"] == ("file", "ann")
    refused = run("dry-run", str(EXAMPLE), "--from", "yesterday", "--url", url)
    assert (refused.exit_code, "from" in refused.stderr) == (2, True)
