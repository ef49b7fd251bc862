"""Writes the pages that are made from code: the settings, and the emitted metrics. `make docs` runs it."""

import sys
import types
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


PAGES = {"settings.md": settings_page, "metrics.md": metrics_page}

if __name__ == "__main__":
    for file_name, page in PAGES.items():
        (HERE / file_name).write_text(page(), encoding="utf-8")
        print(f"wrote docs/{file_name}")
