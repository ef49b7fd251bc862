"""How good estimates, thresholds and alerts are on 80 real series: `tidemark backtest`, judged beside the references.

The forecasts of the references were measured before and are kept in `references.csv`; simple alert rules are run here.
Writes `docs/accuracy.md`.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rich.table import Table

from benchmarks._accuracy_page import page
from benchmarks._accuracy_report import ALERT_REFERENCE, OURS, REFERENCE, Report, report
from benchmarks._recorded import HOURLY, read_predictions, read_recordings
from benchmarks._reference_rows import read_rows
from benchmarks.context import ROOT, Context, commit, machine
from benchmarks.result import Result, Target
from detection.evaluation import Prediction

PAGE = ROOT / "docs" / "accuracy.md"
LEFT_OUT = ROOT / "benchmarks" / "left_out.csv"

_DEADLINE_SECONDS = 1800


def run(context: Context) -> list[Result]:
    file = context.examples / HOURLY
    with context.part("tidemark backtest"):
        predictions = _backtest(file)
    with context.part("evaluating it, and running simple alert rules"):
        found = report(read_recordings(file), predictions, read_rows())
    context.console.print(_table(found))
    made = results(found)
    PAGE.write_text(page(found, made, LEFT_OUT, stamp=f"commit {commit()}, {machine()}"), encoding="utf-8")
    context.say(f"written to {PAGE.relative_to(ROOT)}")
    return made


def results(found: Report) -> list[Result]:
    """The figures that have a target, and a few that are only told."""
    return [*_forecast_results(found), *_alert_results(found)]


def _forecast_results(found: Report) -> list[Result]:
    ours, line = found.overall.ours, found.overall.line(REFERENCE)
    theirs, paired = line.theirs, line.paired

    def beside(name: str, value: float, unit: str, reference: float, target: Target) -> Result:
        return Result(name=name, value=value, unit=unit, reference=REFERENCE, reference_value=reference, target=target)

    return [
        beside("relMAE", ours.relmae, "", theirs.relmae, Target(at_most=0.49)),
        beside("pinball loss of the threshold", ours.pinball99, "", theirs.pinball99, Target(at_most=0.057)),
        beside("interval score of the band", ours.interval95, "", theirs.interval95, Target(at_most=5.5)),
        Result(name=f"relMAE paired with the {REFERENCE}", value=paired.relmae, unit="", target=Target(at_most=0.97)),
        Result(
            name=f"pinball paired with the {REFERENCE}", value=paired.pinball99, unit="", target=Target(at_most=0.97)
        ),
        beside(
            "hours above the threshold, median series",
            100 * ours.exceedance_median,
            "%",
            100 * theirs.exceedance_median,
            Target(at_least=0.8, at_most=1.2),
        ),
        beside(
            "hours above the threshold, 90th percentile of series",
            100 * ours.exceedance_p90,
            "%",
            100 * theirs.exceedance_p90,
            Target(at_most=1.7),
        ),
        beside(
            "series with 0.4 to 2 % of hours above the threshold",
            100 * ours.honest_share,
            "%",
            100 * theirs.honest_share,
            Target(at_least=92),
        ),
        beside(
            "hours inside the band, median series",
            100 * ours.coverage_median,
            "%",
            100 * theirs.coverage_median,
            Target(at_least=94, at_most=96),
        ),
    ]


def _alert_results(found: Report) -> list[Result]:
    ours, rule = found.alert_line(OURS), found.alert_line(ALERT_REFERENCE)
    made = []
    for family, recall, f1 in (("latency", 0.82, 0.70), ("error", 0.93, 0.92)):
        mine, other = ours.families[family], rule.families[family]
        shipped, of_rule = mine.at_boundary, other.at_boundary
        figures = (
            (
                "recall at one false alarm a week",
                mine.recall(false_alarms_per_week=1.0),
                other.recall(false_alarms_per_week=1.0),
                Target(at_least=recall),
            ),
            ("best F1", mine.best_f1, other.best_f1, Target(at_least=f1)),
            ("recall as shipped", shipped.recall, of_rule.recall, Target(at_least=0.7)),
            (
                "false alarms a week as shipped",
                shipped.false_alarms_per_week,
                of_rule.false_alarms_per_week,
                Target(at_most=0.4),
            ),
        )
        made += [
            Result(
                name=f"alerts, {family}: {name}",
                value=value,
                unit="",
                reference=ALERT_REFERENCE,
                reference_value=reference,
                target=target,
            )
            for name, value, reference, target in figures
        ]
    made.append(
        Result(
            name="alarm runs a week on unlabelled series, as shipped",
            value=ours.unlabelled.per_week,
            unit="",
            reference=ALERT_REFERENCE,
            reference_value=rule.unlabelled.per_week,
            target=Target(at_most=1.0),
        )
    )
    return made


def _backtest(file: Path) -> Mapping[str, Mapping[int, Prediction]]:
    """With every setting at its default, whatever the environment says."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMARK_")}
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as folder:
        output = Path(folder) / "predictions.csv"
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", "backtest", str(file), "--output", str(output), "--json"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_DEADLINE_SECONDS,
        )
        if done.returncode:
            raise RuntimeError(f"tidemark backtest ended with {done.returncode}: {done.stderr[-2000:]}")
        return read_predictions(output)


def _table(found: Report) -> Table:
    """Tidemark and the references on all series, for a person."""
    made = Table("method", title="all series; the best threshold first", title_justify="left")
    for column in ("relMAE", "pinball", "interval", "above %", "p90", "honest %", "inside %", "paired", "pinball"):
        made.add_column(column, justify="right")
    rows = [(OURS, found.overall.ours, None), *((one.method, one.theirs, one.paired) for one in found.overall.lines)]
    for method, group, paired in rows:
        made.add_row(
            method,
            f"{group.relmae:.3f}",
            f"{group.pinball99:.3f}",
            f"{group.interval95:.2f}",
            f"{100 * group.exceedance_median:.2f}",
            f"{100 * group.exceedance_p90:.2f}",
            f"{100 * group.honest_share:.0f}",
            f"{100 * group.coverage_median:.1f}",
            "" if paired is None else f"{paired.relmae:.3f}",
            "" if paired is None else f"{paired.pinball99:.3f}",
        )
    return made
