"""Which subjects may have open alerts: a hint, so that nobody has to look at all of them; the truth is each subject's.

A worker hints after the write that opened an alert, or left one open. Whoever finds that a subject has none takes the
hint out, unless it was given again meanwhile. Sorted by when it was given last.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from redis.asyncio import Redis

from detection.subject import Subject
from state.keys import ALERTING
from state.redis_pipeline import FORGET_ALERTING, HINT_ALERTING, Scripts, redis_errors, run_pipeline

# Of one script call, and of one page.
_SUBJECTS_AT_ONCE = 1000

Item = TypeVar("Item")


class AlertingHints(Protocol):
    """The hints, by subject; DependencyError when they cannot be asked for."""

    async def hint(self, subjects: Iterable[Subject], *, now_ms: int) -> None:
        """These may have open alerts now."""
        ...

    async def hinted(self) -> dict[Subject, int]:
        """All of them with their scores, those first that were hinted at longest ago."""
        ...

    async def forget(self, scores: Mapping[Subject, int]) -> None:
        """These have none: take out those whose score is still this one."""
        ...


class RedisAlerting:
    """An `AlertingHints` in a sorted set."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._scripts = Scripts(client)

    async def hint(self, subjects: Iterable[Subject], *, now_ms: int) -> None:
        texts = [str(one) for one in subjects]
        await self._scripts.run([(HINT_ALERTING, 1, ALERTING, now_ms, *part) for part in _parts(texts)])

    async def hinted(self) -> dict[Subject, int]:
        # A scan misses nobody who is in it from its beginning to its end; pages by rank would, as others go.
        found: dict[bytes, int] = {}
        cursor = 0
        while True:
            (reply,) = await run_pipeline(self._client, [("ZSCAN", ALERTING, cursor, "COUNT", _SUBJECTS_AT_ONCE)])
            with redis_errors():
                if isinstance(reply, Exception):
                    raise reply
            cursor, page = int(reply[0]), reply[1]
            found |= _pairs(page)
            if not cursor:
                break
        return {Subject.parse(text.decode()): score for text, score in sorted(found.items(), key=_by_score)}

    async def forget(self, scores: Mapping[Subject, int]) -> None:
        pairs = [(str(subject), score) for subject, score in scores.items()]
        calls = [(FORGET_ALERTING, 1, ALERTING, *(each for pair in part for each in pair)) for part in _parts(pairs)]
        await self._scripts.run(calls)


class MemoryAlerting:
    """The twin of `RedisAlerting`."""

    def __init__(self) -> None:
        self.scores: dict[Subject, int] = {}

    async def hint(self, subjects: Iterable[Subject], *, now_ms: int) -> None:
        for subject in subjects:
            self.scores[subject] = max(now_ms, self.scores.get(subject, -1) + 1)

    async def hinted(self) -> dict[Subject, int]:
        return dict(sorted(self.scores.items(), key=lambda pair: (pair[1], str(pair[0]))))

    async def forget(self, scores: Mapping[Subject, int]) -> None:
        for subject, score in scores.items():
            if self.scores.get(subject) == score:
                del self.scores[subject]


def _parts(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + _SUBJECTS_AT_ONCE] for start in range(0, len(items), _SUBJECTS_AT_ONCE)]


def _by_score(pair: tuple[bytes, int]) -> tuple[int, bytes]:
    return pair[1], pair[0]


def _pairs(page: Sequence[Any]) -> dict[bytes, int]:
    """Members and scores, whether the client has paired them or not."""
    flat = [each for one in page for each in (one if isinstance(one, list | tuple) else (one,))]
    return {member: int(float(score)) for member, score in zip(flat[::2], flat[1::2], strict=True)}
