"""The embedded servers do what real ones do, and leave nothing behind."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from detection.errors import OperatorError
from local import ports
from local.process import GuardedProcess, orphans
from local.stack import LOCK, MARKER, Stack

HOLDER = """
import pathlib, sys
from local.stack import Stack
with Stack(pathlib.Path(sys.argv[1])) as stack:
    print(*[process.pid for process in stack.processes()], flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One that these tests may restart."""
    with Stack(tmp_path_factory.mktemp("own-stack")) as running:
        yield running


@retry(retry=retry_if_exception_type(AssertionError), stop=stop_after_delay(20), wait=wait_fixed(0.05), reraise=True)
def eventually(claim: Callable[[], bool]) -> None:
    assert claim()


async def round_trip(bootstrap: str, topic: str, value: bytes) -> list[bytes]:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    try:
        await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        return [(await consumer.getone()).value]
    finally:
        await consumer.stop()


def values_of(stack: Stack) -> tuple[object, object]:
    with redis.Redis.from_url(stack.valkey.url) as client, psycopg.connect(stack.postgres.url) as connection:
        return client.get("kept"), connection.execute("select value from kept").fetchone()


def keep_values(stack: Stack) -> None:
    with redis.Redis.from_url(stack.valkey.url) as client, psycopg.connect(stack.postgres.url) as connection:
        client.set("kept", "yes")
        connection.execute("create table if not exists kept (value text)")
        connection.execute("truncate kept")
        connection.execute("insert into kept values ('yes')")


async def test_each_server_answers_its_own_client(stack: Stack) -> None:
    assert await round_trip(stack.broker.bootstrap, "round-trip", b"tide") == [b"tide"]
    with redis.Redis.from_url(stack.valkey.url) as client:
        client.set("round-trip", "tide")
        assert client.get("round-trip") == b"tide"
    with psycopg.connect(stack.postgres.url) as connection:
        assert connection.execute("select 40 + 2").fetchone() == (42,)


def test_all_servers_listen_on_the_loopback_only(stack: Stack) -> None:
    listening = [
        connection.laddr
        for process in stack.processes()
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.port for address in listening} == {server.port for server in stack.servers}
    assert {address.ip for address in listening} == {"127.0.0.1"}


def test_postgres_lets_nobody_in_without_its_password(stack: Stack) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host="127.0.0.1", port=stack.postgres.port, user="postgres", passfile=os.devnull)
    assert stack.postgres.pgpass.stat().st_mode & 0o077 == 0


def test_a_restart_keeps_what_valkey_and_postgres_were_told(own_stack: Stack) -> None:
    keep_values(own_stack)
    before = own_stack.environment()
    own_stack.valkey.restart()
    own_stack.postgres.restart()
    assert values_of(own_stack) == (b"yes", ("yes",))
    assert own_stack.environment() == before


def test_a_crash_keeps_what_valkey_and_postgres_were_told(own_stack: Stack) -> None:
    keep_values(own_stack)
    for server in (own_stack.valkey, own_stack.postgres):
        server.kill()
        assert not server.is_running
        assert ports.is_free(server.port)
        server.start()
    assert values_of(own_stack) == (b"yes", ("yes",))


async def test_a_broker_that_was_killed_comes_back_on_its_port_as_another_log(own_stack: Stack) -> None:
    port, log_id = own_stack.broker.port, own_stack.broker.log_id
    own_stack.broker.kill()
    assert not own_stack.broker.is_running
    own_stack.broker.restart()
    assert own_stack.broker.port == port
    assert own_stack.broker.log_id != log_id
    assert own_stack.environment()["TIDEMARK_KAFKA_LOG_ID"] == own_stack.broker.log_id
    assert await round_trip(own_stack.broker.bootstrap, "after", b"crash") == [b"crash"]


def test_a_second_start_says_who_runs_there_and_where(stack: Stack) -> None:
    with pytest.raises(OperatorError) as refusal, Stack(stack.data_dir):
        pass
    message = str(refusal.value)
    assert str(os.getpid()) in message
    assert str(stack.data_dir) in message
    assert f"valkey on port {stack.valkey.port}" in message


def test_stopping_leaves_no_process_and_the_folder_free_for_the_next_start(tmp_path: Path) -> None:
    with Stack(tmp_path / "data") as stack:
        keep_values(stack)
        family = stack.processes()
        assert len(family) > 2 * len(stack.servers)
    assert not any(process.is_running() for process in family)
    assert orphans(stack.data_dir) == []
    with Stack(tmp_path / "data") as again:
        assert values_of(again) == (b"yes", ("yes",))
    with Stack(tmp_path / "data", is_fresh=True) as emptied, redis.Redis.from_url(emptied.valkey.url) as client:
        assert client.dbsize() == 0


@pytest.mark.parametrize("last", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_an_owner_that_was_killed(tmp_path: Path, last: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        family = [psutil.Process(int(pid)) for pid in holder.stdout.readline().split()]
        assert len(family) > 6
        holder.send_signal(last)
    # A start at once waits until the former servers are gone.
    with Stack(tmp_path):
        assert not any(process.is_running() for process in family)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child of its parent's death")
def test_no_server_outlives_its_guard(tmp_path: Path) -> None:
    sleeper = GuardedProcess(name="sleeper", command=["sleep", "600"], log=tmp_path / "log", owner=tmp_path)
    sleeper.start()
    eventually(lambda: len(sleeper.processes()) == 2 and sleeper.processes()[1].name() == "sleep")
    guard, command = sleeper.processes()
    guard.kill()
    eventually(lambda: not command.is_running() or command.status() == psutil.STATUS_ZOMBIE)
    sleeper.stop()


def test_a_command_that_ignores_being_asked_is_killed_with_its_children(tmp_path: Path) -> None:
    deaf = GuardedProcess(
        name="deaf",
        command=["sh", "-c", "trap '' TERM; sleep 600 & echo ready; while :; do wait; done"],
        log=tmp_path / "log",
        owner=tmp_path,
        grace_seconds=0.2,
    )
    deaf.start()
    eventually(lambda: "ready" in deaf.last_lines() and len(deaf.processes()) == 3)
    family = deaf.processes()
    deaf.stop()
    assert not any(process.is_running() for process in family)
    assert deaf.exit_code == 128 + signal.SIGKILL


def test_a_server_that_cannot_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        stack = Stack(tmp_path)
        stack.valkey.port = taken.getsockname()[1]
        with pytest.raises(OperatorError) as failure, stack:
            pass
    message = str(failure.value)
    assert str(stack.valkey.log) in message
    assert "Address already in use" in message
    assert orphans(tmp_path) == []


def test_a_port_that_is_taken_is_not_chosen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert ports.free_port(port) != port
    assert ports.free_port(port) == port


def test_a_folder_with_other_files_is_neither_used_nor_emptied(tmp_path: Path) -> None:
    precious = tmp_path / "thesis.tex"
    precious.write_text("years of work")
    with pytest.raises(OperatorError, match=r"thesis\.tex"), Stack(tmp_path, is_fresh=True):
        pass
    assert {entry.name for entry in tmp_path.iterdir()} == {"thesis.tex"}


def test_the_marker_says_what_the_folder_is(stack: Stack) -> None:
    marker = json.loads((stack.data_dir / MARKER).read_text())
    assert marker["pid"] == os.getpid()
    assert marker["ports"]["broker"] == stack.broker.port
    assert (stack.data_dir / LOCK).exists()
