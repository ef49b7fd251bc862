"""YAML as plain values that remember where they stood: safe, bounded, and by the core schema of YAML 1.2.

Only `true` and `false` are truth values, and 22:00 is a text: version 1.1, which the library reads by itself, makes a
truth value of `no` and the number 1320 of 22:00. Tags, merge keys and a second document are refused.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from detection.errors import InvalidRuleError, TooLargeError

MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 16
# An alias counts as all that it stands for: nine lines of them could stand for a thousand million values.
MAX_VALUES: Final = 100_000

# Written in C where the wheel has it: ten times as quick.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INTEGER: Final = re.compile(r"[-+]?[0-9]+", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_WORDS: Final[dict[str, Any]] = {
    "": None,
    **dict.fromkeys(("~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **{sign + word: float(sign + "inf") for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
}
# A whole number of ten thousand digits would take the interpreter long, and is one of nothing.
_LONGEST_NUMBER: Final = 100


@dataclass(slots=True)
class Node:
    """A value, and where it began: lines and columns from 1. `size` counts the values in it, itself among them."""

    value: Any
    line: int
    column: int
    size: int = 1
    parts: dict[str | int, "Node"] = field(default_factory=dict)
    names: dict[str, tuple[int, int]] = field(default_factory=dict)

    def place(self, path: tuple[str | int, ...]) -> tuple[int, int]:
        """Line and column of the field at the end of this way, or of what comes nearest to it."""
        found, place = self, (self.line, self.column)
        for part in path:
            inner = found.parts.get(part)
            if inner is None:
                return place
            place = (inner.line, inner.column) if isinstance(part, int) else found.names[part]
            found = inner
        return place


def parse(data: bytes, *, name: str) -> Node:
    """The one document in the text; InvalidRuleError or TooLargeError that begin with `name:line:column`."""
    if len(data) > MAX_BYTES:
        raise TooLargeError(f"{name}: {len(data):,} bytes, {MAX_BYTES:,} are the most")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidRuleError(f"{name}:{line}: not UTF-8") from error
    try:
        return _Tree(name, yaml.parse(text, Loader=_LOADER)).build()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f":{mark.line + 1}:{mark.column + 1}"
        raise InvalidRuleError(f"{name}{place}: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        at = getattr(error, "position", None)
        place = "" if at is None else f":{text.count(chr(10), 0, at) + 1}"
        raise InvalidRuleError(f"{name}{place}: {getattr(error, 'reason', error)}") from error


class _Tree:
    """Built from the parser's events; what is too deep is refused before it is gone into, so recursion is bounded.

    The events have no types of their own worth the name: whatever may be absent by them is there in each that is used.
    """

    def __init__(self, name: str, events: Iterator[Any]) -> None:
        self._name = name
        self._events = events
        self._anchors: dict[str, Node] = {}
        self._n_values = 0

    def build(self) -> Node:
        root: Node | None = None
        for event in self._events:
            if isinstance(event, NodeEvent):
                if root is not None:
                    raise self._refused(event, "one document is taken, and this is the second")
                root = self._node(event, depth=0)
        if root is None:
            raise InvalidRuleError(f"{self._name}:1:1: nothing is in it")
        return root

    def _node(self, event: Any, *, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._refused(event, f"more than {MAX_DEPTH} levels deep")
        if isinstance(event, AliasEvent):
            return self._alias(event)
        # An explicit `!` says what the quotes say.
        if event.tag not in {None, "!"}:
            raise self._refused(event, f"the tag {event.tag} is not taken")
        self._count(event, 1)
        node = Node(None, event.start_mark.line + 1, event.start_mark.column + 1)
        match event:
            case SequenceStartEvent():
                self._fill_list(node, depth)
            case MappingStartEvent():
                self._fill_fields(node, depth)
            case ScalarEvent():
                node.value = self._scalar(event)
            case _:
                pass
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any) -> Node:
        known = self._anchors.get(event.anchor)
        if known is None:
            raise self._refused(event, f"*{event.anchor} stands for nothing that is complete before it")
        self._count(event, known.size)
        return known

    def _fill_list(self, node: Node, depth: int) -> None:
        node.value = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            item = self._node(event, depth=depth + 1)
            node.parts[len(node.value)] = item
            node.value.append(item.value)
            node.size += item.size

    def _fill_fields(self, node: Node, depth: int) -> None:
        node.value = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self._node(event, depth=depth + 1)
            name = key.value
            if not isinstance(name, str):
                raise self._refused(event, "the name of a field is a text: put it in quotes")
            if name == "<<":
                raise self._refused(event, "merge keys are not taken: name each field, an alias can be its value")
            if name in node.value:
                raise self._refused(event, f"`{name[:80]}` is here already, in line {node.names[name][0]}")
            item = self._node(next(self._events), depth=depth + 1)
            node.parts[name], node.names[name] = item, (key.line, key.column)
            node.value[name] = item.value
            node.size += item.size

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if not event.implicit[0]:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if len(text) > _LONGEST_NUMBER:
            return text
        if _INTEGER.fullmatch(text):
            return int(text)
        return float(text) if _FLOAT.fullmatch(text) else text

    def _count(self, event: Any, size: int) -> None:
        self._n_values += size
        if self._n_values > MAX_VALUES:
            raise self._refused(event, f"more than {MAX_VALUES:,} values, those that aliases stand for among them")

    def _refused(self, event: Any, reason: str) -> InvalidRuleError:
        mark = event.start_mark
        return InvalidRuleError(f"{self._name}:{mark.line + 1}:{mark.column + 1}: {reason}")
