"""`tidemark inspect`: what Redis knows of one subject, as tables; the packed records of its models decoded."""

import asyncio
import difflib
import math
from collections.abc import Mapping
from itertools import islice
from typing import Annotated, Any

import typer

from cli.completion import metrics, stored_subjects
from detection.errors import InputError
from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.windows import CallWindow, Window
from state.store import StateStore

_SPARKS = "▁▂▃▄▅▆▇█"

# A list of this many numbers still fits into a line; the sparkline of a longer one is folded at the week's days.
_SHORT = 6
_LINE = 24

_NEAR_AMONG = 10_000

_Facts = dict[str, Any]


def inspect(
    subject: Annotated[
        str,
        typer.Argument(
            help="A biller id, NAME/VERSION of a model, or biller:ID, model:NAME/VERSION.",
            autocompletion=stored_subjects,
        ),
    ],
    metric: Annotated[
        str | None, typer.Option(help="Slug of one metric only, such as error-rate.", autocompletion=metrics)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")] = False,
) -> None:
    """Show what Redis knows of a subject: answers, models, open windows."""
    import orjson

    from settings import load
    from state.redis_store import RedisStore

    settings = load()

    async def read() -> _Facts:
        store = RedisStore.connect(settings.redis(), settings.policy())
        try:
            return await facts_of(store, Subject.parse(subject), metric=metric)
        finally:
            await store.aclose()

    facts = asyncio.run(read())
    if json:
        print(orjson.dumps(facts, option=orjson.OPT_INDENT_2).decode())
    else:
        show(facts)


async def facts_of(store: StateStore, subject: Subject, *, metric: str | None = None) -> _Facts:
    """Everything stored of the subject, as plain values; InputError that names near ones where it is not known."""
    state = (await store.load([subject])).get(subject)
    if state is None:
        raise InputError(f"nothing is known of {subject}{await _near(store, subject)}")
    (head,) = await store.heads([subject])
    answers = (await store.answers([subject])).get(subject, {})
    if metric is not None:
        if metric not in answers:
            known = ", ".join(sorted(answers)) or "none yet"
            raise InputError(f"{subject} has no metric {metric!r}; it has {known}")
        answers = {metric: answers[metric]}
    return {
        "subject": _subject_facts(state, unrelayed=head.unrelayed),
        "series": {
            slug: {
                **answers[slug],
                "explanation": state.forecasts[slug].explanation if slug in state.forecasts else {},
                "model": _sayable(state.models[slug].readable()) if slug in state.models else None,
            }
            for slug in sorted(answers)
        },
        "windows": _windows(state.windows, 60),
        "minutes": _windows(state.minutes, 1),
    }


def _sayable(value: Any) -> Any:
    """The same, with None for each float that JSON has no number for: what was not seen yet."""
    match value:
        case dict():
            return {name: _sayable(one) for name, one in value.items()}
        case list():
            return [_sayable(one) for one in value]
        case float() if not math.isfinite(value):
            return None
    return value


def _subject_facts(state: SubjectState, *, unrelayed: int) -> _Facts:
    from detection.hours import iso, iso_hour

    return {
        "subject": str(state.subject),
        "rev": state.rev,
        "watermark": iso(state.watermark_ms) if state.watermark_ms >= 0 else "",
        "learned_before": iso_hour(state.learned_before),
        "published_hour": iso_hour(state.published_hour),
        "accepted": state.accepted,
        "late": state.late,
        "offsets": state.offsets,
        "unrelayed_windows": unrelayed,
    }


def _windows(windows: Mapping[int, Window], minutes: int) -> dict[str, _Facts]:
    from detection.hours import MINUTE_MS, iso

    return {iso(at * minutes * MINUTE_MS): _window(windows[at]) for at in sorted(windows)}


def _window(window: Window) -> _Facts:
    values = {one.metric.slug: one.value for one in window.values()}
    if isinstance(window, CallWindow):
        return {"calls": window.calls, "errors": window.errors, "timeouts": window.timeouts, **values}
    return {"events": window.events, **values}


async def _near(store: StateStore, subject: Subject) -> str:
    """What the caller may have meant, among the subjects that begin alike, or else among the first of all."""
    wanted = str(subject)
    begin_alike = await store.subjects(prefix=wanted, limit=3)
    if begin_alike:
        return f"; did you mean {', '.join(map(str, begin_alike))}?"
    texts = [str(one) for one in await store.subjects(limit=_NEAR_AMONG)]
    if not texts:
        return ": Redis holds no subject yet"
    by_lower = {text.lower(): text for text in texts}
    near = difflib.get_close_matches(wanted.lower(), by_lower, n=3)
    return f"; did you mean {', '.join(by_lower[one] for one in near)}?" if near else ""


def show(facts: _Facts) -> None:
    """Print the facts as tables, as wide as the terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    about = dict(facts["subject"])
    console.print(_pairs(str(about.pop("subject")), about))
    for slug, answer in facts["series"].items():
        fields = {name: value for name, value in answer.items() if name not in _SHOWN_APART}
        console.print(_pairs(slug, fields))
        if answer["explanation"]:
            console.print(_pairs(f"{slug}: how the estimate came about", answer["explanation"]))
        if answer["model"] is not None:
            console.print(_pairs(f"{slug}: model", answer["model"]))
    for title in ("windows", "minutes"):
        rows = facts[title]
        if rows:
            names = list(dict.fromkeys(name for row in rows.values() for name in row))
            table = Table("start", *names, title=f"open {title}" if title == "windows" else "last minutes")
            for start, row in rows.items():
                table.add_row(start, *(_text(row.get(name, "")) for name in names))
            console.print(table)


_SHOWN_APART = frozenset({"schema", "subject", "metric", "explanation", "model"})


def _pairs(title: str, fields: Mapping[str, Any]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", show_header=False, pad_edge=False)
    for name, value in fields.items():
        table.add_row(escape(name), escape(_text(value)))
    return table


def _text(value: Any) -> str:
    match value:
        case None:
            return "-"
        case float():
            return f"{value:.6g}"
        case [[*_], *_]:
            return "\n".join(map(_text, value))
        case list():
            if len(value) <= _SHORT:
                return "  ".join(map(_text, value))
            return sparkline(value)
        case dict():
            return "  ".join(f"{name}={_text(one)}" for name, one in value.items())
        case _:
            return str(value)


def sparkline(values: list[float | None]) -> str:
    """The run's shape, a line for each 24 numbers, and its range; a blank stands for what is not known yet.

    >>> sparkline([0, 1, 2, None, 4, 5, 6, 7])
    '▁▂▃ ▅▆▇█  7 numbers, 0 to 7'
    """
    known = [one for one in values if one is not None]
    if not known:
        return f"none of {len(values)} numbers yet"
    low, high = min(known), max(known)
    step = (high - low) / (len(_SPARKS) - 1) or 1.0
    marks = iter([" " if one is None else _SPARKS[round((one - low) / step)] for one in values])
    lines = []
    while line := "".join(islice(marks, _LINE)):
        lines.append(line)
    lines[-1] += f"  {len(known)} numbers, {low:.6g} to {high:.6g}"
    return "\n".join(lines)
