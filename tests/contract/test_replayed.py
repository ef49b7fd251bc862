"""The marks of letters that were sent back stay for as long as anybody could send the letter again."""

from state.dead_letters import Letter
from state.redis_store import RedisStore
from state.replayed import Replayed


def letter(offset: int, *, partition: int = 0) -> Letter:
    return Letter(
        partition,
        offset,
        1_700_000_000_000,
        "invalid",
        "no JSON",
        topic="calls",
        origin_partition=partition,
        origin_offset=offset,
        value=b"x",
    )


async def test_only_marks_of_letters_that_retention_has_taken_are_forgotten(redis_store: RedisStore) -> None:
    replayed = Replayed(redis_store.client)
    gone = [letter(9), letter(3)]
    # Another replay, begun later than the one that now ends, has sent the last two; of one it knows not the partition.
    kept = [letter(10), letter(999), letter(1000), letter(0, partition=5)]
    await replayed.set([*gone, *kept], "sent", at="")
    assert await replayed.forget_gone({0: 10}) == len(gone)
    assert await replayed.marks([*gone, *kept]) == [None, None, "sent", "sent", "sent", "sent"]
