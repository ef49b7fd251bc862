"""What every store of rules promises, and how one book of rules becomes the next.

    HGETALL tidemark:1:rules
        accuracy              {"source":"file","revision":7,"changed":"2026-03-01T10:00:00Z","by":"ann","rule":{...}}
        _revision             7
        _defaults             true, unless the default rules are left out
        _file                 which content of TIDEMARK_RULES was applied last, as a hash
        _change:0000000007    what revision 7 changed, until the audit in PostgreSQL has it

A rule's id never begins with an underscore. A book is changed as a whole, by who knows its revision: a change names the
one it was made from, and is refused when the stored one differs.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Protocol

import orjson

from detection.errors import ConflictError, DependencyError, InvalidRuleError, UnreadableStateError
from detection.hours import iso, parse_ms
from detection.rules.book import DEFAULT_RULES, RuleBook, in_force
from detection.rules.draft import Draft
from detection.rules.rule import Rule, as_fields, rule_of
from state.keys import RULES

Source = Literal["api", "file", "default"]
Action = Literal["created", "changed", "deleted"]

REVISION: Final = b"_revision"
DEFAULTS: Final = b"_defaults"
FILE: Final = b"_file"
CHANGE: Final = b"_change:"

# Of the audit: what is written to the name of a rule when the defaults are left out, or come back.
ALL_DEFAULTS: Final = "_defaults"

# While PostgreSQL is away, changes wait for it in Redis; so many, and then rules can be changed no longer.
_MOST_WAITING: Final = 1000
_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes rules, when, and whether by a file or one by one; a person's name as they give it."""

    by: str
    at_ms: int
    source: Literal["api", "file"] = "api"


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule, and the change that made it what it is; `source` says whether a file's next version may remove it."""

    rule: Rule
    source: Source = "default"
    revision: int = 0
    changed_ms: int = 0
    by: str = ""


@dataclass(frozen=True, slots=True)
class RuleChange:
    """One rule's part of a change, with its fields before and after; the audit is made of these."""

    revision: int
    at_ms: int
    rule_id: str
    action: Action
    by: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class StoredBook:
    """The written rules by id, without the defaults; `file` is the hash of the file that was applied last."""

    revision: int = 0
    rules: Mapping[str, StoredRule] = field(default_factory=dict)
    has_defaults: bool = True
    file: str = ""

    def in_force(self) -> list[StoredRule]:
        """With the defaults that hold beside them, in the order of the ids."""
        found = in_force((one.rule for one in self.rules.values()), has_defaults=self.has_defaults)
        return [self.rules.get(rule.id) or StoredRule(rule) for rule in found]

    def book(self) -> RuleBook:
        """What rules are looked up in."""
        return RuleBook((one.rule for one in self.in_force()), self.revision)

    def find(self, rule_id: str) -> StoredRule | None:
        """A rule that is in force, or written and not enabled."""
        return next((one for one in self.in_force() if one.rule.id == rule_id), None)


@dataclass(frozen=True, slots=True)
class Revision:
    """A change of the book: `book` is what it is to be, one revision on."""

    book: StoredBook
    written: tuple[str, ...]
    removed: tuple[str, ...]
    changes: tuple[RuleChange, ...]


Change = Callable[[StoredBook], Revision | None]


class RuleStore(Protocol):
    """The book of rules, of which there is one; DependencyError when the store does not answer."""

    async def rules(self) -> StoredBook:
        """The whole book; UnreadableStateError that names the field which nobody can have written."""
        ...

    async def revision(self) -> int:
        """Of the book, 0 where nothing was ever written: cheap enough to be asked for every second."""
        ...

    async def revise(self, revision: Revision) -> bool:
        """Write the change and what the audit is to be told, in one step; False where the book was changed since."""
        ...

    async def waiting(self) -> list[RuleChange]:
        """Changes that the audit is not yet known to have, oldest first."""
        ...

    async def audited(self, revisions: Collection[int]) -> None:
        """The audit has these: forget them."""
        ...


async def change_rules(store: RuleStore, change: Change) -> tuple[StoredBook, Revision | None]:
    """The book after the change, and the change, None where there is nothing to change.

    `change` is asked again with the newer book where somebody else was faster, and may then refuse; ConflictError when
    that happens again and again.
    """
    for _ in range(_ATTEMPTS):
        known = await store.rules()
        revision = change(known)
        if revision is None:
            return known, None
        if len({one.revision for one in await store.waiting()}) >= _MOST_WAITING:
            raise DependencyError("postgres", f"{_MOST_WAITING:,} changes of rules wait for their audit")
        if await store.revise(revision):
            return revision.book, revision
    raise ConflictError(f"the rules were changed by somebody else at each of {_ATTEMPTS} attempts")


def put(known: StoredBook, rule: Rule, author: Author) -> Revision | None:
    """One rule, new or in place of the one with its id."""
    return _revision(known, {**_plain(known), rule.id: rule}, author)


def delete(known: StoredBook, rule_id: str, author: Author) -> Revision | None:
    """Without this rule; nothing where it is none that somebody wrote."""
    return _revision(known, {name: rule for name, rule in _plain(known).items() if name != rule_id}, author)


def replace_all(known: StoredBook, draft: Draft, author: Author, *, file: str | None = None) -> Revision | None:
    """What is written in the draft, in place of everything, or, by a file, of what files have written before.

    A file wins for the ids that it names, and leaves alone what was made one by one. `file` is its hash.
    """
    kept = {name: one.rule for name, one in known.rules.items() if author.source == "file" and one.source != "file"}
    rules = kept | {rule.id: rule for rule in draft.rules}
    named = {rule.id for rule in draft.rules} if author.source == "file" else set()
    return _revision(known, rules, author, has_defaults=draft.has_defaults, file=file, adopted=named)


def _plain(known: StoredBook) -> dict[str, Rule]:
    return {name: one.rule for name, one in known.rules.items()}


def _revision(
    known: StoredBook,
    rules: Mapping[str, Rule],
    author: Author,
    *,
    has_defaults: bool | None = None,
    file: str | None = None,
    adopted: Collection[str] = (),
) -> Revision | None:
    """Of `adopted` rules the source becomes the author's even where nothing else of them changes."""
    revision = known.revision + 1
    has_defaults = known.has_defaults if has_defaults is None else has_defaults
    after: dict[str, StoredRule] = {}
    for name, rule in rules.items():
        before = known.rules.get(name)
        if before is not None and before.rule == rule:
            after[name] = replace(before, source=author.source) if name in adopted else before
        else:
            after[name] = StoredRule(rule, author.source, revision, author.at_ms, author.by)
    written = tuple(sorted(name for name, one in after.items() if one != known.rules.get(name)))
    removed = tuple(sorted(known.rules.keys() - after.keys()))
    book = StoredBook(revision, after, has_defaults, known.file if file is None else file)
    if replace(book, revision=known.revision) == known:
        return None
    # As a whole, with the defaults: an error here is better than a worker that cannot read its rules.
    book.book()
    return Revision(book, written, removed, tuple(_changes(known, book, (*written, *removed), author)))


def _changes(known: StoredBook, book: StoredBook, names: Iterable[str], author: Author) -> Iterable[RuleChange]:
    defaults = {rule.id: rule for rule in DEFAULT_RULES}
    for name in sorted(names):
        before, after = known.rules.get(name), book.rules.get(name)
        if before is not None and after is not None and before.rule == after.rule:
            continue
        action: Action = "created" if before is None else "deleted" if after is None else "changed"
        stood = before.rule if before is not None else defaults.get(name) if known.has_defaults else None
        yield RuleChange(
            book.revision,
            author.at_ms,
            name,
            action,
            author.by,
            None if stood is None else as_fields(stood),
            None if after is None else as_fields(after.rule),
        )
    if known.has_defaults != book.has_defaults:
        before_after = ({"defaults": one.has_defaults} for one in (known, book))
        yield RuleChange(book.revision, author.at_ms, ALL_DEFAULTS, "changed", author.by, *before_after)


def encode_revision(revision: Revision) -> dict[bytes, bytes]:
    """The fields that the change writes."""
    book = revision.book
    fields = {name.encode(): _dump_rule(book.rules[name]) for name in revision.written}
    fields[REVISION] = b"%d" % book.revision
    fields[DEFAULTS] = b"true" if book.has_defaults else b"false"
    fields[FILE] = book.file.encode()
    if revision.changes:
        fields[CHANGE + b"%010d" % book.revision] = orjson.dumps([_dump_change(one) for one in revision.changes])
    return fields


def decode_book(fields: Mapping[bytes, bytes]) -> StoredBook:
    """The inverse, over all changes; raises UnreadableStateError that names the field."""
    rules: dict[str, StoredRule] = {}
    for name, data in sorted(fields.items()):
        if not name.startswith(b"_"):
            with _Reading(name):
                one = _load_rule(data)
                if one.rule.id != name.decode():
                    raise ValueError(f"the rule is called {one.rule.id}")
                rules[one.rule.id] = one
    with _Reading(REVISION):
        revision = int(fields.get(REVISION, b"0"))
    with _Reading(DEFAULTS):
        has_defaults = {b"true": True, b"false": False}[fields.get(DEFAULTS, b"true")]
    return StoredBook(revision, rules, has_defaults, fields.get(FILE, b"").decode(errors="replace"))


def decode_changes(fields: Mapping[bytes, bytes]) -> list[RuleChange]:
    """The changes that wait among these fields, oldest first; raises UnreadableStateError."""
    found: list[RuleChange] = []
    for name, data in sorted(fields.items()):
        if name.startswith(CHANGE):
            with _Reading(name):
                found += [_load_change(plain) for plain in orjson.loads(data)]
    return found


class _Reading:
    """Names the field that is damaged."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, KeyError | TypeError | ValueError | InvalidRuleError):
            name = self._name.decode(errors="replace")
            raise UnreadableStateError(f"{RULES} {name}: damaged: {error!r}") from error


def _dump_rule(one: StoredRule) -> bytes:
    about = {"source": one.source, "revision": one.revision, "changed": iso(one.changed_ms), "by": one.by}
    return orjson.dumps({**about, "rule": as_fields(one.rule)})


def _load_rule(data: bytes) -> StoredRule:
    plain = orjson.loads(data)
    source: Source = {"api": "api", "file": "file"}[plain["source"]]  # type: ignore[assignment]  # both are sources
    return StoredRule(
        rule_of(plain["rule"]), source, int(plain["revision"]), parse_ms(plain["changed"]), str(plain["by"])
    )


def _dump_change(one: RuleChange) -> dict[str, Any]:
    return {
        "revision": one.revision,
        "at": iso(one.at_ms),
        "rule": one.rule_id,
        "action": one.action,
        "by": one.by,
        "before": one.before,
        "after": one.after,
    }


def _load_change(plain: dict[str, Any]) -> RuleChange:
    return RuleChange(
        int(plain["revision"]),
        parse_ms(plain["at"]),
        plain["rule"],
        plain["action"],
        plain["by"],
        plain["before"],
        plain["after"],
    )
