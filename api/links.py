"""How one answer leads to the next request, as OpenAPI links: an id that was answered, a page's cursor."""

from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Link:
    """From what `source` answered with `statuses` to a request of `target`; both are a method and a path.

    `parameters` and `body` say what is sent, by OpenAPI's runtime expressions.
    """

    name: str
    source: tuple[str, str]
    target: tuple[str, str]
    parameters: dict[str, str]
    statuses: tuple[str, ...] = ("200",)
    body: dict[str, str] | None = None


def _next_page(path: str) -> Link:
    return Link("NextPage", ("get", path), ("get", path), {"cursor": "$response.body#/next_cursor"})


def _exclusions(path: str, *names: str) -> tuple[Link, Link]:
    subject = {name: f"$request.path.{name}" for name in names}
    one, made = f"{path}/{{exclusionId}}", ("200", "201")
    return (
        Link("TakeBack", ("post", path), ("delete", one), subject | {"exclusionId": "$response.body#/id"}, made),
        Link("ListExclusions", ("post", path), ("get", path), subject, made),
    )


_RULE: Final = {"rule_id": "$request.path.rule_id"}
_FIRST_ALERT: Final = "$response.body#/alerts/0/id"

LINKS: Final = (
    *map(_next_page, ("/thresholds", "/overview", "/rules/audit", "/alerts/history", "/history", "/coverage")),
    *_exclusions("/billers/{billerId}/exclusions", "billerId"),
    *_exclusions("/models/{name}/{version}/exclusions", "name", "version"),
    Link("ReadRule", ("put", "/rules/{rule_id}"), ("get", "/rules/{rule_id}"), _RULE, ("200", "201")),
    Link("DeleteRule", ("put", "/rules/{rule_id}"), ("delete", "/rules/{rule_id}"), _RULE, ("200", "201")),
    Link("TakeBack", ("put", "/calendars/{name}"), ("delete", "/calendars/{name}"), {"name": "$request.path.name"}),
    Link("TakeOn", ("get", "/alerts"), ("post", "/alerts/acknowledge"), {}, body={"id": _FIRST_ALERT, "by": "kim"}),
    Link("Judge", ("get", "/alerts"), ("post", "/alerts/feedback"), {}, body={"id": _FIRST_ALERT, "opinion": "true"}),
)


def add_links(document: dict[str, Any]) -> None:
    """Put them into the description; KeyError for a path or status that is not in it."""
    for link in LINKS:
        (method, path), (to_method, to_path) = link.source, link.target
        described: dict[str, Any] = {
            "operationId": document["paths"][to_path][to_method]["operationId"],
            "parameters": link.parameters,
        }
        if link.body is not None:
            described["requestBody"] = link.body
        for status in link.statuses:
            document["paths"][path][method]["responses"][status].setdefault("links", {})[link.name] = described
