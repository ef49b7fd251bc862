"""Rules as people write them, in YAML: a file of them or a single one; every fault with its line and column.

rules.yaml:14:5: window: 3 of 2 points can never be
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeVar

from detection.errors import InputError, InvalidRuleError, SettingsError
from detection.rules.draft import Draft, place_of, read_draft, read_rule
from detection.rules.rule import Rule
from state.rule_store import Author, Revision, RuleStore, StoredBook, change_rules, replace_all
from state.yaml_tree import MAX_BYTES, parse

Read = TypeVar("Read")

_SETTING: Final = "TIDEMARK_RULES"


@dataclass(frozen=True, slots=True)
class RuleFile:
    """What a file says, its content, and by what a content is known again."""

    draft: Draft
    data: bytes
    digest: str


def load_rules(path: Path) -> RuleFile:
    """The rules of the file; InputError where it cannot be read, InvalidRuleError with all faults."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    return RuleFile(rules_in(data, name=path.name), data, sha256(data).hexdigest())


def rules_of_setting(path: Path | None) -> RuleFile | None:
    """The file that every worker begins with, if there is one; SettingsError for one that cannot be used."""
    if path is None:
        return None
    try:
        return load_rules(path)
    except InputError as error:
        raise SettingsError(f"{_SETTING}: {error}") from error


async def apply_once(store: RuleStore, file: RuleFile, *, at_ms: int) -> Revision | None:
    """Make the file's rules those of the store, unless the same content was the last that was made so.

    A worker that starts again does not undo what was changed since, one by one.
    """

    def change(book: StoredBook) -> Revision | None:
        if book.file == file.digest:
            return None
        return replace_all(book, file.draft, Author(_SETTING, at_ms, "file"), file=file.digest)

    _, revision = await change_rules(store, change)
    return revision


def rules_in(data: bytes, *, name: str, read: Callable[[Any], Draft] = read_draft) -> Draft:
    """The rules in the text, which `name` stands for in messages; `read` makes them of plain values."""
    return _located(data, name, read)


def rule_in(data: bytes, *, name: str, read: Callable[[Any], Rule] = read_rule) -> Rule:
    """The single rule in the text."""
    return _located(data, name, read)


def _located(data: bytes, name: str, read: Callable[[Any], Read]) -> Read:
    tree = parse(data, name=name)
    try:
        return read(tree.value)
    except InvalidRuleError as error:
        if not error.faults:
            raise InvalidRuleError(f"{name}: {error}") from error
        found = sorted((tree.place(path), path, reason) for path, reason in error.faults)
        lines = [f"{name}:{line}:{column}: {_said(path, reason)}" for (line, column), path, reason in found]
        faults = [(path, f"line {line}, column {column}: {reason}") for (line, column), path, reason in found]
        raise InvalidRuleError("\n".join(lines), faults) from error


def _said(path: tuple[str | int, ...], reason: str) -> str:
    """Within its rule: the line says which one it is."""
    place = place_of(path[2:] if path[:1] == ("rules",) and len(path) > 1 else path)
    # What is no field at all is named by the reason.
    return reason if not place or reason.startswith("`" + str(path[-1])) else f"{place}: {reason}"
