"""Which forecaster speaks for a series and which ones challenge it: what an operator may write, and what it means."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self

from detection.catalogue import Metric, metric_of
from detection.challengers.names import DEFAULT, NAMES, checked_name
from detection.errors import InvalidSubjectError, SettingsError, UnknownMetricError
from detection.subject import Subject

_GRAMMAR = "[SUBJECT/]METRIC=NAME,NAME; METRIC may be *; separate entries with semicolons"


def _none() -> Mapping[str, tuple[str, ...]]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Selection:
    """Names on the allow-list by scope, the narrowest scope that was written deciding.

    Scopes, from the narrowest: `biller:B1/error-rate`, `biller:B1/*`, `error-rate`, `*`.

    Examples
    --------
    >>> chosen = Selection.parse("error-rate=holt-winters,snarimax; biller:B1/*=ewa", forecasters="error-rate=ewa")
    >>> chosen.challengers_of("biller:B1", "error-rate"), chosen.challengers_of("biller:B2", "error-rate")
    (('ewa',), ('holt-winters', 'snarimax'))
    >>> chosen.forecaster_of("biller:B1", "error-rate"), chosen.forecaster_of("biller:B1", "timeout-error-rate")
    ('ewa', 'default')

    """

    challengers: Mapping[str, tuple[str, ...]] = field(default_factory=_none)
    forecasters: Mapping[str, tuple[str, ...]] = field(default_factory=_none)

    @classmethod
    def parse(cls, challengers: str = "", *, forecasters: str = "") -> Self:
        """The selection that two settings describe, `[SUBJECT/]METRIC=NAME,NAME;...`; an empty one selects nothing.

        `forecasters` takes one name an entry, `default` among them. Raises SettingsError that shows the entry and what
        could stand there.
        """
        of_challengers = _parsed(challengers, NAMES)
        of_forecasters = _parsed(forecasters, (DEFAULT, *NAMES))
        for scope, names in of_forecasters.items():
            if len(names) != 1:
                raise SettingsError(f"{scope}={','.join(names)}: one forecaster speaks at a time; name one")
        return cls(MappingProxyType(of_challengers), MappingProxyType(of_forecasters))

    def challengers_of(self, subject: str, metric: str) -> tuple[str, ...]:
        """Who challenges the forecaster of this series, given as `str(subject)` and the metric's slug."""
        return _narrowest(self.challengers, subject, metric)

    def forecaster_of(self, subject: str, metric: str) -> str:
        """Who speaks for this series at the beginning."""
        return next(iter(_narrowest(self.forecasters, subject, metric)), DEFAULT)

    def chooses(self, subject: str, metrics: Iterable[Metric]) -> bool:
        """Whether anything but the default forecaster alone is selected for one of these series."""
        return bool(self.challengers or self.forecasters) and any(
            self.challengers_of(subject, metric.slug) or self.forecaster_of(subject, metric.slug) != DEFAULT
            for metric in metrics
        )


def _narrowest(by_scope: Mapping[str, tuple[str, ...]], subject: str, metric: str) -> tuple[str, ...]:
    for scope in (f"{subject}/{metric}", f"{subject}/*", metric, "*"):
        if scope in by_scope:
            return by_scope[scope]
    return ()


def _parsed(text: str, valid: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    by_scope: dict[str, tuple[str, ...]] = {}
    for entry in filter(None, map(str.strip, text.split(";"))):
        # From the right: an id may hold "=" and "/", a name and a slug cannot.
        scope_text, equals, names_text = entry.rpartition("=")
        if not equals:
            raise SettingsError(f"{entry[:120]!r} has no '=': write {_GRAMMAR}")
        scope = _scope(scope_text.strip(), entry)
        if scope in by_scope:
            raise SettingsError(f"{entry[:120]!r}: {scope} was already given; write all of its names in one entry")
        names = [name.strip() for name in names_text.split(",")]
        for name in names:
            checked_name(name, valid)
        if len(set(names)) != len(names):
            raise SettingsError(f"{entry[:120]!r} names a forecaster twice")
        by_scope[scope] = tuple(names)
    return by_scope


def _scope(text: str, entry: str) -> str:
    """A scope in the one way that it is looked up by."""
    subject, _, metric = text.rpartition("/")
    try:
        slug = "*" if metric == "*" else metric_of(metric).slug
        return f"{Subject.parse(subject)}/{slug}" if subject else slug
    except (UnknownMetricError, InvalidSubjectError) as error:
        raise SettingsError(f"{entry[:120]!r}: {error}; write {_GRAMMAR}") from error
