"""Many subjects written in one transaction: what comes between, breaks off or is in the way."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hiredis import pack_command
from redis import exceptions

from detection.errors import DependencyError
from detection.subject import Subject
from detection.subject_state import SubjectState
from state import redis_exchange
from state.keys import series_key
from state.redis_exchange import Exchange, Exchanges
from state.redis_pipeline import Command, Replicas
from state.redis_store import RedisStore
from tests.contract.states import POLICY, biller, fields

B1, B2, B3 = (Subject.biller(one) for one in ("B1", "B2", "B3"))


def at_the_transaction(
    monkeypatch: pytest.MonkeyPatch, happens: Callable[[Callable[[], Awaitable[list[Any]]]], Awaitable[list[Any]]]
) -> list[int]:
    """Let something happen, once, in place of the first transaction's way to the server and back; how often it did."""
    happened: list[int] = []

    class Disturbed(Exchange):
        async def ask_packed(self, commands: Sequence[bytes]) -> list[Any]:
            if commands[0] != pack_command(("MULTI",)) or happened:
                return await super().ask_packed(commands)
            happened.append(len(commands))
            return await happens(lambda: Exchange.ask_packed(self, commands))

    monkeypatch.setattr(redis_exchange, "Exchange", Disturbed)
    return happened


async def counted(store: RedisStore, *subjects: Subject) -> list[SubjectState]:
    states = list((await store.load_counts(subjects)).values())
    for state in states:
        state.accepted += 1
    return states


async def test_whoever_is_overtaken_in_between_is_refused_and_nobody_else(
    redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await redis_store.save([biller("B1"), biller("B2"), biller("B3")])
    states = await counted(redis_store, B1, B2, B3)
    (overtaking,) = await counted(redis_store, B2)
    overtaking.late = 77

    async def overtake(send: Callable[[], Awaitable[list[Any]]]) -> list[Any]:
        assert await redis_store.save([overtaking]) == []
        return await send()

    happened = at_the_transaction(monkeypatch, overtake)
    assert await redis_store.save(states) == [B2]
    assert happened
    found = await redis_store.load_counts([B1, B2, B3])
    assert [(found[subject].rev, found[subject].late) for subject in (B1, B2, B3)] == [(2, 0), (2, 77), (2, 0)]


async def test_a_transaction_whose_answer_is_lost_is_refused_when_it_is_repeated(
    redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await redis_store.save([biller("B1"), biller("B2")])
    states = await counted(redis_store, B1, B2)
    accepted = states[0].accepted

    async def lose_the_answer(send: Callable[[], Awaitable[list[Any]]]) -> list[Any]:
        await send()
        raise exceptions.ConnectionError("cut off")

    happened = at_the_transaction(monkeypatch, lose_the_answer)
    assert await redis_store.save(states) == [B1, B2]
    assert happened
    found = await redis_store.load_counts([B1, B2])
    assert [(one.rev, one.accepted) for one in found.values()] == [(2, accepted)] * 2


async def test_a_write_that_is_given_up_midway_changes_nothing_and_watches_nothing_any_more(
    redis_url: str, redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RedisStore.connect(redis_url, POLICY, connections=1)
    await store.save([biller("B1"), biller("B2")])
    before = await fields(redis_store)
    reached = asyncio.Event()

    async def wait(send: Callable[[], Awaitable[list[Any]]]) -> list[Any]:
        reached.set()
        await asyncio.Event().wait()
        return await send()

    at_the_transaction(monkeypatch, wait)
    given_up = asyncio.create_task(store.save(await counted(store, B1, B2)))
    await reached.wait()
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert await fields(redis_store) == before
    # Through the only connection, after somebody else has written what it had watched.
    await redis_store.save(await counted(redis_store, B1))
    calls_before = await scripts_run(redis_store)
    assert await store.save(await counted(store, B1, B2)) == []
    assert await scripts_run(redis_store) == calls_before
    await store.aclose()


async def scripts_run(store: RedisStore) -> int:
    """How often the server was asked to write by script."""
    stats = await store._client.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {"calls": 0})["calls"])


async def test_quiet_writes_need_no_script(redis_store: RedisStore) -> None:
    await redis_store.save([biller("B1"), biller("B2")])
    before = await scripts_run(redis_store)
    assert await redis_store.save(await counted(redis_store, B1, B2)) == []
    assert await scripts_run(redis_store) == before


async def test_a_subject_given_twice_is_written_once(redis_store: RedisStore) -> None:
    await redis_store.save([biller()])
    states = await counted(redis_store, B1) + await counted(redis_store, B1)
    assert await redis_store.save(states) == [B1]
    assert [state.rev for state in states] == [2, 1]


async def test_something_in_the_way_of_one_subject_is_found_before_any_of_it_is_written(
    redis_store: RedisStore,
) -> None:
    await redis_store._client.set(series_key(B2, "error-rate"), "in the way")
    states = [biller("B1"), biller("B2")]
    with pytest.raises(DependencyError, match="WRONGTYPE"):
        await redis_store.save(states)
    assert await redis_store.heads([B2]) == []
    await redis_store._client.delete(series_key(B2, "error-rate"))
    assert await redis_store.save([states[1]]) == []


async def test_a_write_that_no_replica_has_is_not_taken_for_done(redis_url: str, redis_store: RedisStore) -> None:
    await redis_store.save([biller("B1")])
    client = redis_store._client
    careful = RedisStore(client, POLICY, replicas=Replicas(1, 20))
    with pytest.raises(DependencyError, match="0 of 1 replicas"):
        await careful.save(await counted(redis_store, B1))
    # The server has it all the same, and the repeat finds that out.
    assert (await redis_store.load_counts([B1]))[B1].rev == 2


async def test_replies_are_given_in_the_order_of_the_commands(redis_store: RedisStore) -> None:
    exchanges = Exchanges(redis_store._client)
    commands: list[Command] = [("ECHO", str(number)) for number in range(3000)]
    assert await exchanges.ask(commands) == [str(number).encode() for number in range(3000)]
    with pytest.raises(DependencyError, match="unknown command"):
        await exchanges.ask([("ECHO", "1"), ("NO-SUCH-COMMAND",), ("ECHO", "2")])
    assert await exchanges.ask([("ECHO", "3")]) == [b"3"]
    assert await exchanges.ask([]) == []
