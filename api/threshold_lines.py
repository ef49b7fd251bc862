"""Lines of `GET /thresholds`, hundreds at a time: machine code writes those of usual series, `api.ready` the others."""

from collections.abc import Callable, Iterable
from hashlib import blake2b
from operator import itemgetter
from typing import Final, NamedTuple

import numpy as np

from api.answers import OVERDUE_MS
from api.ready import Now, cohort_text, lines
from detection.catalogue import AVERAGE_RESPONSE_TIME, ERROR_RATE, TIMEOUT_ERROR_RATE
from detection.hours import MINUTE_MS, iso
from detection.kernel.threshold_text import (
    DIGEST_BYTES,
    ERROR_SHARE,
    LONGEST,
    MEAN_LATENCY,
    NEEDED,
    NO_VALUE,
    SIZE_ENDS,
    STALE,
    TIMEOUT_SHARE,
    UNUSUAL,
    Octets,
    Table,
    Whole,
    write_lines,
)
from detection.kernel.window_text import LATENCY_US, sum_latest
from detection.subject_state import KEPT_MINUTES
from state.as_stored import StoredTexts
from state.series_fields import STORED_FIELDS

# Whether a line is wanted: its slug, its status and the start of its window.
Takes = Callable[[str, str, str], bool]

_FIELDS: Final = np.array([STORED_FIELDS.index(name) for name in NEEDED])
_VALUE_OF: Final = {
    AVERAGE_RESPONSE_TIME.slug: MEAN_LATENCY,
    ERROR_RATE.slug: ERROR_SHARE,
    TIMEOUT_ERROR_RATE.slug: TIMEOUT_SHARE,
}
# Expected calls of each size class, and none.
_OF_EACH_SIZE: Final = (SIZE_ENDS[0] / 2, *SIZE_ENDS.tolist(), 0.0)


class _Written(NamedTuple):
    """Line j is from `end[j]` to `end[j + 1]` of `octets`; `window` is the minute that its hour begins with."""

    octets: Octets
    end: Whole
    kind: Whole
    window: Whole


def lines_of(
    texts: StoredTexts, first: int, behind: int, now: Now, takes: Takes | None = None, slug: str | None = None
) -> bytes:
    """The lines of the published series of subjects `first` to `behind`, in their order; None takes them all.

    With a slug, other series are not even looked at: a damaged one of these is nobody's concern.
    """
    written = _write(texts, first, behind, now)
    start = int(texts.first[first])
    # What the machine code has not written, by the line before which it belongs.
    inserted = [(int(texts.first[i]) - start, texts.others[i]) for i in range(first, behind) if i in texts.others]
    for j in np.flatnonzero(written.kind == UNUSUAL).tolist():
        if slug not in (None, texts.slugs[start + j]):
            continue
        whole = texts.one(int(texts.owner[start + j]))
        inserted.append((j, whole._replace(series=[(texts.slugs[start + j], texts.text(start + j))])))
    inserted.sort(key=itemgetter(0))
    found: list[bytes] = []
    done = 0
    for place, stored in inserted:
        found.append(_between(texts, start, written, done, place, takes))
        found += [
            line
            for own_slug, status, begins, line in lines(stored, slug, now)
            if takes is None or takes(own_slug, status, begins.decode())
        ]
        done = place
    found.append(_between(texts, start, written, done, len(written.kind), takes))
    return b"".join(found)


def _between(texts: StoredTexts, start: int, written: _Written, first: int, behind: int, takes: Takes | None) -> bytes:
    """Those of the written lines `first` to `behind` that are wanted; line 0 is that of series `start`."""
    if takes is None:
        return written.octets[written.end[first] : written.end[behind]].tobytes()
    return b"".join(
        written.octets[written.end[j] : written.end[j + 1]].tobytes()
        for j in range(first, behind)
        if written.end[j] < written.end[j + 1]
        and takes(
            texts.slugs[start + j],
            "stale" if written.kind[j] == STALE else "ready",
            iso(int(written.window[j]) * MINUTE_MS),
        )
    )


def _write(texts: StoredTexts, first: int, behind: int, now: Now) -> _Written:
    own = slice(int(texts.first[first]), int(texts.first[behind]))
    begin, end = texts.begin[own], texts.end[own]
    known: dict[str, int] = {}
    metric = np.array([known.setdefault(slug, len(known)) for slug in texts.slugs[own]], np.int64)
    tables = (
        _table(str(subject).encode() for subject in texts.subjects[first:behind]),
        _table(slug.encode() for slug in known),
        _table(cohort_text(now, slug, calls) for slug in known for calls in _OF_EACH_SIZE),
    )
    newest = np.empty(behind - first, np.int64)
    sums = np.empty((LATENCY_US + 1, behind - first), np.int64)
    minutes = texts.minutes_begin[first:behind], texts.minutes_end[first:behind]
    sum_latest(texts.octets, *minutes, KEPT_MINUTES, newest, sums)
    view = texts.octets.data
    digests = [
        blake2b(view[start:stop], digest_size=DIGEST_BYTES).digest()
        for start, stop in zip(begin.tolist(), end.tolist(), strict=True)
    ]
    count = len(begin)
    longest = LONGEST + sum(int(np.diff(table[1]).max(initial=0)) for table in tables)
    written = _Written(
        octets=np.empty(2 * int((end - begin).sum()) + count * longest, np.uint8),
        end=np.empty(count + 1, np.int64),
        kind=np.empty(count, np.int64),
        window=np.empty(count, np.int64),
    )
    write_lines(
        texts.octets,
        begin,
        end,
        _FIELDS,
        len(STORED_FIELDS),
        texts.owner[own] - first,
        metric,
        tables,
        np.array([_VALUE_OF.get(slug, NO_VALUE) for slug in known], np.int64),
        newest,
        sums,
        np.frombuffer(bytearray(b"".join(digests)), np.uint8),
        now.clock_ms,
        OVERDUE_MS,
        *written,
    )
    return written


def _table(texts: Iterable[bytes]) -> Table:
    each = list(texts)
    return np.frombuffer(bytearray(b"".join(each)), np.uint8), np.cumsum([0, *map(len, each)], dtype=np.int64)
