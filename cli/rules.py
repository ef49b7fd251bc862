"""`tidemark rules`: rules in a file, checked, tried over the history, and made those that are in force.

tidemark rules check rules.yaml      every fault with its line; asks nobody
tidemark rules dry-run rules.yaml    which alerts they would have opened
tidemark rules apply rules.yaml      in place of what files wrote before
tidemark rules list                  what is in force
"""

import getpass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cli import credentials
from detection.errors import DependencyError, InputError, OperatorError

if TYPE_CHECKING:
    from state.rule_files import RuleFile

# A dry run gives up by itself after twenty seconds.
_TIMEOUT_SECONDS: Final = 60.0
_SHOWN_ALERTS: Final = 20


class Action(StrEnum):
    """What `tidemark rules` can do."""

    check = "check"
    apply = "apply"
    list = "list"
    dry_run = "dry-run"


def rules(
    action: Annotated[Action, typer.Argument(help="What to do.")],
    file: Annotated[Path | None, typer.Argument(help="YAML file of rules; not for `list`.")] = None,
    from_: Annotated[str, typer.Option("--from", help="Of a dry run: RFC 3339, the first hour that counts.")] = "",
    to: Annotated[str, typer.Option("--to", help="Of a dry run: RFC 3339, the end of the last hour.")] = "",
    by: Annotated[str, typer.Option(help="Who applies them, for the audit; your user name when absent.")] = "",
    url: Annotated[str, typer.Option(help="Where the API is served.")] = "http://127.0.0.1:8000",
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Check rules, try them over the history, apply them, or list those that are in force.

    Exit codes: 0 done, 2 the file must be mended, 3 the API is away, 4 it failed.
    """
    import orjson

    if (file is None) != (action is Action.list):
        raise InputError("tidemark rules check FILE | apply FILE | dry-run FILE | list")
    if (from_ or to) and action is not Action.dry_run:
        raise InputError("--from and --to belong to dry-run")
    answer = _done(action, file, url, {"from": from_, "to": to}, by)
    if as_json:
        print(orjson.dumps(answer).decode())
    else:
        _SHOW[action](answer)


def _done(action: Action, path: Path | None, url: str, period: dict[str, str], by: str) -> dict[str, Any]:
    if path is None:
        return _ask("GET", url, "/rules")
    # What is wrong is found here, with the file's own name.
    from state.rule_files import load_rules

    file = load_rules(path)
    if action is Action.check:
        return _checked(file)
    if action is Action.apply:
        return _ask("PUT", url, "/rules", data=file.data, query={"source": "file", "by": by or _user()})
    given = {name: text for name, text in period.items() if text}
    return _ask("POST", url, "/rules/dry-run", data=file.data, query=given)


def _checked(file: "RuleFile") -> dict[str, Any]:
    from detection.rules.book import in_force

    draft = file.draft
    defaults = in_force(draft.rules, has_defaults=draft.has_defaults)
    written = {rule.id for rule in draft.rules}
    return {
        "rules": [rule.id for rule in draft.rules],
        "disabled": [rule.id for rule in draft.rules if not rule.is_enabled],
        "defaults": [rule.id for rule in defaults if rule.id not in written],
    }


def _user() -> str:
    try:
        return getpass.getuser()
    # A process of a user without a name, as in a container.
    except (KeyError, OSError):
        return ""


def _ask(method: str, url: str, path: str, *, data: bytes = b"", query: dict[str, str] | None = None) -> dict[str, Any]:
    import httpx

    from cli.predict import refusal

    headers = credentials.headers() | ({"Content-Type": "application/yaml"} if data else {})
    try:
        response = httpx.request(
            method, url.rstrip("/") + path, content=data, params=query, headers=headers, timeout=_TIMEOUT_SECONDS
        )
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise InputError(f"--url {url}: {error}") from error
    except httpx.HTTPError as error:
        raise DependencyError("api", f"{url}: {str(error) or type(error).__name__}") from error
    if not response.is_success:
        raise refusal(response)
    try:
        answer: dict[str, Any] = response.json()
    except ValueError as error:
        raise OperatorError(f"{url} does not answer as Tidemark's API does") from error
    return answer


def _show_checked(answer: dict[str, Any]) -> None:
    count = len(answer["rules"])
    print(f"{count} {'rule' if count == 1 else 'rules'}, nothing wrong with them")
    if answer["disabled"]:
        print(f"not enabled: {', '.join(answer['disabled'])}")
    print(f"beside them hold the defaults {', '.join(answer['defaults'])}" if answer["defaults"] else "no defaults")


def _show_applied(answer: dict[str, Any]) -> None:
    for action in ("created", "changed", "deleted"):
        for rule_id in answer[action]:
            print(f"{action} {rule_id}")
    print(f"revision {answer['revision']}, {answer['unchanged']} unchanged")


def _show_list(answer: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    folded = (
        Column(title, overflow="fold") for title in ("series", "condition", "opens", "severity", "owner", "source")
    )
    table = Table(Column("rule", no_wrap=True), *folded, title_justify="left", title=f"revision {answer['revision']}")
    for one in answer["rules"]:
        rule = one["rule"]
        boundary = "" if rule["boundary"] == "learned" else f" {rule['boundary']:g}"
        window = rule["window"]
        opens = f"{window['n']} of {window['m'] or window['n']}" if rule["is_enabled"] else "never, not enabled"
        kind = f"{rule['kind']}:" if rule["kind"] else ""
        cells = (
            rule["id"],
            f"{kind}{rule['subject']} {rule['metric']}",
            f"{rule['condition']}{boundary}",
            opens,
            rule["severity"],
            rule["owner"],
            one["source"],
        )
        table.add_row(*map(escape, cells))
    Console().print(table)


def _show_dry_run(answer: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    console = Console(highlight=False)
    span = f"{answer['from']} to {answer['to']}" if answer["from"] else "no recorded hours"
    title = f"{span}: {answer['series']:,} series, {answer['hours']:,} hours"
    table = Table(
        Column("rule", no_wrap=True), "series", "alerts", "a week", "weeks", title=title, title_justify="left"
    )
    for one in answer["rules"]:
        weeks = "  ".join(f"{week} {count}" for week, count in one["weeks"].items())
        table.add_row(
            escape(one["id"]), f"{one['series']:,}", f"{one['alerts']:,}", f"{one['alerts_per_week']:g}", weeks
        )
    console.print(table)
    for one in answer["alerts"][:_SHOWN_ALERTS]:
        until = one["resolved"] or "still open"
        console.print(f"{one['opened']} – {until}  {one['subject']}  {one['rule']}", markup=False)
    if answer["alerts_total"] > _SHOWN_ALERTS:
        console.print(f"and {answer['alerts_total'] - _SHOWN_ALERTS:,} more: --json has them")
    for note in answer["notes"]:
        console.print(note, markup=False)


_SHOW: Final = {
    Action.check: _show_checked,
    Action.apply: _show_applied,
    Action.list: _show_list,
    Action.dry_run: _show_dry_run,
}
