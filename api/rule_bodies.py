"""Rules in a request's body: JSON, or YAML with the line and column of every fault."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar

import orjson
from fastapi import Request

from api.bodies import read_body
from api.problems import INVALID_REQUEST, MEDIA_REFUSED, RefusedError
from detection.rules.draft import Draft, read_draft, read_rule
from detection.rules.rule import Rule
from state.rule_files import rule_in, rules_in
from state.yaml_tree import MAX_BYTES

Read = TypeVar("Read")

_YAML: Final = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"})
# Unless told otherwise curl says the last one, whatever it sends.
_EITHER: Final = frozenset({"", "application/x-www-form-urlencoded"})
_NAME: Final = "body"


async def read_rule_body(request: Request, *, rule_id: str) -> Rule:
    """The rule; its `id` may be left out, and must not be another one."""

    def named(plain: Any) -> Rule:
        return read_rule({"id": rule_id, **plain} if isinstance(plain, dict) else plain)

    return await _read(request, named, lambda data: rule_in(data, name=_NAME, read=named))


async def read_book_body(request: Request) -> Draft:
    """The rules of a whole book."""
    return await _read(request, read_draft, lambda data: rules_in(data, name=_NAME))


async def read_any_body(request: Request) -> Draft:
    """The rules of a whole book, or a single one."""

    def either(plain: Any) -> Draft:
        is_rule = isinstance(plain, dict) and "condition" in plain
        return Draft((read_rule(plain),)) if is_rule else read_draft(plain)

    return await _read(request, either, lambda data: rules_in(data, name=_NAME, read=either))


async def _read(request: Request, of_json: Callable[[Any], Read], of_yaml: Callable[[bytes], Read]) -> Read:
    said = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if said not in _YAML and said not in _EITHER and said != "application/json":
        raise RefusedError(
            MEDIA_REFUSED,
            f"Content-Type {said[:80]!r} is not taken here; taken are application/json, application/yaml",
        )
    data = await read_body(request, limit=MAX_BYTES)
    if said not in _YAML:
        try:
            plain = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            if said not in _EITHER:
                raise RefusedError(INVALID_REQUEST, f"body: {error}") from error
        else:
            return await asyncio.to_thread(of_json, plain)
    # A large text takes a second or two.
    return await asyncio.to_thread(of_yaml, data)
