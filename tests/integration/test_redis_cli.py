"""An operator with nothing but redis-cli reads what the pipeline wrote, by the commands that docs/redis.md prints."""

import asyncio
import gzip
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import orjson
import pytest
from redis import Redis

from detection.hours import iso, parse_ms
from detection.kernel.row import ROW
from detection.policy import Policy
from local.stack import Stack
from state.acl import rules
from state.redis_store import RedisStore
from state.store import Reached
from stream.buffer import CALLS
from stream.decoding import Record
from stream.pipeline import Pipeline
from stream.progress import short_hash
from tests import worker

pytestmark = pytest.mark.debian

PAGE = Path(__file__).parents[2] / "docs" / "redis.md"

# A database of our own on the shared server, emptied before use.
DATABASE = 12
# The last month of the three endpoints that were probed until the end.
RECORDED = 2_000
BATCH = 500
READER = "tidemark-reader"

SUBJECT = "tidemark:1:{biller:probe-01}"
SERIES = f"{SUBJECT}:average-response-time"
MODELS = f"{SUBJECT}:_models"


@dataclass(slots=True)
class Recorded:
    """A call as a record of the oldest message format, which has no time of its own."""

    offset: int
    value: bytes | None
    key: bytes | None = None
    timestamp: int = -1


@dataclass(frozen=True, slots=True)
class Server:
    """Where redis-cli is to look."""

    port: int

    def run(self, command: str, *, text: str | None = None) -> str:
        """What the shell says to a printed command, once it is told the server."""
        told = re.sub(r"\bredis-cli\b", f"redis-cli -p {self.port} -n {DATABASE}", command)
        run = subprocess.run(
            ["bash", "-c", told], input=text, capture_output=True, text=True, check=False, env=_environment()
        )
        assert run.returncode == 0, (command, run.stderr)
        return run.stdout

    def hash(self, key: str) -> dict[str, str]:
        """The fields of a hash, in the order in which they are listed."""
        lines = self.run(f"redis-cli HGETALL '{key}'").splitlines()
        return dict(zip(lines[::2], lines[1::2], strict=True))


@pytest.fixture(scope="module")
def server(stack: Stack) -> Iterator[Server]:
    """The shared stack's Valkey, with the state of recorded calls that went through the pipeline."""
    if shutil.which("redis-cli") is None:
        pytest.skip("redis-cli is missing: install redis-tools")
    with Redis(port=stack.valkey.port, db=DATABASE) as client:
        client.flushdb()
        asyncio.run(_written(f"redis://127.0.0.1:{stack.valkey.port}/{DATABASE}"))
        yield Server(stack.valkey.port)
        client.execute_command("ACL", "DELUSER", READER)
        client.flushdb()


async def _written(url: str) -> None:
    async def send_dead_letters(letters: object) -> None:
        raise AssertionError(letters)

    store = RedisStore.connect(url, Policy())
    pipeline = Pipeline(store, Policy(), log_id="kafka", future_ms=0, send_dead_letters=send_dead_letters)
    with gzip.open(worker.CALLS) as lines:
        calls = list(islice(lines, worker.RECORDED_CALLS - RECORDED, None))
    for at in range(0, RECORDED, BATCH):
        records: list[Record] = [Recorded(at + number, value) for number, value in enumerate(calls[at : at + BATCH])]
        assert pipeline.absorb_calls(CALLS, 0, records, None) == (BATCH, 0)
        await pipeline.flush()
        reached = Reached(at + BATCH, records[-1].timestamp, short_hash(records[-1]))
        await store.advance_progress({"kafka/calls/0": 0}, {"kafka/calls/0": reached})
    await store.aclose()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "REDISCLI_AUTH"}


def blocks(language: str) -> list[str]:
    """The page's fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every command that the page prints: the lines of its scripts, and those that it shows the output of."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    lines += [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines() if line[:1] == "$"]
    return [line for line in lines if READER not in line]


def test_a_series_is_readable_without_any_tool_of_ours(server: Server) -> None:
    fields = server.hash(SERIES)
    assert all(value.isprintable() for value in fields.values())
    assert fields["status"] == "ready"
    assert 0 < float(fields["estimate"]) < float(fields["threshold"])
    assert (fields["unit"], fields["operator"]) == ("ms", ">")
    assert int(fields["n_learned"]) > 48
    assert int(fields["judged"]) > 0
    last = orjson.loads(fields["last"])
    assert last["count"] > 0
    assert last["verdict"] in {"normal", "exceeded"}
    assert iso(parse_ms(last["window"])) == last["window"] < fields["window_start"] < fields["valid_until"]


def test_a_subject_is_readable_without_any_tool_of_ours(server: Server) -> None:
    fields = server.hash(SUBJECT)
    assert all(value.isprintable() for value in fields.values())
    assert fields["metrics"] == "average-response-time error-rate timeout-error-rate"
    assert int(fields["accepted"]) > RECORDED / 4
    assert fields["late"] == "0"
    assert re.fullmatch(r'\{"kafka/calls/0":\d+\}', fields["offsets"])
    assert fields["windows"].startswith('{"2026-08-22T')


@pytest.mark.parametrize("command", commands())
def test_a_documented_command_answers_as_it_is_printed(server: Server, command: str) -> None:
    said = server.run(command)
    assert said.strip(), command
    assert not re.match(r"(ERR|WRONGTYPE|NOPERM|\(error\))", said), said


@pytest.mark.parametrize("key", [SERIES, SUBJECT])
def test_the_documented_output_has_the_fields_of_today_in_their_order(server: Server, key: str) -> None:
    (shown,) = (block for block in blocks("console") if block.startswith(f"$ redis-cli HGETALL '{key}'\n"))
    names = re.findall(r'^ *\d+\) "(.*)"$', shown, re.MULTILINE)[::2]
    assert names == list(server.hash(key))


def test_the_documented_size_is_that_of_a_record(server: Server) -> None:
    assert f" {ROW.itemsize:,} bytes" in PAGE.read_text(encoding="utf-8")
    for slug in ("average-response-time", "error-rate", "timeout-error-rate"):
        assert int(server.run(f"redis-cli HSTRLEN '{MODELS}' {slug}")) == ROW.itemsize


def test_the_documented_fields_of_a_record_are_fields_of_today() -> None:
    (shown,) = (block for block in blocks("text") if block.startswith("$ tidemark inspect "))
    names = re.findall(r"^│(\w+) ", shown, re.MULTILINE)
    assert len(names) > 3
    assert set(names) <= set(ROW.names or ())


@pytest.mark.parametrize("key", [SERIES, SUBJECT])
def test_every_field_is_explained(server: Server, key: str) -> None:
    rows = re.findall(r"^\| (`.*?`) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    explained = {name for row in rows for name in re.findall(r"`([a-z0-9_]+)`", row)}
    assert server.hash(key).keys() <= explained


def test_the_documented_reader_reads_and_does_nothing_else(server: Server) -> None:
    (line,) = (line for block in blocks("text") for line in block.splitlines() if line.startswith("ACL SETUSER"))
    assert line == f"ACL SETUSER {READER} on >PASSWORD {rules('reader')}"
    assert server.run("redis-cli", text=line).strip() == "OK"
    (command,) = (line for block in blocks("sh") for line in block.splitlines() if READER in line)
    assert "threshold" in server.run(command).splitlines()
    as_reader = f"REDISCLI_AUTH=PASSWORD redis-cli --user {READER}"
    for refused in (f"HSET '{SUBJECT}' rev 9", f"DEL '{SUBJECT}'", "GET somebody-else", "KEYS '*'", "FLUSHALL"):
        assert server.run(f"{as_reader} {refused}").startswith("NOPERM"), refused
    assert server.hash(SUBJECT)["rev"] != "9"
