"""`/rules`: what is reason to tell somebody; read, changed one by one or as a whole, and audited."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, NoReturn

import orjson
import structlog
from fastapi import APIRouter, Depends, Header, Query, Request, Response

from api import openapi, rule_schemas
from api.access import GuardedRoute
from api.connections import Connections, connections
from api.problems import (
    DEFAULT_RULE,
    INVALID_REQUEST,
    PRECONDITION_FAILED,
    UNKNOWN_RULE,
    Fault,
    RefusedError,
)
from api.rule_bodies import read_book_body, read_rule_body
from api.subjects import TEXT_RULE
from detection.hours import iso
from detection.rules.rule import as_fields
from state.rule_audit import Place, relay_changes
from state.rule_store import (
    Author,
    Revision,
    RuleChange,
    StoredBook,
    StoredRule,
    change_rules,
    delete,
    put,
    replace_all,
)

router = APIRouter(tags=["rules"], route_class=GuardedRoute)
log = structlog.get_logger()

Parts = Annotated[Connections, Depends(connections)]
By = Annotated[str, Query(max_length=128, description="Who changes it, for the audit.", examples=["ann"])]
IfMatch = Annotated[str, Header(description="ETag that what is stored must still have.")]
IfNoneMatch = Annotated[str, Header(description="ETag that is known, or `*`.")]

_MOST: Final = 1000
_CHANGES: Final = (409, 412, 413, 415, 422, 503)


@router.get(
    "/rules",
    summary="All rules",
    response_class=Response,
    responses=openapi.responses(
        rule_schemas.KnownRules, {"revision": 7, "defaults": True, "rules": [rule_schemas.KNOWN]}, 422, 503
    )
    | {304: {"description": "The book is the one whose ETag was sent as If-None-Match."}},
)
async def list_rules(parts: Parts, if_none_match: IfNoneMatch = "") -> Response:
    """Those that are in force, the defaults among them, in the order of their ids. The ETag is the book's revision."""
    book = await parts.rules.rules()
    etag = _etag(book.revision)
    if etag in _etags(if_none_match):
        return Response(status_code=304, headers={"ETag": etag})
    answer = {
        "revision": book.revision,
        "defaults": book.has_defaults,
        "rules": [_known(one) for one in book.in_force()],
    }
    return _answer(answer, etag=etag)


@router.get(
    "/rules/audit",
    summary="Who changed which rule",
    response_class=Response,
    responses=openapi.responses(
        rule_schemas.AuditPage, {"changes": [rule_schemas.AUDITED], "next_cursor": None}, 422, 503
    ),
)
async def read_audit(
    parts: Parts,
    rule: Annotated[str | None, Query(max_length=64, pattern=TEXT_RULE, description="Id of one rule only.")] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST, description="Most changes of one page.")] = 100,
    cursor: Annotated[str, Query(description="`next_cursor` of the page before.", max_length=120)] = "",
) -> Response:
    """The newest first. `_defaults` in place of a rule: the default rules were left out, or came back."""
    before = _read_cursor(cursor)
    await relay_changes(parts.rules, parts.rule_audit)
    found = await parts.rule_audit.read(rule_id=rule, before=before, limit=limit)
    last = found[-1] if len(found) == limit else None
    following = None if last is None else f"{last.at_ms}/{last.rule_id}/{last.revision}"
    return _answer({"changes": [_audited(one) for one in found], "next_cursor": following})


@router.get(
    "/rules/{rule_id}",
    summary="One rule",
    response_class=Response,
    responses=openapi.responses(rule_schemas.KnownRule, rule_schemas.KNOWN, 404, 422, 503)
    | {304: {"description": "The rule is the one whose ETag was sent as If-None-Match."}},
)
async def read_rule(parts: Parts, rule_id: str, if_none_match: IfNoneMatch = "") -> Response:
    """With the revision of its last change as ETag."""
    known = (await parts.rules.rules()).find(rule_id)
    if known is None:
        _unknown(rule_id)
    etag = _etag(known.revision)
    if etag in _etags(if_none_match):
        return Response(status_code=304, headers={"ETag": etag})
    return _answer(_known(known), etag=etag)


@router.put(
    "/rules/{rule_id}",
    summary="Write a rule",
    response_class=Response,
    responses=openapi.responses(rule_schemas.KnownRule, rule_schemas.KNOWN, *_CHANGES)
    | {201: openapi.answer(rule_schemas.KnownRule, rule_schemas.KNOWN, description="There was none with this id.")},
    openapi_extra=rule_schemas.rule_body(),
)
async def put_rule(
    request: Request, parts: Parts, rule_id: str, by: By = "", if_match: IfMatch = "", if_none_match: IfNoneMatch = ""
) -> Response:
    """New, or in place of the one with this id, a default among them. The same again changes nothing.

    With `If-None-Match: *` only a new one, with `If-Match` only in place of the one that has this ETag.
    """
    rule = await read_rule_body(request, rule_id=rule_id)
    if rule.id != rule_id:
        fault = Fault("id", f"the address says {rule_id}, the rule {rule.id}")
        raise RefusedError(INVALID_REQUEST, f"{fault.field}: {fault.reason}", [fault])
    is_new = False

    def change(book: StoredBook) -> Revision | None:
        nonlocal is_new
        _expect(book.find(rule_id), if_match=if_match, if_none_match=if_none_match)
        is_new = book.find(rule_id) is None
        return put(book, rule, _author(parts, by))

    book, _ = await _changed(parts, change)
    known = book.rules[rule_id]
    return _answer(_known(known), etag=_etag(known.revision), status=201 if is_new else 200)


@router.delete(
    "/rules/{rule_id}",
    summary="Delete a rule",
    status_code=204,
    response_class=Response,
    responses=openapi.responses(rule_schemas.KnownRule, rule_schemas.KNOWN, 404, 409, 412, 422, 503) | {200: {}},
)
async def delete_rule(parts: Parts, rule_id: str, by: By = "", if_match: IfMatch = "") -> Response:
    """Its open alerts are resolved. Where it took the place of a default, that one holds again."""

    def change(book: StoredBook) -> Revision | None:
        known = book.find(rule_id)
        if known is None:
            _unknown(rule_id)
        if known.source == "default":
            raise RefusedError(
                DEFAULT_RULE, f"{rule_id} is a default: PUT one with its id and `is_enabled: false` in its place"
            )
        _expect(known, if_match=if_match, if_none_match="")
        return delete(book, rule_id, _author(parts, by))

    await _changed(parts, change)
    return Response(status_code=204)


@router.put(
    "/rules",
    summary="Write the whole book",
    response_class=Response,
    responses=openapi.responses(rule_schemas.BookChange, rule_schemas.CHANGED, *_CHANGES),
    openapi_extra=rule_schemas.book_body(),
)
async def put_book(
    request: Request,
    parts: Parts,
    by: By = "",
    source: Annotated[
        Literal["api", "file"],
        Query(description="`file`: only in place of what files have written, and of rules that this one names."),
    ] = "api",
    dry_run: Annotated[bool, Query(description="Say what would change, and change nothing.")] = False,  # noqa: FBT002 (a query parameter)
    if_match: IfMatch = "",
) -> Response:
    """In place of all rules that anybody wrote, all or nothing. The same again changes nothing."""
    draft = await read_book_body(request)
    author = Author(by, parts.wall_ms(), source)

    def change(book: StoredBook) -> Revision | None:
        if if_match and _etag(book.revision) not in _etags(if_match):
            raise RefusedError(PRECONDITION_FAILED, f"the book has revision {book.revision}, not {if_match}")
        return replace_all(book, draft, author)

    if dry_run:
        book = await parts.rules.rules()
        revision = change(book)
    else:
        book, revision = await _changed(parts, change)
    answer = _book_change(book, revision, is_applied=not dry_run)
    return _answer(answer, etag=_etag(book.revision))


async def _changed(
    parts: Connections, change: Callable[[StoredBook], Revision | None]
) -> tuple[StoredBook, Revision | None]:
    book, revision = await change_rules(parts.rules, change)
    if revision is not None:
        log.info("rules.changed", revision=book.revision, rules=[one.rule_id for one in revision.changes][:20])
    return book, revision


def _author(parts: Connections, by: str) -> Author:
    return Author(by, parts.wall_ms())


def _expect(known: StoredRule | None, *, if_match: str, if_none_match: str) -> None:
    """Raise RefusedError where the rule is not the one that is expected."""
    etag = None if known is None else _etag(known.revision)
    if if_match and (etag is None or not {etag, "*"} & _etags(if_match)):
        stored = "there is none" if etag is None else f"it has the ETag {etag}"
        raise RefusedError(PRECONDITION_FAILED, f"the rule was to match {if_match}, and {stored}")
    if if_none_match and etag is not None and {etag, "*"} & _etags(if_none_match):
        raise RefusedError(PRECONDITION_FAILED, f"there is such a rule already, with the ETag {etag}")


def _unknown(rule_id: str) -> NoReturn:
    raise RefusedError(UNKNOWN_RULE, f"no rule is called {rule_id[:80]!r}; GET /rules lists them")


def _known(one: StoredRule) -> dict[str, Any]:
    return {
        "source": one.source,
        "revision": one.revision,
        "changed": iso(one.changed_ms) if one.revision else None,
        "by": one.by,
        "rule": as_fields(one.rule),
    }


def _audited(one: RuleChange) -> dict[str, Any]:
    return {
        "at": iso(one.at_ms),
        "revision": one.revision,
        "rule": one.rule_id,
        "action": one.action,
        "by": one.by,
        "before": one.before,
        "after": one.after,
    }


def _book_change(book: StoredBook, revision: Revision | None, *, is_applied: bool) -> dict[str, Any]:
    after = book if revision is None else revision.book
    changes = () if revision is None else revision.changes
    by_action = {
        action: [one.rule_id for one in changes if one.action == action] for action in ("created", "changed", "deleted")
    }
    untouched = len(after.rules) - len(by_action["created"]) - sum(one in after.rules for one in by_action["changed"])
    return {"revision": after.revision, "is_applied": is_applied, **by_action, "unchanged": untouched}


def _etag(revision: int) -> str:
    return f'"{revision}"'


def _etags(header: str) -> set[str]:
    return {one.strip().removeprefix("W/") for one in header.split(",")}


def _read_cursor(text: str) -> Place | None:
    if not text:
        return None
    try:
        at_ms, rule_id, revision = text.split("/")
        # A time that PostgreSQL has none for is no cursor of ours either.
        datetime.fromtimestamp(int(at_ms) / 1000, UTC)
        return int(at_ms), rule_id, int(revision)
    except (ValueError, OverflowError, OSError) as error:
        fault = Fault("cursor", "this is no next_cursor")
        raise RefusedError(INVALID_REQUEST, f"{fault.field}: {fault.reason}", [fault]) from error


def _answer(answer: object, *, etag: str = "", status: int = 200) -> Response:
    headers = {"ETag": etag} if etag else None
    return Response(orjson.dumps(answer), status_code=status, media_type="application/json", headers=headers)
