"""Cohorts as the fields of one Redis hash, and back: one JSON object a cohort, and when the next refresh is due.

Nothing of it is learned state. It is made of what is published of all series, again and again, and may be deleted at
any time: the next refresh writes it anew.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Final

import orjson

from detection.catalogue import metric_of
from detection.cohorts import Cohort, Prior, pool
from detection.errors import UnreadableStateError
from detection.hours import HOUR_MS, iso
from state.keys import COHORTS

# No cohort's name is like these: each has a slash.
DUE: Final = "due_ms"
REFRESHED: Final = "refreshed"

# A due time that lies farther ahead was written by a clock that was wrong.
FARTHEST_MS: Final = 7 * 24 * HOUR_MS


def is_due(due_ms: bytes | None, now_ms: int) -> bool:
    """Whether the cohorts are to be refreshed now, by the stored due time."""
    return due_ms is None or not now_ms < int(due_ms) <= now_ms + FARTHEST_MS


def encode_cohorts(cohorts: Iterable[Cohort], *, coverage: float, now_ms: int, due_ms: int) -> dict[str, bytes]:
    """The fields of the hash: it holds these and no others.

    `new_estimate` and `new_threshold` are what a series of the cohort begins with, in its unit; they are for reading.
    """
    fields = {DUE: b"%d" % due_ms, REFRESHED: iso(now_ms).encode()}
    for one in cohorts:
        known: dict[str, object] = {"judged": one.judged, "measured_exceedance": one.measured_exceedance}
        if one.prior is not None:
            fresh = pool(metric_of(one.metric), one.prior, n=0, own=None, coverage=coverage).outlook
            known |= {"new_estimate": fresh.estimate, "new_threshold": fresh.threshold, **asdict(one.prior)}
        fields[one.name] = orjson.dumps(known)
    return fields


def decode_cohorts(fields: Mapping[bytes, bytes]) -> list[Cohort]:
    """The cohorts of these fields; raises UnreadableStateError that names the field."""
    found = []
    for name, value in fields.items():
        metric, slash, size = name.decode().partition("/")
        if not slash:
            continue
        try:
            known = orjson.loads(value)
            has_prior = "scale" in known
            found.append(
                Cohort(
                    metric=metric,
                    size=size,
                    judged=known["judged"],
                    measured_exceedance=known["measured_exceedance"],
                    prior=Prior(**{part: known[part] for part in Prior.__slots__}) if has_prior else None,
                )
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UnreadableStateError(f"{COHORTS} {name.decode()}: damaged: {error!r}") from error
    return found
