"""What an import of a state does to how far topics are read, so that nothing counts twice and nothing is left out."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from cli.exporting import export_state
from cli.importing import Imported, import_state
from cli.packed import read
from cli.progress import Progress
from detection.errors import InputError
from detection.subject import Subject
from state.keys import REPLAYED
from state.redis_export import RedisExport
from state.redis_store import RedisStore
from state.store import Reached
from tests.contract.states import POLICY, SOURCE, biller

REACHED = Reached(7, 1_700_000_000_000, "9f2c4e6ab1d07735")
RENEWED = "kafka.1/calls/3"
ONE = ("biller:B1",)


@dataclass(frozen=True)
class Copy:
    """A file of the two billers of a Redis that is empty now."""

    store: RedisStore
    path: Path

    async def made(self, progress: dict[str, Reached], *, globs: Collection[str] = (), renewed: str = "") -> "Copy":
        assert await self.store.save([biller("B1"), biller("B2", seed=2)]) == []
        await self.reached(progress)
        if renewed:
            await self.store.renew_log(renewed, now_ms=0)
            await self.reached(progress)
        await self.store.client.hset(REPLAYED, "calls/3/1:00", '{"letter":"0/1","state":"sent"}')
        await export_state(
            self.store,
            self.path,
            globs=globs,
            log_id="kafka",
            wall_ms=0,
            progress=lambda total: Progress({"subjects": total}, is_shown=False),
        )
        await self.store.client.flushdb()
        return self

    async def reached(self, progress: dict[str, Reached]) -> None:
        await RedisExport(self.store.client).set_progress(progress)

    async def imported(
        self,
        *,
        globs: Collection[str] = (),
        log_id: str = "kafka",
        is_other_log: bool = False,
        is_dry: bool = False,
    ) -> Imported:
        return await import_state(
            self.store,
            partial(read, self.path),
            policy=POLICY,
            log_id=log_id,
            globs=globs,
            is_replacing=False,
            is_other_log=is_other_log,
            is_dry=is_dry,
            wall_ms=0,
            progress=lambda totals: Progress(totals, is_shown=False),
        )

    async def refused(self, *, log_id: str = "kafka") -> str:
        """Why, when nothing was written."""
        before = await self.store.client.dbsize()
        with pytest.raises(InputError):
            await self.imported(log_id=log_id, is_dry=True)
        with pytest.raises(InputError) as refusal:
            await self.imported(log_id=log_id)
        assert await self.store.client.dbsize() == before
        assert await self.store.subjects() == []
        return str(refusal.value)


@pytest.fixture
def copy(redis_store: RedisStore, tmp_path: Path) -> Copy:
    return Copy(redis_store, tmp_path / "state.ndjson")


@pytest.mark.parametrize("globs", [(), ONE])
async def test_the_life_of_a_topic_comes_along_however_few_subjects_do(copy: Copy, globs: Collection[str]) -> None:
    await copy.made({RENEWED: REACHED}, renewed="calls")
    await copy.imported(globs=globs)
    assert (await copy.store.log_lives())["calls"].life == 1
    # Whoever sends letters again would count them twice in the subjects that have them.
    assert await copy.store.client.hlen(REPLAYED) == 1


async def test_a_file_of_another_log_is_refused_unless_its_offsets_are_forgotten(copy: Copy) -> None:
    await copy.made({SOURCE: REACHED})
    why = await copy.refused(log_id="other")
    assert "'kafka'" in why
    assert "'other'" in why
    assert (await copy.imported(log_id="other", is_other_log=True)).new == 2
    assert await copy.store.progress() == {}
    heads = await copy.store.heads(await copy.store.subjects())
    assert [head.offsets for head in heads] == [{}, {}]


async def test_a_file_of_the_life_before_is_refused(copy: Copy) -> None:
    await copy.made({SOURCE: REACHED})
    await copy.store.renew_log("calls", now_ms=0)
    assert "the file is of life 0 of the topic calls, Redis has life 1 of it" in await copy.refused()


async def test_a_file_of_a_later_life_than_is_read_is_refused(copy: Copy) -> None:
    await copy.made({RENEWED: REACHED}, renewed="calls")
    await copy.reached({SOURCE: Reached(3)})
    assert "the file is of life 1 of the topic calls, Redis has life 0 of it" in await copy.refused()


async def test_lives_of_topics_that_redis_does_not_know_join_those_that_it_does(copy: Copy) -> None:
    await copy.made({RENEWED: REACHED}, renewed="calls")
    await copy.store.renew_log("observations", now_ms=0)
    await copy.imported()
    assert {topic: one.life for topic, one in (await copy.store.log_lives()).items()} == {"calls": 1, "observations": 1}


async def test_of_a_whole_state_the_topics_are_read_on(copy: Copy) -> None:
    await copy.made({SOURCE: REACHED})
    assert (await copy.imported()).progress == {SOURCE: 7}
    assert await copy.store.progress() == {SOURCE: REACHED}


@pytest.mark.parametrize(("exported", "imported"), [((), ONE), (ONE, ())])
async def test_of_a_part_of_the_state_the_topics_are_read_from_their_beginning(
    copy: Copy, exported: Collection[str], imported: Collection[str]
) -> None:
    await copy.made({SOURCE: REACHED}, globs=exported)
    assert (await copy.imported(globs=imported)).progress == {SOURCE: 0}
    # Stored, because a worker asks the subjects where nothing is, and goes by the greatest of their offsets.
    assert await copy.store.progress() == {SOURCE: Reached(0)}
    assert await copy.store.subjects() == [Subject.biller("B1")]
    (head,) = await copy.store.heads([Subject.biller("B1")])
    assert head.offsets[SOURCE] > 0


@pytest.mark.parametrize(("stored", "expected"), [(Reached(3), Reached(3)), (Reached(9), REACHED)])
async def test_a_part_of_the_state_sets_back_what_is_further_and_leaves_what_is_not(
    copy: Copy, stored: Reached, expected: Reached
) -> None:
    await copy.made({SOURCE: REACHED})
    await copy.reached({SOURCE: stored})
    await copy.imported(globs=ONE)
    assert await copy.store.progress() == {SOURCE: expected}
