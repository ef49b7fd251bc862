"""`tidemark predict METRIC BILLER`: what the API answers, for people."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import credentials
from cli.completion import metrics, served_subjects
from detection.errors import ConflictError, DependencyError, InputError, OperatorError

if TYPE_CHECKING:
    import httpx

_TIMEOUT_SECONDS = 10.0

MetricName = Annotated[
    str,
    typer.Argument(help="Number, slug or name of a metric; of a model, the name of a gauge.", autocompletion=metrics),
]
SubjectId = Annotated[
    str,
    typer.Argument(
        metavar="BILLER", help="Id of a biller, or NAME/VERSION of a model.", autocompletion=served_subjects
    ),
]
SampleValue = Annotated[float | None, typer.Option("--sample", help="Answer as if this value had been seen.")]
Url = Annotated[str, typer.Option(help="Where the API is served.")]


def predict(
    metric: MetricName,
    biller: SubjectId,
    sample: SampleValue = None,
    url: Url = "http://127.0.0.1:8000",
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Ask the API for the highest value that is still normal in the next hour, and whether it is exceeded now.

    Exit codes: 0 answered, 2 the request cannot be answered as it is, 3 the API is away, 4 it failed.
    """
    import orjson

    answer = ask(url, path_of(metric, biller), None if sample is None else {"sample": {"value": sample}})
    if as_json:
        print(orjson.dumps(answer).decode())
    else:
        _print(answer)


def path_of(metric: str, subject: str) -> str:
    """The path that predicts the series; a subject with a slash is a model."""
    from urllib.parse import quote

    name, slash, version = subject.partition("/")
    parts = ("gauges", metric, name, version) if slash else (metric, subject)
    return "/metrics/predict/" + "/".join(quote(part, safe="") for part in parts)


def ask(url: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    """The API's answer; InputError, DependencyError, ConflictError or OperatorError with the problem's own words."""
    import httpx

    try:
        response = httpx.post(
            url.rstrip("/") + path, json=body, headers=credentials.headers(), timeout=_TIMEOUT_SECONDS
        )
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise InputError(f"--url {url}: {error}") from error
    except httpx.HTTPError as error:
        raise DependencyError("api", f"{url}: {str(error) or type(error).__name__}") from error
    if response.is_success:
        try:
            answer: dict[str, Any] = response.json()
        except ValueError as error:
            raise OperatorError(f"{url} does not answer as Tidemark's API does") from error
        return answer
    raise refusal(response)


def refusal(response: "httpx.Response") -> InputError | ConflictError | DependencyError | OperatorError:
    """What an answer that is none means for the caller, in the problem's own words."""
    try:
        detail = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"{response.status_code} {response.reason_phrase}"
    match response.status_code:
        case 409:
            return ConflictError(detail)
        case 502 | 503 | 504:
            return DependencyError("api", detail)
        case status if status < 500:
            return InputError(detail)
        case _:
            return OperatorError(detail)


def _print(answer: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    unit = f" {answer['unit']}" if answer["unit"] else ""
    table = Table(title=f"{answer['metric']} of {answer['subject']}", show_header=False, title_justify="left")
    table.add_row("status", f"{answer['status']}, {answer['n_learned']:,} hours learned")
    table.add_row("hour", f"{answer['window_start']} to {answer['window_end']}")
    table.add_row("estimate", f"{_shown(answer['estimate'])}{unit}")
    table.add_row("95 % of hours", f"{_shown(answer['lower'])} to {_shown(answer['upper'])}{unit}")
    table.add_row("alert when", Text(f"{answer['operator']} {_shown(answer['threshold'])}{unit}", style="bold"))
    claimed, measured = answer["claimed_exceedance"], answer["measured_exceedance"]
    said = f"{_percent(claimed)} claimed, {_percent(measured)} measured over {answer['judged']:,} hours"
    table.add_row("beyond", said)
    evidence = answer["alert"]["evidence"]
    state = Text("beyond its threshold", style="bold red") if answer["alert"]["is_alert"] else Text("normal")
    if evidence is not None:
        what = "last minutes" if evidence["source"] == "minutes" else f"hour from {evidence['window_start']}"
        state.append(f"  ({what}: {_shown(evidence['value'])}{unit}, {evidence['calls']:,} calls)", style="not bold")
    table.add_row("now", state)
    console = Console()
    console.print(table)
    console.print(answer["explanation"]["sentence"], markup=False, highlight=False)


def _shown(number: float | None) -> str:
    return "–" if number is None else f"{float(f'{number:.4g}'):,.10g}"


def _percent(share: float | None) -> str:
    return "nothing" if share is None else f"{100 * share:.2g} %"
