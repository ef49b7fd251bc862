"""The shapes of rules as OpenAPI describes them, and an example of each; a rule itself is `detection.rules.rule`."""

from typing import Any, Final, Literal

import msgspec
from pydantic import BaseModel, Field

from detection.rules.rule import Rule

RULE: Final[dict[str, Any]] = {
    "id": "low-accuracy",
    "description": "A model is wrong two times out of three.",
    "kind": "model",
    "subject": "Mistral/*",
    "metric": "prediction-accuracy",
    "condition": "lower than",
    "boundary": 0.3,
    "window": {"n": 2, "m": 3},
    "recovery": {"value": 0.35, "n": 2},
    "severity": "critical",
    "owner": "ml-team",
    "notify": ["ml-chat"],
    "mute": [{"since": "22:00", "until": "06:00", "days": ["sat", "sun"], "zone": "Europe/Berlin"}],
}
RULE_YAML: Final = """\
id: low-accuracy
metric: prediction_accuracy
condition: lower than
boundary: 0.3
severity: critical
"""
BOOK_YAML: Final = """\
defaults: true
rules:
  - id: low-accuracy
    metric: prediction_accuracy
    condition: lower than
    boundary: 0.3
    severity: critical
"""

_DESCRIBED: Final = "As it was written, with its defaults filled in."


class KnownRule(BaseModel):
    """A rule, and the change that made it what it is."""

    source: Literal["api", "file", "default"] = Field(
        description="`file`: gone when the next version of the file does not have it. `default`: holds where nobody "
        "wrote a rule with its id."
    )
    revision: int = Field(description="Of the change that made it what it is; 0 for a default.")
    changed: str | None
    by: str
    rule: dict[str, Any] = Field(description=_DESCRIBED)


class KnownRules(BaseModel):
    """All rules that are in force."""

    revision: int = Field(description="Counts every change of any rule.")
    defaults: bool = Field(description="Whether the default rules hold beside the written ones.")
    rules: list[KnownRule]


class BookChange(BaseModel):
    """What became of a whole book, or, in a dry run, what would."""

    revision: int = Field(description="Of the book after the change.")
    is_applied: bool
    created: list[str]
    changed: list[str]
    deleted: list[str]
    unchanged: int


class AuditedChange(BaseModel):
    """Who changed which rule from what to what."""

    at: str
    revision: int
    rule: str
    action: Literal["created", "changed", "deleted"]
    by: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AuditPage(BaseModel):
    """Changes, the newest first."""

    changes: list[AuditedChange]
    next_cursor: str | None


class RehearsedAlert(BaseModel):
    """An alert that would have opened."""

    rule: str
    subject: str
    metric: str
    severity: str
    opened: str
    resolved: str | None
    value: float
    boundary: float
    worst: float
    line: str


class RehearsedRule(BaseModel):
    """What one rule would have done."""

    id: str
    series: int = Field(description="Series that it means, among those that were looked at.")
    alerts: int
    alerts_per_week: float
    weeks: dict[str, int] = Field(description="Alerts by the week in which they would have opened.")
    by_series: dict[str, int]


class DryRun(BaseModel):
    """Which alerts rules would have opened over the recorded hours."""

    from_: str | None = Field(alias="from")
    to: str | None
    series: int
    hours: int
    is_complete: bool = Field(description="Whether every series that is meant was looked at.")
    rules: list[RehearsedRule]
    alerts: list[RehearsedAlert]
    alerts_total: int
    notes: list[str]


KNOWN: Final[dict[str, Any]] = {
    "source": "api",
    "revision": 7,
    "changed": "2026-11-21T20:00:00Z",
    "by": "ann",
    "rule": RULE,
}
CHANGED: Final[dict[str, Any]] = {
    "revision": 8,
    "is_applied": True,
    "created": ["low-accuracy"],
    "changed": [],
    "deleted": ["old"],
    "unchanged": 11,
}
AUDITED: Final[dict[str, Any]] = {
    "at": "2026-11-21T20:00:00Z",
    "revision": 7,
    "rule": "low-accuracy",
    "action": "created",
    "by": "ann",
    "before": None,
    "after": RULE,
}
DRY_RUN: Final[dict[str, Any]] = {
    "from": "2026-10-01T00:00:00Z",
    "to": "2026-11-01T00:00:00Z",
    "series": 2,
    "hours": 1488,
    "is_complete": True,
    "rules": [
        {
            "id": "low-accuracy",
            "series": 2,
            "alerts": 1,
            "alerts_per_week": 0.23,
            "weeks": {"2026-W42": 1},
            "by_series": {"model:Mistral/v1:prediction-accuracy": 1},
        }
    ],
    "alerts": [
        {
            "rule": "low-accuracy",
            "subject": "model:Mistral/v1",
            "metric": "prediction-accuracy",
            "severity": "critical",
            "opened": "2026-10-15T09:00:00Z",
            "resolved": "2026-10-15T13:00:00Z",
            "value": 0.193,
            "boundary": 0.3,
            "worst": 1.36,
            "line": "ALERT prediction_accuracy lower than 0.3, {'name': 'Mistral', 'version': 'v1', ...}",
        }
    ],
    "alerts_total": 1,
    "notes": ["Rules were held against the means of hours: live, fixed boundaries are held against single events."],
}


def rule_body() -> dict[str, Any]:
    """One rule as a request body, JSON or YAML."""
    return _body(_inlined(msgspec.json.schema(Rule)), RULE, RULE_YAML)


def book_body() -> dict[str, Any]:
    """A whole book as a request body, JSON or YAML."""
    rules = {"type": "array", "items": _inlined(msgspec.json.schema(Rule)), "maxItems": 1000}
    schema = {
        "type": "object",
        "properties": {"rules": rules, "defaults": {"type": "boolean", "default": True}},
        "additionalProperties": False,
    }
    return _body(schema, {"defaults": True, "rules": [RULE]}, BOOK_YAML)


def _body(schema: dict[str, Any], example: dict[str, Any], text: str) -> dict[str, Any]:
    content = {
        "application/json": {"schema": schema, "example": example},
        "application/yaml": {"schema": schema, "example": text},
    }
    return {"requestBody": {"required": True, "content": content}}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Without references, which would be looked for at the top of the whole description."""
    definitions = schema.get("$defs", {})

    def inlined(value: Any) -> Any:
        match value:
            case {"$ref": str(reference), **rest}:
                return inlined(definitions[reference.rpartition("/")[2]] | rest)
            case dict():
                return {name: inlined(one) for name, one in value.items() if name != "$defs"}
            case list():
                return [inlined(one) for one in value]
            case _:
                return value

    found: dict[str, Any] = inlined(schema)
    return found
