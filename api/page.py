"""`GET /`: where to go, and the first thresholds as a table that renews itself; plain HTML, nothing from elsewhere."""

from html import escape
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Response
from fastapi.responses import HTMLResponse

from api.answers import Answer, shown
from api.connections import Connections, connections
from api.thresholds import Filter, page
from detection.errors import DependencyError

router = APIRouter()

Parts = Annotated[Connections, Depends(connections)]

_ROWS: Final = 300
# What can be said of a series that is not beyond its threshold.
_NOW: Final = {"prior": "learning", "learning": "learning", "ready": "normal", "stale": "no data"}
_STYLE: Final = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { margin: 0 auto; max-width: 78rem; padding: 1rem }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; list-style: none; padding: 0 }
.table { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
caption { text-align: left; padding: .5rem 0 }
th, td { border-bottom: 1px solid color-mix(in srgb, currentColor 25%, transparent) }
th, td { padding: .3rem .6rem; text-align: left }
td.number, th.number { text-align: right }
tr.alert { outline: 2px solid #c0392b; outline-offset: -2px }
tr.alert td.flag { font-weight: 700 }
"""
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    "Cache-Control": "no-store",
}


@router.get("/", include_in_schema=False)
async def start(parts: Parts) -> Response:
    """The page; without Redis it says so instead of the table."""
    try:
        items, next_cursor = await page(parts, Filter(), limit=_ROWS)
        body = _table(items, has_more=next_cursor is not None)
    except DependencyError as error:
        body = f"<p role='alert'>The thresholds cannot be read now: {escape(str(error))}</p>"
    return HTMLResponse(_document(body), headers=_HEADERS)


def _document(body: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="5">
<title>Tidemark</title>
<style>{_STYLE}</style>
</head>
<body>
<header><h1>Tidemark</h1></header>
<nav aria-label="Interfaces"><ul>
<li><a href="/docs">API description</a></li>
<li><a href="/thresholds">Thresholds as JSON</a></li>
<li><a href="/readyz">Readiness</a></li>
<li><a href="/metrics">Metrics for Prometheus</a></li>
</ul></nav>
<main>{body}</main>
</body>
</html>
"""


def _table(items: list[Answer], *, has_more: bool) -> str:
    if not items:
        return (
            "<p>No call has been learned yet. Calls come in through the topic <code>calls</code> or "
            "<code>POST /events/calls</code>; a threshold stands here after a biller's first hour.</p>"
        )
    rows = "\n".join(map(_row, items))
    more = f" The first {len(items)} series; the others are in the JSON." if has_more else ""
    return f"""<div class="table" tabindex="0" role="region" aria-label="Thresholds"><table>
<caption>What is normal in the next hour, renewed every five seconds.{more}</caption>
<thead><tr>
<th scope="col">Subject</th><th scope="col">Metric</th><th scope="col" class="number">Estimate</th>
<th scope="col" class="number">Alert beyond</th><th scope="col">Unit</th><th scope="col">Status</th>
<th scope="col" class="number">Hours learned</th><th scope="col" class="number">Last hour</th>
<th scope="col">From (UTC)</th><th scope="col">Now</th>
</tr></thead>
<tbody>
{rows}
</tbody></table></div>"""


def _row(item: Answer) -> str:
    is_alert = item["alert"]["is_alert"]
    now = "beyond its threshold" if is_alert else _NOW[item["status"]]
    start = item["window_start"].replace("T", " ").removesuffix(":00Z")
    return (
        f"<tr{' class=alert' if is_alert else ''}>"
        f"<th scope='row'>{escape(item['subject'])}</th><td>{escape(item['metric'])}</td>"
        f"<td class='number'>{_shown(item['estimate'])}</td>"
        f"<td class='number'>{escape(item['operator'])} {_shown(item['threshold'])}</td>"
        f"<td>{escape(item['unit'])}</td><td>{escape(item['status'])}</td>"
        f"<td class='number'>{item['n_learned']}</td><td class='number'>{_shown(item['last_value'])}</td>"
        f"<td>{escape(start)}</td><td class='flag'>{now}</td></tr>"
    )


def _shown(number: float | None) -> str:
    return "–" if number is None else shown(number)
