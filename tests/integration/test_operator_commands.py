"""The operators' commands on a running stack: worker, broker, Redis, PostgreSQL and API, fed with recorded calls."""

import asyncio
import gzip
import json
import re
import shlex
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from redis.asyncio import Redis
from typer.testing import CliRunner

from api.app import create_app
from cli.main import app
from cli.replaying import replay
from detection.subject import Subject
from local.ports import free_port
from local.stack import Stack
from settings import Settings, load
from state.dead_letter_log import DeadLetterLog
from state.dead_letters import REPLAYED_HEADER, TOPIC
from state.keys import models_key, subject_key
from state.redis_store import RedisStore
from state.replayed import Replayed
from tests.worker import (
    BOOKKEEPING,
    CALLS,
    RECORDED_CALLS,
    ROOT,
    Hashes,
    WorkerProcess,
    eventually,
    hashes,
    unsettled,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")

# The last month of the endpoints that were probed until the end.
RECORDED = 1_500
LATER = 200
BILLER = "probe-01"


@dataclass
class Running:
    """A stack whose worker has taken the recorded calls; `later` are those that come after them."""

    environment: dict[str, str]
    settings: Settings
    worker: WorkerProcess
    url: str
    later: Path

    def run(self, *arguments: str, code: int = 0) -> str:
        """What the command says, on standard output, or on the other one where it fails."""
        done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == code, (arguments, done.output, done.exception)
        return done.stdout if code == 0 else done.stderr

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def asking(self, work: Callable[[Redis], Awaitable[Any]], *, database: int = 0) -> Any:
        """What the work comes to, with a client of the stack's Redis."""

        async def asked() -> Any:
            async with Redis.from_url(self.redis_url(database)) as client:
                return await work(client)

        return asyncio.run(asked())

    def redis_url(self, database: int) -> str:
        return self.environment["TIDEMARK_REDIS_URL"].rsplit("/", 1)[0] + f"/{database}"

    def state(self, *, database: int = 0, without: frozenset[str] = frozenset()) -> Hashes:
        found: Hashes = self.asking(lambda redis: hashes(redis, without=without), database=database)
        return found

    def settled(self, events: int) -> None:
        """Wait until the worker has done all there is to do with so many events."""

        async def missing(redis: Redis) -> None:
            async def what() -> str:
                assert self.worker.status is None, self.worker.log()
                return await unsettled(redis, events, self.settings.policy())

            await eventually(what, within_seconds=150)

        self.asking(missing)


@pytest.fixture
def running(started: Running, monkeypatch: pytest.MonkeyPatch) -> Running:
    """The stack, and its environment for the commands that are run here."""
    for name, value in started.environment.items():
        monkeypatch.setenv(name, value)
    return started


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("operators")
    recording = folder / "calls.ndjson"
    later = folder / "later.ndjson"
    with gzip.open(CALLS) as lines:
        recording.write_bytes(b"".join(islice(lines, RECORDED_CALLS - RECORDED - LATER, RECORDED_CALLS - LATER)))
        later.write_bytes(b"".join(lines))
    port = free_port()
    with Stack(folder / "stack") as stack, pytest.MonkeyPatch.context() as patch:
        environment = {
            **stack.environment(),
            "TIDEMARK_CLOCK": "events",
            "TIDEMARK_FLUSH_SECONDS": "0.2",
            "TIDEMARK_HTTP_PORT": str(port),
        }
        for name, value in environment.items():
            patch.setenv(name, value)
        settings = load()
        worker = WorkerProcess(environment, folder / "worker.log")
        api = WorkerProcess(environment, folder / "api.log", ("-m", "cli.main", "api"))
        with worker, api:
            asyncio.run(replay(recording, settings))
            one = Running(environment, settings, worker, f"http://127.0.0.1:{port}", later)
            one.settled(RECORDED)
            asyncio.run(_listening(port, api))
            yield one


async def _listening(port: int, api: WorkerProcess) -> None:
    async def missing() -> str:
        assert api.status is None, api.log()
        with socket.socket() as probe:
            return "the API does not listen" if probe.connect_ex(("127.0.0.1", port)) else ""

    await eventually(missing, within_seconds=60)


async def answers(settings: Settings, series: list[tuple[str, str]]) -> list[Any]:
    """What an API with these settings predicts for each of these."""
    api = create_app(settings)
    async with (
        api.router.lifespan_context(api),
        httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://tidemark") as client,
    ):
        return [(await client.post(f"/metrics/predict/{metric}/{biller}")).json() for biller, metric in series]


# Thresholds and explanations.


def test_what_is_listed_and_exported_is_what_the_api_publishes(running: Running, tmp_path: Path) -> None:
    published = httpx.get(f"{running.url}/thresholds", params={"limit": 1000}).json()["thresholds"]
    assert published
    assert running.json("thresholds", "list", "--url", running.url) == {"thresholds": published}
    table = running.run("thresholds", "list", "--url", running.url, "--prefix", BILLER)
    assert table.count(f"biller:{BILLER} ") == 3
    file = tmp_path / "thresholds.ndjson"
    running.run("thresholds", "export", str(file), "--url", running.url)
    assert [json.loads(line) for line in file.read_text().splitlines()] == published


def test_a_threshold_is_explained_with_the_hours_that_it_was_published_for(running: Running) -> None:
    said = running.json("explain", BILLER, "average-response-time", "--url", running.url, "--hours", "5")
    assert said["prediction"]["status"] in {"ready", "stale"}
    assert said["notes"] == []
    assert len(said["history"]) == 5
    assert [one["span"] for one in said["coverage"]] == ["day", "week", "month"]
    shown = running.run("explain", BILLER, "average-response-time", "--url", running.url)
    assert said["prediction"]["explanation"]["parts"]["sentence"].split(";")[0] in " ".join(shown.split())
    assert said["history"][-1]["window_start"] in shown


# Dead letters.


def call(timestamp_ms: int, *, biller: str) -> bytes:
    return json.dumps({"biller_id": biller, "timestamp": timestamp_ms, "latency_ms": 10.0, "outcome": "ok"}).encode()


def sent(running: Running, records: list[tuple[str, bytes, bytes, int | None]]) -> None:
    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=running.settings.kafka_brokers)
        await producer.start()
        for topic, key, value, timestamp_ms in records:
            await producer.send_and_wait(topic, value, key=key, timestamp_ms=timestamp_ms)
        await producer.stop()

    asyncio.run(send())


def letters(running: Running, *options: str) -> list[Any]:
    found: list[Any] = running.json("dead-letters", "list", *options)["dead_letters"]
    return found


def with_letters(running: Running, count: int, *options: str) -> list[Any]:
    """The letters that fit, when there are so many."""

    async def missing() -> str:
        found = await asyncio.to_thread(letters, running, *options)
        return "" if len(found) == count else f"{len(found)} letters"

    asyncio.run(eventually(missing, within_seconds=60))
    return letters(running, *options)


def accepted(running: Running, biller: str) -> int:
    async def asked(redis: Redis) -> int:
        return int(await redis.hget(subject_key(Subject.biller(biller)), "accepted") or 0)

    found: int = running.asking(asked)
    return found


def test_letters_are_listed_newest_first_with_their_reason_and_origin(running: Running) -> None:
    sent(running, [("calls", b"k1", b"not json", None)])
    with_letters(running, 1, "--reason", "invalid", "--topic", "calls")
    sent(running, [("observations", b"k2", b'{"name":"a"}', None), ("calls", b"k3", b"[bold]\xff", None)])
    found = with_letters(running, 3, "--reason", "invalid")
    assert found[-1]["excerpt"] == "not json"
    assert [one["time"] for one in found] == sorted((one["time"] for one in found), reverse=True)
    (one,) = letters(running, "--topic", "observations")
    assert (one["key"], one["origin"]["topic"], one["detail"]) == (
        "k2",
        "observations",
        "name, version: both must be texts",
    )
    assert letters(running, "--at", one["letter"]) == [one]
    assert len(letters(running, "--limit", "2")) == 2
    assert "[bold]" in running.run("dead-letters", "list", "--topic", "calls")
    assert running.run("dead-letters", "list", "--since", "2099-01-01T00:00:00Z") == "no dead letter fits\n"


def test_a_letter_goes_back_once_with_its_key_and_is_then_counted(running: Running) -> None:
    biller = "mended"
    now_ms = 1_790_000_000_000
    # Ahead of the time at which its record says it was sent; sent again, it is not.
    sent(running, [("calls", biller.encode(), call(now_ms, biller=biller), now_ms - 3_600_000)])
    (letter,) = with_letters(running, 1, "--since", "2026-01-01T00:00:00Z", "--at", _place(running, biller))
    where = ["--at", letter["letter"]]

    assert running.json("dead-letters", "replay", *where) == {
        "ready": 1, "topics": {"calls": 1}, "left_out": {}, "sent": 0,
    }  # fmt: skip
    assert accepted(running, biller) == 0
    declined = CliRunner().invoke(app, ["dead-letters", "replay", *where, "--send"], input="n\n")
    assert declined.exit_code == 1
    assert running.json("dead-letters", "replay", *where, "--send", "--yes")["sent"] == 1

    async def missing() -> str:
        count = await asyncio.to_thread(accepted, running, biller)
        return "" if count == 1 else f"{count} calls were accepted"

    asyncio.run(eventually(missing, within_seconds=60))
    (record,) = [one for one in records(running, "calls") if one.headers]
    assert (record.key, record.headers) == (biller.encode(), ((REPLAYED_HEADER, letter["letter"].encode()),))

    again = running.json("dead-letters", "replay", *where, "--send", "--yes")
    assert (again["ready"], again["left_out"], again["sent"]) == (0, {"sent": 1}, 0)
    assert running.json("dead-letters", "replay", *where, "--send", "--yes", "--again")["sent"] == 1


def test_a_letter_whose_sender_was_stopped_is_left_to_a_person(running: Running) -> None:
    sent(running, [("calls", b"k4", b"stopped", None)])
    place = _place(running, "stopped")

    async def claimed() -> None:
        store = RedisStore.connect(running.redis_url(0), running.settings.policy())
        async with DeadLetterLog.connect(running.settings.brokers()) as log:
            (letter,) = await log.newest(1, lambda one: one.place == place)
            assert await Replayed(store.client).claim([letter, letter], at="") == [True, False]
        await store.aclose()

    asyncio.run(claimed())
    facts = running.json("dead-letters", "replay", "--at", place)
    assert (facts["ready"], facts["left_out"]) == (0, {"sending": 1})
    assert running.json("dead-letters", "replay", "--at", place, "--again")["ready"] == 1


def test_a_letter_that_was_written_twice_is_sent_once_even_again(running: Running) -> None:
    # What a killed worker had not committed, the next one refuses and writes again, into whichever partition is next.
    origin = {"topic": "calls", "partition": 0, "offset": 999_999}
    twin = json.dumps({"reason": "invalid", "detail": "no JSON", "origin": origin, "value": "twin"}).encode()

    async def written() -> list[str]:
        async with AIOKafkaProducer(bootstrap_servers=running.settings.kafka_brokers) as producer:
            done = [await producer.send_and_wait(TOPIC, twin, partition=one) for one in (0, 0, 1)]
        return [f"{one.partition}/{one.offset}" for one in done]

    told = [each for place in asyncio.run(written()) for each in ("--at", place)]
    for again in ((), ("--again",), ("--again",)):
        assert running.json("dead-letters", "replay", *told, "--send", "--yes", *again)["sent"] == 1


def test_late_calls_stay_where_they_are_unless_they_are_asked_for(running: Running) -> None:
    sent(running, [("calls", BILLER.encode(), call(1_700_000_000_000, biller=BILLER), None)])
    with_letters(running, 1, "--reason", "late")
    assert "would be late again" in running.run("dead-letters", "replay")
    assert running.json("dead-letters", "replay", "--reason", "late")["ready"] == 1


def test_letters_are_sent_no_faster_than_said(running: Running) -> None:
    sent(running, [("calls", b"k", b"slow %d" % number, None) for number in range(4)])
    places = [["--at", _place(running, f"slow {number}")] for number in range(4)]
    told = [each for one in places for each in one]
    started = asyncio.run(_now())
    assert running.json("dead-letters", "replay", *told, "--send", "--yes", "--rate", "4")["sent"] == 4
    assert asyncio.run(_now()) - started >= 1.0


async def _now() -> float:
    return asyncio.get_running_loop().time()


def _place(running: Running, said: str) -> str:
    """Of the newest letter with this in what came."""

    async def missing() -> str:
        found = await asyncio.to_thread(letters, running)
        return "" if any(said in one["excerpt"] for one in found) else f"no letter with {said}"

    asyncio.run(eventually(missing, within_seconds=60))
    place: str = next(one["letter"] for one in letters(running) if said in one["excerpt"])
    return place


def records(running: Running, topic: str) -> list[Any]:
    """Everything in the topic."""

    async def read() -> list[Any]:
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=running.settings.kafka_brokers, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            found: list[Any] = []
            while some := await consumer.getmany(timeout_ms=2000):
                found += [record for part in some.values() for record in part]
            return found
        finally:
            await consumer.stop()

    return asyncio.run(read())


# State.


def series_of(running: Running) -> list[tuple[str, str]]:
    rows = httpx.get(f"{running.url}/thresholds", params={"limit": 1000, "kind": "biller"}).json()["thresholds"]
    return [(row["subject"].partition(":")[2], row["metric"]) for row in rows]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_an_import_into_an_empty_redis_predicts_the_same(running: Running, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"state.ndjson{suffix}"
    database = 3
    running.asking(lambda redis: redis.flushdb(), database=database)
    exported = running.json("state", "export", str(file))
    assert exported["subjects"] == len({biller for biller, _ in series_of(running)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIDEMARK_REDIS_URL", running.redis_url(database))
        assert "alive" in running.run("state", "import", str(file), code=4)
        assert running.json("state", "import", str(file), "--dry-run")["new"] == exported["subjects"]
        assert running.state(database=database) == {}
        done = running.json("state", "import", str(file), "--force")
        assert (done["new"], done["replaced"], done["unchanged"]) == (exported["subjects"], 0, 0)
        assert running.state(database=database) == running.state()
        settings = load()
        again = running.json("state", "import", str(file), "--force")
        assert (again["new"], again["unchanged"], again["progress"]) == (0, exported["subjects"], {})
    series = series_of(running)
    assert asyncio.run(answers(settings, series)) == asyncio.run(answers(running.settings, series))


def test_a_part_of_the_state_is_exported_and_forgets_another_kafka(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "state.ndjson"
    database = 4
    running.asking(lambda redis: redis.flushdb(), database=database)
    assert running.json("state", "export", str(file), "--subject", f"biller:{BILLER}")["subjects"] == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIDEMARK_REDIS_URL", running.redis_url(database))
        assert running.json("state", "import", str(file), "--force", "--other-logs")["progress"] == {}
    own = running.state(database=database)[subject_key(Subject.biller(BILLER))]
    assert own["offsets"] == "{}"
    assert own | {"offsets": ""} == running.state()[subject_key(Subject.biller(BILLER))] | {"offsets": ""}
    assert running.asking(lambda redis: redis.exists("tidemark:1:progress"), database=database) == 0


def test_what_is_newer_is_not_written_over_unless_told(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "state.ndjson"
    database = 5
    running.asking(lambda redis: redis.flushdb(), database=database)
    key = subject_key(Subject.biller(BILLER))
    running.run("state", "export", str(file))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIDEMARK_REDIS_URL", running.redis_url(database))
        running.run("state", "import", str(file), "--force")
        running.asking(lambda redis: redis.hset(key, mapping={"rev": 99_999, "accepted": 1}), database=database)
        before = running.state(database=database)
        refused = running.run("state", "import", str(file), "--force", code=2)
        assert f"biller:{BILLER} is further in Redis" in refused
        assert re.search(r"line \d+: ", refused)
        assert running.state(database=database) == before
        done = running.json("state", "import", str(file), "--force", "--replace")
    assert (done["new"], done["replaced"]) == (0, 1)
    after = running.state(database=database)
    assert int(after[key]["rev"]) > 99_999
    assert after[key] | {"rev": ""} == running.state()[key] | {"rev": ""}


def test_a_damaged_file_is_refused_with_its_line_and_nothing_is_written(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "state.ndjson"
    database = 6
    running.asking(lambda redis: redis.flushdb(), database=database)
    running.run("state", "export", str(file))
    lines = file.read_bytes().splitlines(keepends=True)
    last = len(lines) - 1
    lines[last - 1] = lines[last - 1].replace(b'"rev":"', b'"rev":"1', 1)
    file.write_bytes(b"".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIDEMARK_REDIS_URL", running.redis_url(database))
        assert f"line {last}: is damaged" in running.run("state", "import", str(file), "--force", code=2)
    assert running.asking(lambda redis: redis.dbsize(), database=database) == 0


def test_a_refold_of_a_whole_history_changes_nothing_and_mends_a_model(running: Running) -> None:
    key = models_key(Subject.biller(BILLER))
    before = running.asking(lambda redis: redis.hgetall(key))
    (done,) = running.json("state", "refold", BILLER)["subjects"]
    assert {one["is_changed"] for one in done["series"].values()} == {False}
    assert {one["missing"] for one in done["series"].values()} == {0}
    assert running.asking(lambda redis: redis.hgetall(key)) == before

    other = models_key(Subject.biller("probe-02"))
    slug = b"average-response-time"
    running.asking(lambda redis: redis.hset(key, slug, b""))
    (done,) = running.json("state", "refold", BILLER)["subjects"]
    assert done["series"]["average-response-time"]["is_changed"]
    assert other != key
    assert running.asking(lambda redis: redis.hgetall(key)) == before


def test_a_refold_of_a_history_with_holes_is_refused(running: Running) -> None:
    subject = Subject.biller("probe-03")
    key = models_key(subject)
    before = running.asking(lambda redis: redis.hgetall(key))
    with psycopg.connect(running.settings.postgres_url.get_secret_value()) as connection:
        where = "subject = %s and hour = (select min(hour) from observations where subject = %s)"
        gone = connection.execute(f"delete from observations where {where}", (str(subject), str(subject)))  # noqa: S608
        assert gone.rowcount
    refused = running.run("state", "refold", subject.id, code=4)
    assert f"the history no longer holds all that {subject}" in refused
    assert running.asking(lambda redis: redis.hgetall(key)) == before
    (done,) = running.json("state", "refold", subject.id, "--force")["subjects"]
    assert {one["missing"] for one in done["series"].values()} == {1}
    assert running.asking(lambda redis: redis.hgetall(key)) != before


def test_a_subject_that_nobody_knows_cannot_be_folded(running: Running) -> None:
    assert "biller:nobody" in running.run("state", "refold", BILLER, "nobody", code=2)


# The page about all of this.


def commands_of(title: str) -> list[str]:
    """The commands that the section of the page that begins like this tells one to type."""
    (section,) = re.findall(rf"^## {re.escape(title)}.*?(?=^## |\Z)", OPERATIONS, re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize(
    "title",
    [
        "All thresholds, as a table or a file",
        "Why a threshold is what it is",
        "What could not be used",
        "A copy of what was learned",
        "Learning a subject anew",
        "Completion in the shell",
    ],
)
def test_the_commands_of_the_page_succeed(running: Running, tmp_path: Path, title: str) -> None:
    commands = commands_of(title)
    assert commands
    for command in commands:
        told = command.replace("http://127.0.0.1:8000", running.url).replace("/tmp/", f"{tmp_path}/")  # noqa: S108
        program, *arguments = shlex.split(told)
        assert program == ".venv/bin/tidemark"
        if ">" in arguments:
            *arguments, _, file = arguments
            Path(file).write_text(running.run(*arguments), encoding="utf-8")
        else:
            running.run(*arguments)
    for named in re.findall(r"/tmp/([\w.]+)", "\n".join(commands)):  # noqa: S108
        assert (tmp_path / named).stat().st_size


# The last test of all: it takes the worker away.
def test_a_worker_goes_on_after_a_redis_that_was_lost_and_imported(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "state.ndjson.gz"
    running.run("state", "export", str(file))
    events = sum(
        int(fields["accepted"]) + int(fields["late"]) for name, fields in running.state().items() if name.endswith("}")
    )
    asyncio.run(replay(running.later, running.settings))
    running.settled(events + LATER)
    # What it still has to tell is told at its end.
    assert running.worker.stop() == 0
    expected = running.state(without=BOOKKEEPING)
    assert not [key for key in expected if key.endswith("_outbox")]

    running.asking(lambda redis: redis.flushdb())
    # The embedded broker keeps a worker in its group that has left it.
    running.run("state", "import", str(file), "--force")
    assert running.state(without=BOOKKEEPING) != expected
    running.worker.start()
    running.settled(events + LATER)

    async def missing() -> str:
        found = await asyncio.to_thread(running.state, without=BOOKKEEPING)
        return ", ".join(sorted(key for key in {*found, *expected} if found.get(key) != expected.get(key)))

    # The last windows may be on their way to the history still.
    asyncio.run(eventually(missing, within_seconds=60))
