"""`tidemark explain SUBJECT METRIC`: why a threshold is what it is, and how it has held.

What is said of the next hour comes first, then what it was made of. Below it are the last hours against the threshold
as it was published for them, and how often the claim was kept: both of what the workers have recorded, so an API that
knows neither, or whose PostgreSQL is away, leaves them out and says so.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from cli.client import Url, get
from cli.completion import metrics, served_subjects
from cli.predict import ask, path_of
from cli.thresholds import shown
from detection.errors import DependencyError, InputError
from detection.subject import Subject

_SPANS: Final = ("day", "week", "month")
_BAR_CELLS: Final = 24
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_WEIGHT: Final = "weight_"

_Facts = dict[str, Any]

# What the experts of the forecaster go by.
_EXPERTS: Final = {
    "last": "the last hour",
    "day": "the same hour of other days",
    "week": "the same hour of other weeks",
    "yesterday": "the same hour yesterday",
    "average": "the average of late",
    "week_half": "the week's pattern, half trusted",
    "regression_season": "a regression on the season",
    "regression_short": "a regression on the last hours",
    "regression_raw": "a regression on plain values",
}

# Parts that are in the metric's unit, and what they are called.
_IN_UNIT: Final = {
    "day_mean": "usual in this hour of the day",
    "week_mean": "usual in this hour of the week",
    "expected_rate": "expected rate",
    "shift_from": "level before the shift",
    "shift_to": "level after the shift",
    "creep_rise": "rise of the level",
    "spread": "usual error",
    "disagreement": "disagreement of the experts",
}
_PLAIN: Final = {
    "drift": "drift of the level",
    "correction": "factor on the distance, by measured exceedance",
    "silent_hours": "hours without a value before",
    "overdispersion": "correlation of two calls of an hour",
    "limits": "highest rate that is no evidence, by calls",
    "shift_hours": "hours since the shift",
    "reasons": "reasons",
    "basis": "basis",
}


def explain(
    subject: Annotated[
        str, typer.Argument(help="Id of a biller, or NAME/VERSION of a model.", autocompletion=served_subjects)
    ],
    metric: Annotated[
        str,
        typer.Argument(
            help="Number, slug or name of a metric; of a model, the name of a gauge.", autocompletion=metrics
        ),
    ],
    hours: Annotated[int, typer.Option(min=1, max=1000, help="How many of the last hours are shown.")] = 24,
    url: Url = "http://127.0.0.1:8000",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON document.")] = False,
) -> None:
    """Say why the threshold of a series is what it is: what it was made of, the last hours, and how it has held.

    Exit codes: 0 explained, 2 no such series can be, 3 the API is away, 4 it failed.
    """
    import orjson

    facts = facts_of(subject, metric, hours=hours, url=url)
    if as_json:
        print(orjson.dumps(facts).decode())
    else:
        _print(facts)


def facts_of(subject: str, metric: str, *, hours: int, url: str) -> _Facts:
    """`prediction`, `history` and `coverage` as the API answers them, None for what it does not have; `notes` say why.

    Raises InputError, DependencyError or OperatorError as `ask` does.
    """
    of = Subject.parse(subject)
    prediction = ask(url, path_of(metric, of.id), None)
    series = {"subject": str(of), "metric": prediction["metric"]}
    notes: list[str] = []

    def found(what: str, path: str, query: Mapping[str, Any]) -> Any:
        try:
            return get(url, path, {**series, **query})
        # An API that has no such path, or a series that nobody has seen; or PostgreSQL is away.
        except (InputError, DependencyError) as error:
            notes.append(f"{what} left out: {error}")
            return None

    history = found("the last hours are", "/history", {"limit": hours})
    claims = [found("how the claim has held is", "/coverage", {"span": span}) for span in _SPANS]
    return {
        "prediction": prediction,
        "history": None if history is None else history["points"],
        "coverage": [one for claim in claims if claim is not None for one in claim["series"]],
        "notes": list(dict.fromkeys(notes)),
    }


def bar(share: float, *, cells: int = _BAR_CELLS) -> str:
    """A share of 1 as a bar of that many cells, exact to an eighth of one.

    >>> bar(0.5, cells=4), bar(0.3, cells=4)
    ('██', '█▎')
    """
    eighths = round(min(max(share, 0.0), 1.0) * cells * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _print(facts: _Facts) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    prediction = facts["prediction"]
    unit = f" {prediction['unit']}" if prediction["unit"] else ""
    console.print(f"{prediction['metric']} of {prediction['subject']}", style="bold", markup=False)
    console.print(prediction["explanation"]["sentence"], markup=False)
    parts = prediction["explanation"]["parts"]
    if "sentence" in parts:
        console.print(f"{parts['sentence']}.", markup=False)
    console.print()
    for section in (_parts_table, _experts_table):
        table = section(parts, unit)
        if table is not None:
            console.print(table)
    if facts["history"]:
        console.print(_hours_table(facts["history"], prediction))
    elif facts["history"] is not None:
        console.print("no hour of it is in the history yet")
    if facts["coverage"]:
        console.print(_claims_table(facts["coverage"]))
    for note in facts["notes"]:
        console.print(note, markup=False, style="yellow")


def _parts_table(parts: _Facts, unit: str) -> Any:
    from rich.markup import escape
    from rich.table import Table

    rows = [(words, f"{shown(parts[name])}{unit}") for name, words in _IN_UNIT.items() if name in parts]
    rows += [(words, _said(parts[name])) for name, words in _PLAIN.items() if name in parts]
    if not rows:
        return None
    table = Table(title="what the threshold is made of", title_justify="left", show_header=False)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _experts_table(parts: _Facts, _unit: str) -> Any:
    from rich.table import Table

    weights = {name.removeprefix(_WEIGHT): one for name, one in parts.items() if name.startswith(_WEIGHT)}
    if not weights:
        return None
    table = Table("expert", "weight", "", title="who has how much to say", title_justify="left")
    for name, weight in sorted(weights.items(), key=lambda one: -one[1]):
        table.add_row(_EXPERTS.get(name, name), f"{weight:.1%}", bar(weight))
    return table


def _hours_table(points: list[_Facts], prediction: _Facts) -> Any:
    from rich.table import Table
    from rich.text import Text

    title = f"the last {len(points)} hours, each against what was published for it"
    if prediction["unit"]:
        title += f" ({prediction['unit']})"
    # Without lines, it fits into a narrow terminal.
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("hour", "value", "calls", "expected", f"threshold {prediction['operator']}", "score", ""):
        table.add_column(name, justify="left" if name in {"hour", ""} else "right", no_wrap=True)
    for point in points:
        score = point["score"]
        table.add_row(
            point["window_start"],
            shown(point["value"]),
            f"{point['count']:,}",
            shown(point["estimate"]),
            shown(point["threshold"]),
            "–" if score is None else f"{score:.2f}",
            Text(_mark(point), style="bold red" if point["exceeded"] else ""),
        )
    return table


def _mark(point: _Facts) -> str:
    """What is to be said of an hour, in words: colour alone would be lost on many."""
    if point["excluded"]:
        return "excluded"
    if point["exceeded"]:
        return "beyond" if point["credible"] is not False else "beyond, too few calls"
    return "not judged" if point["threshold"] is None else ""


def _claims_table(claims: list[_Facts]) -> Any:
    from rich.table import Table

    table = Table(title="how the claim has held", title_justify="left")
    for name in ("last", "judged", "beyond", "claimed", "observed", "95 % interval", "skill"):
        table.add_column(name, justify="left" if name == "last" else "right")
    for one in claims:
        interval = one["interval"]
        table.add_row(
            one["span"],
            f"{one['judged']:,}",
            f"{one['exceeded']:,}",
            _percent(one["claimed_exceedance"]),
            _percent(one["observed_exceedance"]),
            "–" if interval is None else " to ".join(map(_percent, interval)),
            "–" if one["skill"] is None else f"{one['skill']:.2f}",
        )
    return table


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2g} %"


def _said(value: Any) -> str:
    return shown(value) if isinstance(value, int | float) else str(value)
