"""What snapshots promise, wherever they are kept: all of it comes back, and what is damaged is named."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detection.errors import ConflictError, InputError, OperatorError, RetryError, UnreadableStateError
from detection.hours import HOUR_MS
from detection.subject import Subject
from detection.subject_state import SubjectState
from state.export import Exported, Reader, with_check
from state.keys import REPLAYED, outbox_key, series_key, subject_key
from state.redis_export import RedisExport
from state.redis_store import RedisStore
from state.snapshots import creation, segments
from state.snapshots.address import SnapshotAddress
from state.snapshots.index import entries
from state.snapshots.lock import LEASE_MS, LOCKS, held
from state.snapshots.manifest import FORMAT, MANIFESTS, SEGMENTS, Manifest, catalogue, encode, path_of
from state.snapshots.pruning import DAY_MS, Retention, prune
from state.snapshots.reading import foreign, lines, verify
from state.snapshots.storage import Storage
from state.store import Reached
from tests.contract import test_version_1, test_version_2
from tests.contract.states import POLICY, SOURCE, advance, biller, call_window, model
from tests.snapshotting import Keeper, azurite, folder

CONTAINERS = iter(f"snapshots-{number}" for number in range(1000))
BILLERS = 12


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], SnapshotAddress]]:
    with azurite(tmp_path_factory.mktemp("azurite")) as address:
        yield address


@pytest.fixture(params=["file", pytest.param("azure", marks=pytest.mark.azurite)])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "file":
        return folder(tmp_path / "snapshots")
    return Storage.open(request.getfixturevalue("azure")(next(CONTAINERS)))


@pytest.fixture
async def keeper(redis_store: RedisStore, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> Keeper:
    """Some subjects with a past, in blocks and segments that hold a few of them each."""
    monkeypatch.setattr(segments, "_BLOCK", 60_000)
    monkeypatch.setattr(segments, "_SEGMENT", 40_000)
    states = [biller(f"B{number:02d}", seed=number, hours=30) for number in range(BILLERS)]
    assert await redis_store.save([*states, model(hours=30)]) == []
    await RedisExport(redis_store.client).set_progress({SOURCE: Reached(7, 1_700_000_000_000, "9f2c4e6ab1d07735")})
    await redis_store.advance_clock(1_767_603_600_000)
    await redis_store.client.hset(REPLAYED, "calls/3/1:00", '{"letter":"0/1","state":"sent"}')
    return Keeper(redis_store, storage)


async def learned(keeper: Keeper, *names: str, hour: int = 490_040) -> None:
    """These billers go on by an hour."""
    states = await keeper.store.load([Subject.biller(name) for name in names])
    await keeper.store.load_models(list(states.values()))
    for state in states.values():
        advance(state, {hour: call_window(180_000, 170_000)}, offset=2)
    assert await keeper.store.save(list(states.values())) == []


def subjects(keeper: Keeper, manifest: Manifest) -> list[Exported]:
    with lines(keeper.storage, manifest) as found:
        return list(Reader(found).subjects())


async def refused(work: Awaitable[object]) -> str:
    with pytest.raises(UnreadableStateError) as refusal:
        await work
    return str(refusal.value)


# All of it comes back.


async def test_a_restore_into_an_empty_redis_is_equal_to_the_byte(keeper: Keeper) -> None:
    before = await keeper.content()
    manifest = await keeper.made()
    await keeper.store.client.flushdb()
    done = await keeper.restored(manifest)
    assert (done.new, done.progress) == (BILLERS + 1, {SOURCE: 7})
    assert await keeper.content() == before
    assert len(manifest.segments) > 2


async def test_a_snapshot_is_the_export_of_the_same_moment_line_by_line(keeper: Keeper) -> None:
    first = await keeper.made()
    await learned(keeper, "B03")
    second = await keeper.made()
    whole = await keeper.made(is_full=True)
    assert (second.parent, whole.parent) == (first.id, "")
    assert [one.parts for one in subjects(keeper, second)] == [one.parts for one in subjects(keeper, whole)]
    assert second.trailer.partition('"digest"')[0] == whole.trailer.partition('"digest"')[0]


async def test_one_biller_comes_back_by_an_index_and_one_block(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = await keeper.made()
    key = subject_key(Subject.biller("B05"))
    before = await keeper.content()
    await keeper.store.client.flushdb()
    read: list[int] = []
    get_range = Storage.get_range

    def counted(self: Storage, path: str, *, start: int, length: int) -> bytes:
        read.append(length)
        return get_range(self, path, start=start, length=length)

    monkeypatch.setattr(Storage, "get_range", counted)
    done = await keeper.restored(manifest, scope=["B05"])
    assert (done.new, done.progress) == (1, {SOURCE: 0})
    assert await keeper.store.subjects() == [Subject.biller("B05")]
    assert (await keeper.content())[key] == before[key]
    # Twice: checked first, then written.
    assert len(read) == 2
    assert sum(read) < manifest.stored_bytes


async def test_one_biller_that_is_newer_in_redis_is_left_alone_unless_it_is_to_be_replaced(keeper: Keeper) -> None:
    manifest = await keeper.made()
    before = await keeper.content()
    await learned(keeper, "B05", "B06")
    now = await keeper.content()
    with pytest.raises(InputError, match="biller:B05 is further in Redis"):
        await keeper.restored(manifest, scope=["B05"])
    assert await keeper.content() == now
    done = await keeper.restored(manifest, scope=["B05"], is_replacing=True)
    assert (done.replaced, done.unchanged) == (1, 0)
    series = series_key(Subject.biller("B05"), "error-rate")
    assert (await keeper.content())[series] == before[series] != now[series]
    # Nobody else's.
    other = subject_key(Subject.biller("B06"))
    assert (await keeper.content())[other] == now[other]


async def test_a_snapshot_of_some_subjects_has_no_other_ones(keeper: Keeper) -> None:
    manifest = await keeper.made(scope=["B0*"])
    assert (manifest.subjects, manifest.scope) == (10, ("B0*",))
    await keeper.made()
    again = await keeper.made(scope=["B0*"])
    assert (again.parent, again.written) == (manifest.id, 0)
    await keeper.store.client.flushdb()
    assert (await keeper.restored(manifest)).progress == {SOURCE: 0}
    assert len(await keeper.store.subjects()) == 10


async def test_nothing_in_redis_is_a_snapshot_too(keeper: Keeper) -> None:
    await keeper.store.client.flushdb()
    manifest = await keeper.made()
    assert (manifest.subjects, manifest.segments) == (0, ())
    assert verify(keeper.storage, manifest, POLICY, lambda _: None).is_whole
    assert (await keeper.restored(manifest)).new == 0


# What has changed, and nothing else.


async def test_only_what_was_written_since_is_uploaded(keeper: Keeper) -> None:
    first = await keeper.made()
    await learned(keeper, "B03")
    second = await keeper.made()
    assert (first.written, second.written, second.deleted) == (BILLERS + 1, 1, 0)
    assert second.uploaded_bytes < first.uploaded_bytes / 3
    assert {one.path for one in first.segments} < {one.path for one in second.segments}
    revisions = [{one.subject: one.rev for one in entries(keeper.storage, each)} for each in (first, second)]
    assert {name for name in revisions[0] if revisions[0][name] != revisions[1][name]} == {"biller:B03"}
    third = await keeper.made()
    assert (third.written, {one.path for one in third.segments}) == (0, {one.path for one in second.segments})


async def test_what_was_told_meanwhile_is_written_though_the_revision_is_the_same(keeper: Keeper) -> None:
    await keeper.made()
    subject = Subject.biller("B03")
    await keeper.store.client.delete(outbox_key(subject))
    before = await keeper.content()
    manifest = await keeper.made()
    assert manifest.written == 1
    await keeper.store.client.flushdb()
    await keeper.restored(manifest)
    assert await keeper.content() == before


async def test_the_same_revision_of_a_redis_that_was_lost_is_not_taken_for_the_same(keeper: Keeper) -> None:
    await keeper.made()
    await keeper.store.client.flushdb()
    assert await keeper.store.save([biller("B03", seed=77, hours=30)]) == []
    manifest = await keeper.made()
    assert (manifest.subjects, manifest.written, manifest.deleted) == (1, 1, BILLERS)
    (one,) = subjects(keeper, manifest)
    assert one.rev == 1


async def test_after_a_restore_nothing_is_uploaded_again(keeper: Keeper) -> None:
    manifest = await keeper.made()
    await keeper.store.client.flushdb()
    await keeper.restored(manifest)
    assert (await keeper.made()).written == 0


async def test_subjects_that_are_gone_are_not_in_the_next_snapshot(keeper: Keeper) -> None:
    await keeper.made()
    gone = Subject.biller("B03")
    await keeper.store.client.zrem("tidemark:1:subjects", str(gone))
    manifest = await keeper.made()
    assert (manifest.deleted, manifest.subjects) == (1, BILLERS)
    assert gone not in {one.subject for one in subjects(keeper, manifest)}


async def test_a_segment_of_which_little_is_used_is_left_behind(keeper: Keeper) -> None:
    first = newest = await keeper.made()
    for hour in range(490_040, 490_048):
        # One by one, so that each segment loses its subjects bit by bit.
        await learned(keeper, *(f"B{number:02d}" for number in range(6)), hour=hour)
        newest = await keeper.made()
        assert newest.stored_bytes <= 2.5 * first.stored_bytes
        assert len(newest.segments) <= BILLERS
    assert [one.subject.id for one in subjects(keeper, newest)][:6] == [f"B{number:02d}" for number in range(6)]


async def test_many_small_segments_become_few(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creation, "_MOST_SMALL", 3)
    monkeypatch.setattr(segments, "_SEGMENT", 4_000_000)
    await keeper.made(is_full=True)
    counts = []
    for number in range(8):
        await learned(keeper, f"B{number:02d}")
        counts.append(len((await keeper.made()).segments))
    assert max(counts) <= 5
    assert 1 in counts


# What is damaged is named, and nothing is restored.


async def test_a_whole_snapshot_is_found_whole(keeper: Keeper) -> None:
    manifest = await keeper.made()
    read: list[int] = []
    found = verify(keeper.storage, manifest, POLICY, read.append)
    assert (found.is_whole, found.subjects, found.bytes) == (True, BILLERS + 1, manifest.stored_bytes)
    assert sum(read) == sum(one.bytes for one in manifest.segments)


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flipped(content: bytes) -> bytes:
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


@pytest.mark.parametrize("damage", [_cut, _flipped, lambda _: b"", lambda content: content + b"more", None])
@pytest.mark.parametrize("which", ["manifest", "index", "segment"])
async def test_damage_is_named_and_nothing_is_written(
    keeper: Keeper, which: str, damage: Callable[[bytes], bytes] | None
) -> None:
    manifest = await keeper.made()
    path = {
        "manifest": path_of(manifest.id),
        "index": manifest.index[0].path,
        "segment": manifest.segments[1].path,
    }[which]
    if damage is None:
        keeper.storage.delete([path])
    else:
        keeper.storage.put(path, damage(keeper.storage.get(path)))
    await keeper.store.client.flushdb()
    if which == "manifest":
        found = catalogue(keeper.storage)
        assert found.snapshots == ()
        with pytest.raises(UnreadableStateError, match=manifest.id):
            found.find(manifest.id)
        return
    (fault,) = verify(keeper.storage, manifest, POLICY, lambda _: None).faults
    assert path in fault
    if damage is not None and damage(b"12") == b"12more" and which == "segment":
        # Nothing that the index points at has changed.
        return
    assert path in await refused(keeper.restored(manifest))
    assert await keeper.store.client.dbsize() == 0


async def test_the_line_of_another_subject_is_named_though_it_is_whole(keeper: Keeper) -> None:
    manifest = await keeper.made()
    first, second = manifest.segments[:2]
    keeper.storage.put(second.path, keeper.storage.get(first.path))
    await keeper.store.client.flushdb()
    assert second.path in await refused(keeper.restored(manifest))
    (fault,) = verify(keeper.storage, manifest, POLICY, lambda _: None).faults
    assert second.path in fault
    assert await keeper.store.client.dbsize() == 0


async def test_objects_of_somebody_else_are_named_and_stay(keeper: Keeper) -> None:
    manifest = await keeper.made()
    keeper.storage.put(f"{SEGMENTS}/notes.txt", b"bread, milk")
    keeper.storage.put(f"{MANIFESTS}/notes.txt", b"bread, milk")
    assert foreign(keeper.storage, [manifest]) == [f"{SEGMENTS}/notes.txt"]
    found = catalogue(keeper.storage)
    assert [one.id for one in found.snapshots] == [manifest.id]
    assert f"{MANIFESTS}/notes.txt" in found.unreadable
    with pytest.raises(OperatorError, match=r"notes\.txt"):
        await prune(keeper.storage, Retention(keep=1), now_ms=keeper.clock)
    keeper.storage.delete([f"{MANIFESTS}/notes.txt"])
    assert (await prune(keeper.storage, Retention(keep=1), now_ms=keeper.clock)).foreign == (f"{SEGMENTS}/notes.txt",)
    assert keeper.storage.get(f"{SEGMENTS}/notes.txt") == b"bread, milk"


async def test_a_segment_that_went_missing_is_written_again_by_the_next_snapshot(keeper: Keeper) -> None:
    first = await keeper.made()
    lost = first.segments[1]
    keeper.storage.delete([lost.path])
    second = await keeper.made()
    assert second.written == lost.used
    assert verify(keeper.storage, second, POLICY, lambda _: None).is_whole


# Versions.


@pytest.mark.parametrize("name", ["format", "line_format", "schema"])
async def test_a_snapshot_of_the_next_version_is_refused_and_says_what_to_do(keeper: Keeper, name: str) -> None:
    manifest = await keeper.made()
    said = orjson.loads(encode(replace(manifest, program="0.9.0")))
    del said["check"]
    keeper.storage.put(path_of(manifest.id), with_check(said | {name: FORMAT + 1}))
    with pytest.raises(UnreadableStateError) as refusal:
        catalogue(keeper.storage).find(manifest.id)
    text = str(refusal.value)
    assert f"Tidemark 0.9.0 with {name} 2 (this program reads 1)" in text
    assert "restore it with that one, or a later one" in text


async def test_series_of_the_next_version_are_refused_before_anything_is_written(keeper: Keeper) -> None:
    await keeper.store.client.hset(series_key(Subject.biller("B04"), "error-rate"), "schema", "4")
    manifest = await keeper.made()
    await keeper.store.client.flushdb()
    with pytest.raises(InputError, match="schema version 4, this program reads 1, 2 and 3"):
        await keeper.restored(manifest)
    assert await keeper.store.client.dbsize() == 0


@pytest.mark.parametrize("version", [test_version_1, test_version_2], ids=["1", "2"])
async def test_series_of_the_versions_before_come_back_and_answer_the_same(keeper: Keeper, version: Any) -> None:
    await keeper.store.client.flushdb()
    await version.restored(keeper.store)
    content = await keeper.content()
    stored = await keeper.store.subjects()
    answers = await keeper.store.answers(stored)
    manifest = await keeper.made()
    await keeper.store.client.flushdb()
    assert (await keeper.restored(manifest)).new == len(stored)
    assert await keeper.content() == content
    assert await keeper.store.answers(stored) == answers
    assert len(await keeper.store.load(stored)) == len(stored)


# One writer at a time, and what goes.


async def test_nobody_else_writes_while_a_snapshot_is_written(keeper: Keeper) -> None:
    async with held(keeper.storage, keeper.clock, doing="snapshots create"):
        for work in (keeper.made(), prune(keeper.storage, Retention(keep=1), now_ms=keeper.clock)):
            with pytest.raises(ConflictError, match="is at work"):
                await work
    assert (await keeper.made()).subjects == BILLERS + 1
    assert list(keeper.storage.list(LOCKS)) == []


async def test_the_lock_of_somebody_who_was_killed_is_taken_when_it_has_run_out(keeper: Keeper) -> None:
    slow = held(keeper.storage, keeper.clock, doing="snapshots create")
    lock = await slow.__aenter__()
    lock.renew()
    keeper.clock.ms += LEASE_MS
    await keeper.made()
    with pytest.raises(ConflictError, match="was lost"):
        lock.renew()


async def test_of_two_who_begin_at_once_one_writes(keeper: Keeper) -> None:
    assert keeper.storage.put_new(f"{LOCKS}/0000000001.json", b"{}")
    assert not keeper.storage.put_new(f"{LOCKS}/0000000001.json", b"{}")


async def test_an_interrupted_snapshot_is_none_and_its_leftovers_go(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await keeper.made()
    await learned(keeper, "B03")
    with monkeypatch.context() as patch:
        patch.setattr(creation, "encode", _fail)
        with pytest.raises(RetryError):
            await keeper.made()
    assert [one.id for one in catalogue(keeper.storage).snapshots] == [first.id]
    left = foreign(keeper.storage, [first])
    assert len(left) == 2
    done = await prune(keeper.storage, Retention(keep=1), now_ms=keeper.clock)
    assert (done.snapshots, done.objects) == ((), len(left))
    assert foreign(keeper.storage, [first]) == []
    assert verify(keeper.storage, first, POLICY, lambda _: None).is_whole


def _fail(_: Manifest) -> bytes:
    raise RetryError("the network is gone")


async def test_what_a_remaining_snapshot_needs_is_never_deleted(keeper: Keeper) -> None:
    made = []
    for number in range(4):
        await learned(keeper, f"B{number:02d}")
        made.append(await keeper.made())
    part = await keeper.made(scope=["B00"])
    wanted = subjects(keeper, made[-1])
    dry = await prune(keeper.storage, Retention(keep=1), now_ms=keeper.clock, is_dry=True)
    assert len(catalogue(keeper.storage).snapshots) == 5
    done = await prune(keeper.storage, Retention(keep=1), now_ms=keeper.clock)
    assert done.snapshots == dry.snapshots == tuple(one.id for one in made[:-1])
    assert (done.objects, done.bytes) == (dry.objects, dry.bytes)
    assert done.objects
    assert [one.id for one in catalogue(keeper.storage).snapshots] == [made[-1].id, part.id]
    assert subjects(keeper, made[-1]) == wanted
    for one in (made[-1], part):
        assert verify(keeper.storage, one, POLICY, lambda _: None).is_whole
    # The next one uses again what is left.
    await learned(keeper, "B07")
    assert (await keeper.made()).written == 1


async def test_snapshots_stay_for_as_many_days_as_were_said(keeper: Keeper) -> None:
    made = [await keeper.made()]
    for _ in range(3):
        keeper.clock.ms += DAY_MS
        made.append(await keeper.made())
    done = await prune(keeper.storage, Retention(keep_days=2), now_ms=keeper.clock)
    assert done.snapshots == tuple(one.id for one in made[:2])
    keeper.clock.ms += 100 * DAY_MS
    # The newest stays whatever its age.
    assert (await prune(keeper.storage, Retention(keep_days=2), now_ms=keeper.clock)).kept == 1


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories=st.lists(st.dictionaries(st.integers(0, 9), st.integers(1, 30), max_size=6), min_size=2, max_size=4))
async def test_whatever_has_happened_each_snapshot_brings_back_its_own_moment(
    keeper: Keeper, histories: list[dict[int, int]]
) -> None:
    await keeper.store.client.flushdb()
    moments = []
    for happened in histories:
        for number, hours in happened.items():
            subject = Subject.biller(f"B{number}")
            states = await keeper.store.load([subject])
            state = states.get(subject, SubjectState(subject))
            await keeper.store.load_models(list(states.values()))
            first = max(490_000, state.watermark_ms // HOUR_MS + 1)
            advance(state, {first + hour: call_window(100_000 + hour) for hour in range(hours)})
            assert await keeper.store.save([state]) == []
        moments.append((await keeper.made(), await keeper.content()))
    for manifest, content in moments:
        await keeper.store.client.flushdb()
        await keeper.restored(manifest)
        assert await keeper.content() == content
