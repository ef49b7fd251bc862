"""The rule book: all rules that are in force at one time, and which of them mean a subject or a series.

    what people wrote ── `in_force` ──► with the defaults that they did not replace ── RuleBook ──► rules of a subject

A book never changes; a changed one is a new book with a greater revision.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

from detection.catalogue import AVERAGE_RESPONSE_TIME
from detection.errors import InvalidRuleError
from detection.rules.glob import is_wild, literal_beginning
from detection.rules.rule import CALLS, Floor, Recovery, Rule
from detection.subject import Kind, Subject

MAX_RULES: Final = 1000

# What holds where nobody wrote any rule: what is learned is watched. A written rule of the same id takes its place.
DEFAULT_RULES: Final = (
    Rule(
        id="biller-latency",
        description="Calls of a biller take longer than was learned to be normal.",
        kind="biller",
        metric=AVERAGE_RESPONSE_TIME.slug,
        condition="outside threshold",
        floor=Floor(absolute=20.0, relative=0.3),
        recovery=Recovery(n=5),
    ),
    Rule(
        id="biller-failures",
        description="More calls of a biller fail, or time out, than was learned to be normal.",
        kind="biller",
        metric="*-rate",
        condition="outside threshold",
        floor=Floor(absolute=5.0, relative=1.0),
        recovery=Recovery(n=5),
    ),
    Rule(
        id="biller-silent",
        description="A biller has fewer calls than were learned to be normal, or none.",
        kind="biller",
        metric=CALLS,
        condition="outside threshold",
        recovery=Recovery(n=5),
    ),
    Rule(
        id="model-threshold",
        description="A metric of a model is, over an hour, beyond what was learned to be normal.",
        kind="model",
        metric="*",
        condition="outside threshold",
    ),
)

# What bounds the memory of what was found once: some hundred bytes a subject, and only where rules name subjects.
_REMEMBERED: Final = 100_000

_KINDS: Final[tuple[Kind, ...]] = ("biller", "model")


def in_force(written: Iterable[Rule], *, has_defaults: bool = True) -> tuple[Rule, ...]:
    """The written rules, and the defaults among which none has the id of a written one, in the order of their ids."""
    rules = tuple(written)
    ids = {rule.id for rule in rules}
    defaults = [rule for rule in DEFAULT_RULES if has_defaults and rule.id not in ids]
    return tuple(sorted((*rules, *defaults), key=lambda rule: rule.id))


def check_book(rules: Sequence[Rule]) -> None:
    """Raise InvalidRuleError for what is wrong with the rules as a whole: too many of them, or an id twice."""
    if len(rules) > MAX_RULES:
        raise InvalidRuleError(f"{len(rules):,} rules, {MAX_RULES:,} are the most")
    seen: set[str] = set()
    for rule in rules:
        if rule.id in seen:
            raise InvalidRuleError(f"two rules are called {rule.id}")
        seen.add(rule.id)


class RuleBook:
    """Rules by what they mean; those that are not enabled mean nothing.

    Without rules that name subjects an answer is one look into a dict; with them it is remembered for some hundred
    thousand subjects, and finding it takes one comparison for each rule whose `subject` begins with a wildcard, and
    for each that begins as the subject does.
    """

    def __init__(self, rules: Iterable[Rule], revision: int = 0) -> None:
        """Raises InvalidRuleError for two rules of one id, and for too many of them."""
        self.rules: Final = tuple(sorted(rules, key=lambda rule: rule.id))
        self.revision: Final = revision
        check_book(self.rules)
        # Subjects that the same rules mean share one object: what it remembers of metrics is then remembered once.
        self._selections: dict[tuple[str, ...], _Selection] = {}
        enabled = [rule for rule in self.rules if rule.is_enabled]
        self._of_all = {kind: [rule for rule in enabled if _means_all(rule, kind)] for kind in _KINDS}
        self._wild = {
            kind: _ByBeginning(
                rule
                for rule in enabled
                if rule.kind in {None, kind} and is_wild(rule.subject) and not _means_all(rule, kind)
            )
            for kind in _KINDS
        }
        self._by_id: dict[str, list[Rule]] = {}
        for rule in enabled:
            if not is_wild(rule.subject):
                self._by_id.setdefault(rule.subject, []).append(rule)
        self._without_names = {kind: self._selection(self._of_all[kind]) for kind in _KINDS}
        self._found = lru_cache(maxsize=_REMEMBERED)(self._find)

    def __len__(self) -> int:
        return len(self.rules)

    def for_subject(self, subject: Subject) -> tuple[Rule, ...]:
        """The enabled rules that can mean any series of the subject, in the order of their ids."""
        return self._of(subject).rules

    def for_series(self, subject: Subject, slug: str) -> tuple[Rule, ...]:
        """The enabled rules that mean this series, in the order of their ids."""
        return self._of(subject).for_metric(slug)

    def rule(self, rule_id: str) -> Rule | None:
        """The rule of this id, enabled or not."""
        return next((rule for rule in self.rules if rule.id == rule_id), None)

    def _of(self, subject: Subject) -> "_Selection":
        if not self._wild[subject.kind] and subject.id not in self._by_id:
            return self._without_names[subject.kind]
        return self._found(subject)

    def _find(self, subject: Subject) -> "_Selection":
        named = [rule for rule in self._by_id.get(subject.id, ()) if rule.selects_subject(subject)]
        wild = [rule for rule in self._wild[subject.kind].of(subject.id) if rule.selects_subject(subject)]
        if not named and not wild:
            return self._without_names[subject.kind]
        return self._selection([*self._of_all[subject.kind], *named, *wild])

    def _selection(self, rules: Iterable[Rule]) -> "_Selection":
        chosen = tuple(sorted(rules, key=lambda rule: rule.id))
        ids = tuple(rule.id for rule in chosen)
        if len(self._selections) >= _REMEMBERED:
            self._selections.clear()
        return self._selections.setdefault(ids, _Selection(chosen))


class _Selection:
    """The rules of some subjects, and those of them that mean a metric."""

    __slots__ = ("_by_slug", "rules")

    # Every gauge of an event is a metric, and events may come with ever new ones.
    _MOST_SLUGS: Final = 1024

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules
        self._by_slug: dict[str, tuple[Rule, ...]] = {}

    def for_metric(self, slug: str) -> tuple[Rule, ...]:
        found = self._by_slug.get(slug)
        if found is None:
            if len(self._by_slug) >= self._MOST_SLUGS:
                self._by_slug.clear()
            found = tuple(rule for rule in self.rules if rule.selects_metric(slug))
            self._by_slug[slug] = found
        return found


class _ByBeginning:
    """Rules by the letters of their `subject` before its first wildcard."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules: dict[str, list[Rule]] = {}
        for rule in rules:
            self._rules.setdefault(literal_beginning(rule.subject), []).append(rule)
        self._lengths = sorted({len(beginning) for beginning in self._rules})

    def __bool__(self) -> bool:
        return bool(self._rules)

    def of(self, text: str) -> Iterator[Rule]:
        """Those that can fit the text."""
        for length in self._lengths:
            # A text that is shorter gives itself again and again.
            if length <= len(text):
                yield from self._rules.get(text[:length], ())


def _means_all(rule: Rule, kind: Kind) -> bool:
    return rule.kind in {None, kind} and rule.subject == "*"
