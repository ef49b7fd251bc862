"""Hours that a subject's models are not to learn: an incident or maintenance, named by people.

To a model an excluded hour is a silent one: the season moves on, nothing is judged and nothing is learned. Its windows
are counted and kept in the history like any other, so that what was excluded can be learned after all.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from detection.hours import HOUR_MS, iso_hour

MOST_EXCLUSIONS: Final = 200
LONGEST_HOURS: Final = 366 * 24

_Spans = tuple[list[int], list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """The hours `from_hour <= hour < before_hour` since the epoch of one series, or of all where `slug` is None.

    `by` said so at `at_ms` of the wall clock. `calendar` and `uid` name the event of a calendar that it stands for,
    and are empty where people excluded it themselves.
    """

    from_hour: int
    before_hour: int
    slug: str | None = None
    reason: str = ""
    by: str = ""
    at_ms: int = 0
    calendar: str = ""
    uid: str = ""

    @property
    def id(self) -> str:
        """What it excludes, on whose word: the same said twice is the same exclusion.

        >>> Exclusion(from_hour=490_000, before_hour=490_006, slug="error-rate").id
        '20251124T16Z-20251124T22Z-error-rate'
        """
        parts = [_compact(self.from_hour), _compact(self.before_hour)]
        if self.slug is not None:
            parts.append(self.slug)
        if self.calendar:
            parts.append(blake2b(f"{self.calendar}\0{self.uid}".encode(), digest_size=6).hexdigest())
        return "-".join(parts)

    def means(self, slug: str) -> bool:
        """Whether it is about this series."""
        return self.slug in {None, slug}


class Exclusions:
    """All exclusions of one subject, the earliest first; never changes."""

    __slots__ = ("_by_id", "_spans")

    def __init__(self, exclusions: Iterable[Exclusion] = ()) -> None:
        ordered = sorted(exclusions, key=lambda one: (one.from_hour, one.before_hour, one.id))
        self._by_id = {one.id: one for one in ordered}
        # By series, made when it is first asked for: hours are asked about one by one, at every closing.
        self._spans: dict[str, _Spans] = {}

    def __iter__(self) -> Iterator[Exclusion]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Exclusions) and self._by_id == other._by_id

    def __hash__(self) -> int:
        return hash(tuple(self._by_id.values()))

    def __repr__(self) -> str:
        return f"Exclusions({list(self)})"

    def get(self, exclusion_id: str) -> Exclusion | None:
        """The exclusion of that id."""
        return self._by_id.get(exclusion_id)

    def added(self, more: Iterable[Exclusion]) -> "Exclusions":
        """With these; one that is there already stays as it is."""
        return Exclusions([*self, *(one for one in more if one.id not in self._by_id)])

    def without(self, ids: Iterable[str]) -> "Exclusions":
        """Without those of these ids."""
        gone = frozenset(ids)
        return Exclusions(one for one in self if one.id not in gone)

    def scheduled(self, calendar: str, wanted: Iterable[Exclusion], *, from_hour: int) -> "Exclusions":
        """With `wanted` in place of what else this calendar has excluded that ends after `from_hour`.

        What is wanted and is there already stays as it is.
        """
        kept = {one.id: one for one in wanted}
        gone = [one.id for one in self if one.calendar == calendar and one.before_hour > from_hour]
        return self.without(id_ for id_ in gone if id_ not in kept).added(kept.values())

    def holds(self, slug: str, hour: int) -> bool:
        """Whether this hour of the series is excluded."""
        if not self._by_id:
            return False
        spans = self._spans.get(slug)
        if spans is None:
            spans = self._spans[slug] = _merged([one for one in self if one.means(slug)])
        begins, ends = spans
        at = bisect_right(begins, hour) - 1
        return at >= 0 and hour < ends[at]


NOTHING_EXCLUDED: Final = Exclusions()


def hours_touched(from_ms: int, to_ms: int) -> tuple[int, int]:
    """The hours [from, before) that the moments from `from_ms` until before `to_ms` touch.

    >>> hours_touched(1_763_755_200_000 + 1, 1_763_755_200_000 + 3_600_000)
    (489932, 489933)
    """
    return from_ms // HOUR_MS, -(-to_ms // HOUR_MS)


def _compact(hour: int) -> str:
    return iso_hour(hour).replace("-", "").replace(":00:00Z", "Z")


def _merged(exclusions: Iterable[Exclusion]) -> _Spans:
    """Begins and ends of the hours that they have together, apart from each other; they come in their order."""
    begins: list[int] = []
    ends: list[int] = []
    for one in exclusions:
        if ends and one.from_hour <= ends[-1]:
            ends[-1] = max(ends[-1], one.before_hour)
        else:
            begins.append(one.from_hour)
            ends.append(one.before_hour)
    return begins, ends
