"""What a young series borrows from its cohort, at the moment of answering: nothing of it is learned or stored.

What is stored of a series stays a function of its own subject's events; the cohort, made of everybody's, speaks here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import orjson

from detection.catalogue import Metric
from detection.cohorts import Cohort, Outlook, Pooled, pool
from detection.kernel.series import READY_AFTER

BASIS: Final = "cohort prior"

_OUTLOOK: Final = ("estimate", "lower", "upper", "threshold")


@dataclass(frozen=True, slots=True)
class Lender:
    """Who speaks for a young series besides its own hours; `own_weight` is 0..1."""

    cohort: str
    series: int
    own_weight: float

    @property
    def text(self) -> str:
        """As a sentence names it."""
        return f"{self.series} series of {self.cohort}"


def borrowed(metric: Metric, fields: Mapping[str, str], cohort: Cohort | None) -> Mapping[str, str]:
    """The readable fields with the cohort's share, for a series that has learned too little to stand alone.

    The others, and all while no cohort speaks for them, stay as they are published. `version` changes with the cohort.
    """
    pooled = pooled_outlook(metric, fields, cohort)
    if pooled is None or cohort is None or cohort.prior is None:
        return fields
    outlook = pooled.outlook
    values = (outlook.estimate, outlook.lower, outlook.upper, outlook.threshold)
    parts: dict[str, Any] = orjson.loads(fields["explanation"]) | {
        "basis": BASIS,
        "cohort": cohort.name,
        "cohort_series": cohort.prior.series,
        "cohort_kappa_hours": float(f"{cohort.prior.kappa:.5g}"),
        "own_weight": float(f"{pooled.weight:.5g}"),
    }
    told = dict(zip(_OUTLOOK, map(repr, values), strict=True)) | {"explanation": orjson.dumps(parts).decode()}
    version = blake2b("\n".join((fields["version"], *told.values())).encode(), digest_size=6).hexdigest()
    return {**fields, **told, "version": version}


def pooled_outlook(metric: Metric, fields: Mapping[str, str], cohort: Cohort | None) -> Pooled | None:
    """What a young series and its cohort say together; None where the series speaks alone."""
    n_learned = int(fields["n_learned"])
    if cohort is None or cohort.prior is None or fields["status"] == "ready" or n_learned >= READY_AFTER:
        return None
    own = Outlook(*(float(fields[name]) for name in _OUTLOOK)) if n_learned else None
    return pool(metric, cohort.prior, n=n_learned, own=own, coverage=float(fields["coverage"]))


def lender_of(fields: Mapping[str, str]) -> Lender | None:
    """Who spoke in these fields; None where nobody did."""
    parts = orjson.loads(fields["explanation"])
    if parts.get("basis") != BASIS:
        return None
    return Lender(parts["cohort"], parts["cohort_series"], parts["own_weight"])
