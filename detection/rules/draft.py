"""What somebody has written as rules, read from plain values with everything that is wrong named at once.

defaults: true        # whether the default rules hold beside these
rules: [{id: ..., metric: ..., condition: ...}, ...]
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec

from detection.errors import InvalidRuleError
from detection.events import LabelName
from detection.rules.book import MAX_RULES, check_book, in_force
from detection.rules.rule import ContradictionError, Glob, Rule, Slug

Path = tuple[str | int, ...]
Fault = tuple[Path, str]

_DRAFT: Final = ("rules", "defaults")
_REQUIRED: Final = frozenset(field.name for field in msgspec.structs.fields(Rule) if field.required)
_DECISIVE: Final = frozenset({"kind", "boundary"})

_SLUG_RULE: Final = "1 to 63 lower-case letters, digits or . _ - that begin with a letter or digit"
_LABEL_RULE: Final = "1 to 64 letters, digits or . _ - that begin with a letter or digit"
_KINDS: Final = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "fields",
    "null": "nothing",
}


@dataclass(frozen=True, slots=True)
class Draft:
    """Rules as somebody wrote them, in their order, and whether the defaults hold beside them."""

    rules: tuple[Rule, ...] = ()
    has_defaults: bool = True


def read_draft(plain: Any) -> Draft:
    """The rules that these plain values are; InvalidRuleError with every fault that was found."""
    faults: list[Fault] = []
    if not isinstance(plain, Mapping):
        raise _refused([((), f"`rules:` with a list of rules is needed, not {_kind(plain)}")])
    faults += _unknown(plain, _DRAFT, (), of="the file")
    has_defaults = plain.get("defaults", True)
    if not isinstance(has_defaults, bool):
        faults.append((("defaults",), f"true or false is needed, not {_kind(has_defaults)}"))
        has_defaults = True
    given = plain.get("rules", [])
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise _refused([*faults, (("rules",), f"a list of rules is needed, not {_kind(given)}")])
    if len(given) > MAX_RULES:
        raise _refused([*faults, (("rules",), f"{len(given):,} rules, {MAX_RULES:,} are the most")])
    rules: list[Rule] = []
    seen: dict[str, int] = {}
    for at, fields in enumerate(given):
        rule, wrong = _read(fields, ("rules", at))
        faults += wrong
        rule_id = fields.get("id") if isinstance(fields, Mapping) else None
        if isinstance(rule_id, str) and seen.setdefault(rule_id, at) != at:
            faults.append((("rules", at, "id"), f"{rule_id} is the id of an earlier rule"))
        if rule is not None:
            rules.append(rule)
    if faults:
        raise _refused(faults)
    draft = Draft(tuple(rules), has_defaults)
    check_book(in_force(draft.rules, has_defaults=has_defaults))
    return draft


def read_rule(plain: Any) -> Rule:
    """The rule that these plain values are; InvalidRuleError with every fault that was found."""
    rule, faults = _read(plain, ())
    if rule is None:
        raise _refused(faults)
    return rule


def place_of(path: Path) -> str:
    """The way to a field as people write it.

    >>> place_of(("rules", 3, "window", "n"))
    'rules[3].window.n'
    """
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _refused(faults: list[Fault]) -> InvalidRuleError:
    text = "; ".join(f"{place_of(path)}: {reason}" if path else reason for path, reason in faults)
    return InvalidRuleError(text, faults)


def _read(plain: Any, at: Path) -> tuple[Rule | None, list[Fault]]:
    faults = list(_faults_of_struct(Rule, plain, at))
    if faults and not isinstance(plain, Mapping):
        return None, faults
    # What is wrong between the others is said at once, unless it may come from what is wrong itself.
    faulty = {path[len(at)] for path, _ in faults if len(path) > len(at)}
    if faulty & _DECISIVE or any(name not in plain or name in faulty for name in _REQUIRED):
        return None, faults
    try:
        rule = msgspec.convert({name: plain[name] for name in plain if name not in faulty}, Rule)
    except msgspec.ValidationError as error:
        cause = error.__cause__
        if isinstance(cause, ContradictionError):
            faults += [((*at, field), reason) for field, reason in cause.found]
        elif not faults:
            faults.append((at, str(error)))
        return None, faults
    return (None if faults else rule), faults


def _faults_of_struct(kind: type[msgspec.Struct], plain: Any, at: Path) -> Iterator[Fault]:
    """Field by field: the library itself stops at the first one."""
    name = kind.__name__.lower()
    if not isinstance(plain, Mapping):
        yield at, f"the fields of a {name} are needed, not {_kind(plain)}"
        return
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    yield from _unknown(plain, fields, at, of=f"a {name}")
    for field in fields.values():
        if field.name in plain:
            yield from _faults(field.type, plain[field.name], (*at, field.name))
        elif field.required:
            yield at, f"`{field.name}` is missing"


def _faults(kind: Any, plain: Any, at: Path) -> Iterator[Fault]:
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        found = list(_faults_of_struct(bare, plain, at))
        yield from found
        if found:
            return
    elif get_origin(bare) in {tuple, dict} and isinstance(plain, list | dict):
        found = list(_faults_of_items(bare, plain, at))
        yield from found
        if found:
            return
    try:
        msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        yield at, _said(kind, plain, error)


def _faults_of_items(kind: Any, plain: list[Any] | dict[Any, Any], at: Path) -> Iterator[Fault]:
    args = get_args(kind)
    if isinstance(plain, dict):
        for name, value in plain.items():
            if get_origin(kind) is dict:
                yield from _faults(args[0], name, (*at, str(name)))
                yield from _faults(args[1], value, (*at, str(name)))
    elif get_origin(kind) is tuple:
        for place, value in enumerate(plain):
            yield from _faults(args[0], value, (*at, place))


def _said(kind: Any, plain: Any, error: msgspec.ValidationError) -> str:
    """The library's message in our words."""
    if isinstance(error.__cause__, ValueError):
        return str(error.__cause__)
    if isinstance(plain, str):
        if kind is Slug or kind is LabelName:
            return f"{plain[:80]!r}: {_SLUG_RULE if kind is Slug else _LABEL_RULE}"
        if kind is Glob:
            return f"{plain[:80]!r}: 1 to 256 characters are needed"
        choices = _choices(kind)
        if choices:
            return f"{plain[:80]!r} is none of {', '.join(choices)}{_near(plain, choices)}"
    text = re.sub(r" - at `[^`]*`$", "", str(error))
    return re.sub(r"`([^`]*)`", lambda found: _in_words(found[1]), text).replace("Expected", "expected")


def _in_words(types: str) -> str:
    return " or ".join(_KINDS.get(one, one) for one in types.split(" | "))


def _choices(kind: Any) -> list[str]:
    match get_origin(kind):
        case origin if origin is Annotated:
            return _choices(get_args(kind)[0])
        case origin if origin is Literal:
            return [str(one) for one in get_args(kind)]
        case origin if origin in {Union, UnionType}:
            found = [choice for one in get_args(kind) for choice in _choices(one)]
            return [*(["a number"] if found and float in get_args(kind) else []), *found]
        case _:
            return []


def _unknown(plain: Mapping[Any, Any], known: Iterable[str], at: Path, *, of: str) -> Iterator[Fault]:
    names = list(known)
    for name in plain:
        if name not in names:
            text = str(name)
            yield (*at, text), f"`{text[:80]}` is no field of {of}{_near(text, names)}"


def _near(text: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(text.lower(), known, n=1, cutoff=0.5)
    return f", did you mean `{near[0]}`?" if near else ""


def _kind(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case str():
            return "a text"
        case int():
            return "a whole number"
        case float():
            return "a number"
        case Mapping():
            return "fields"
        case _:
            return "a list"
