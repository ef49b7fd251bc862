"""Writes the pages that are made from code: settings, metrics, lines of the log, licences. `make docs` runs it."""

import ast
import re
import sys
import types
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import SecretStr
from pydantic.fields import FieldInfo

HERE = Path(__file__).parent
# A script's own folder is on its path, the folder above, with `settings` and `metrics`, is not.
sys.path.insert(0, str(HERE.parent))

from metrics import INSTRUMENTS  # noqa: E402  # needs the line above
from settings import PREFIX, SECRETS_DIR, Settings  # noqa: E402  # as above
from supply import licences  # noqa: E402  # as above

LOGGING_ROOMS = ("api", "state", "stream")
LOG_LEVELS = {"debug", "info", "warning", "error", "exception"}
MADE = "<!-- Made by docs/generate.py; change the code and run `make docs`. -->\n"


def settings_page() -> str:
    """Every setting as one row of a table, in the order in which they are declared."""
    rows = [
        f"| `{PREFIX}{name.upper()}` | {_cell(field.description or '')} | {_range(field)} | {_default(field)} |"
        for name, field in Settings.model_fields.items()
    ]
    return f"""{MADE}
# Settings

Environment variables come first, then the files of `{SECRETS_DIR}`, then the defaults. A variable that starts with
`{PREFIX}` and is not listed here stops the start, with a hint at the nearest name.

`{SECRETS_DIR}` names a folder with one file a setting, called like the variable in lower case
(`{PREFIX.lower()}redis_url`); it is how passwords stay out of the environment. Settings marked *secret* are never
printed.

| Variable | What it does | Range | Default |
|---|---|---|---|
""" + "\n".join([*rows, ""])


def metrics_page() -> str:
    """Every emitted Prometheus metric as one row of a table."""
    rows = [
        f"| `{item.name}` | {item.kind} | {', '.join(f'`{label}`' for label in item.labels) or '–'} "
        f"| {_cell(item.help)} {_cell(item.comment)} |"
        for item in INSTRUMENTS
    ]
    return f"""{MADE}
# Emitted metrics

Prometheus text at `/metrics`: of the API on its own port, of a worker on `{PREFIX}WORKER_HTTP_PORT`. Each process
reports what it does itself.

| Name | Type | Labels | Meaning |
|---|---|---|---|
""" + "\n".join([*rows, ""])


@dataclass(slots=True)
class LogEvent:
    """What is logged under one name: with which levels and fields, and in which files."""

    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)


def log_events() -> dict[str, LogEvent]:
    """Every event that `log.<level>` of our processes is given, by name."""
    found: dict[str, LogEvent] = defaultdict(LogEvent)
    for room in LOGGING_ROOMS:
        for path in sorted((HERE.parent / room).rglob("*.py")):
            for name, level, fields in _logged(ast.parse(path.read_text(encoding="utf-8"))):
                event = found[name]
                event.levels.add(level)
                event.fields.update(fields)
                event.files.add(path.relative_to(HERE.parent).as_posix())
    return dict(sorted(found.items()))


def _logged(tree: ast.Module) -> Iterator[tuple[str, str, list[str]]]:
    """Name, level and fields of each line that a module logs.

    A function that logs a name it is given, as the waiting for a dependency does, is looked through to its callers.
    """
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    given: dict[str, tuple[str, list[str]]] = {}
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        parameters = {one.arg for one in function.args.args}
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            if (level := _level(call)) and isinstance(call.args[0], ast.Name) and call.args[0].id in parameters:
                given[function.name] = level, _fields(call)
    for call in calls:
        text = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else None
        if not isinstance(text, str):
            continue
        if level := _level(call):
            yield text, level, _fields(call)
        elif (name := _called(call)) in given:
            yield text, *given[name]


def _level(call: ast.Call) -> str:
    """The level of a line of our log, empty where the call is none."""
    function = call.func
    if not (isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and call.args):
        return ""
    if function.value.id != "log" or function.attr not in LOG_LEVELS:
        return ""
    return "error" if function.attr == "exception" else function.attr


def _fields(call: ast.Call) -> list[str]:
    return [one.arg for one in call.keywords if one.arg is not None and one.arg != "exc_info"]


def _called(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def logs_page() -> str:
    """Every event of the log as one row of a table, with the entries of the runbook that speak of it."""
    entries = re.split(r"^### ", (HERE / "runbook.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    rows = []
    for name, event in log_events().items():
        spoken = [entry.partition("\n")[0] for entry in entries if f"`{name}`" in entry]
        cells = (
            f"`{name}`",
            ", ".join(sorted(event.levels)),
            ", ".join(f"`{one}`" for one in sorted(event.fields)),
            ", ".join(f"`{one}`" for one in sorted(event.files)),
            ", ".join(f"[{one}](runbook.md#{one.lower()})" for one in spoken),
        )
        rows.append(f"| {' | '.join(cell or '–' for cell in cells)} |")
    return f"""{MADE}
# Lines of the log

Each process logs to stderr, as JSON lines or, with `{PREFIX}LOG_FORMAT=console`, for people. Every line has `event`,
`level`, `logger` and `timestamp`; one that was logged while something was traced has `trace_id` and `span_id`; an error
that was caught has `exception`. These are the events of the worker and the API, with the fields that they add. Lines
of libraries have their own text as `event`.

| Event | Level | Fields | Logged by | In the runbook |
|---|---|---|---|---|
""" + "\n".join([*rows, ""])


def _range(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return " \\| ".join(f"`{item}`" for item in get_args(field.annotation))
    if field.annotation is bool:
        return "`true` \\| `false`"
    bounds = []
    for rule in field.metadata:
        match rule:
            case Ge(ge=bound):
                bounds.append(f"≥ {bound}")
            case Gt(gt=bound):
                bounds.append(f"> {bound}")
            case Le(le=bound):
                bounds.append(f"≤ {bound}")
            case Lt(lt=bound):
                bounds.append(f"< {bound}")
            case MinLen(min_length=1):
                bounds.append("not empty")
            case MinLen(min_length=length):
                bounds.append(f"≥ {length} characters")
            case _ if getattr(rule, "pattern", None) is not None:
                bounds.append(f"`{_cell(rule.pattern)}`")
            case _:
                raise TypeError(f"docs/generate.py cannot say what {rule!r} means: teach it")
    kind = _type_name(field)
    return f"{kind}, {', '.join(bounds)}" if bounds else kind


def _type_name(field: FieldInfo) -> str:
    kinds = [item for item in _members(field.annotation) if item is not types.NoneType]
    names = {int: "whole number", float: "number", str: "text", SecretStr: "text, *secret*", Path: "path"}
    return " or ".join(names.get(item, getattr(item, "__name__", str(item))) for item in kinds)


def _members(annotation: object) -> tuple[type, ...]:
    if get_origin(annotation) in {Union, types.UnionType}:
        return get_args(annotation)
    return (annotation,) if isinstance(annotation, type) else ()


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    match field.get_default(call_default_factory=True, validated_data={}):
        case SecretStr() as secret:
            return f"`{secret.get_secret_value()}`"
        case bool(value):
            return f"`{str(value).lower()}`"
        case None | "":
            return "none"
        case value:
            return f"`{value}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


PAGES = {
    "settings.md": settings_page,
    "metrics.md": metrics_page,
    "logs.md": logs_page,
    "licences.md": licences.page,
}

if __name__ == "__main__":
    for file_name, page in PAGES.items():
        (HERE / file_name).write_text(page(), encoding="utf-8")
        print(f"wrote docs/{file_name}")
