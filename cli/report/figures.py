"""All figures of a report, plain values from which its page is written and which it carries along as JSON."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from cli.report.series import Incident, ReportedSeries, SeriesFigures, WouldBeAlert
from detection.backtest import Tally
from detection.claim import Claim, held, together
from detection.evaluation import geometric_mean
from detection.hours import WEEK_HOURS
from detection.rules.book import DEFAULT_RULES

SCHEMA = 1
"""Grows when a field of the JSON changes its meaning or goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What was run. `seconds` and `made_at` are None where the report is to be the same at every run."""

    file: str
    sha256: str
    bytes: int
    rows: int
    series_in_file: int
    patterns: tuple[str, ...]
    settings: dict[str, str]
    version: str
    command: str
    made_at: str | None
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFigures:
    """Would-be alerts of a group, and what they found where hours are labelled.

    `unfloored` is how many there would be without the floors of the rules, `unevidenced` how many if any number of
    calls made an hour credible. `per_series_week` counts them per 168 judged hours. `incidents` are the labelled ones,
    of `labelled_series`; `false` the alerts of these series that came near none, and `delay_median` the median delay of
    those found, hours.
    """

    count: int
    unfloored: int
    unevidenced: int
    per_series_week: float | None
    labelled_series: int
    incidents: int
    found: int
    already_open: int
    missed: int
    false: int
    false_per_series_week: float | None
    delay_median: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFigures:
    """Series together: shares over all their hours; of the relative ones the geometric mean over the series.

    `pinball` and `skill_pooled` are those of `detection.backtest.Tally`, in which a series of large values counts for
    more than one of small values. `skill` is 1 - the geometric mean of the series' relative errors. `kept` counts the
    series whose own interval holds the claim, `more` and `fewer` those with more and with fewer exceedances than that.
    """

    name: str
    unit: str
    series: int
    judged_series: int
    hours: int
    judged_share: float
    claim: Claim
    inside_claimed: float
    inside: float | None
    pinball: float | None
    skill_pooled: float | None
    relative_pinball: float | None
    skill: float | None
    kept: int
    more: int
    fewer: int
    alerts: AlertFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """`series` are ordered the worst first (see `worst_first`)."""

    schema: int
    run: Run
    begin: str
    end: str
    total: GroupFigures
    metrics: tuple[GroupFigures, ...]
    cohorts: tuple[GroupFigures, ...]
    rules: tuple[tuple[str, str, int], ...]
    series: tuple[SeriesFigures, ...]


def figures_of(run: Run, series: Sequence[ReportedSeries]) -> Figures:
    """Of at least one series."""
    alerts = [alert for one in series for alert in one.figures.alerts]
    return Figures(
        schema=SCHEMA,
        run=run,
        begin=min(one.figures.begin for one in series),
        end=max(one.figures.end for one in series),
        total=_group("all series", series),
        metrics=_groups(series, lambda one: one.figures.metric),
        cohorts=_groups(series, lambda one: one.figures.cohort),
        rules=tuple(
            (rule.id, rule.description, sum(alert.rule == rule.id for alert in alerts)) for rule in DEFAULT_RULES
        ),
        series=tuple(one.figures for one in worst_first(series)),
    )


def worst_first(series: Iterable[ReportedSeries]) -> list[ReportedSeries]:
    """Those with more exceedances than claimed by how many times too many these are at least, then by skill.

    What was not judged is last: nothing is known of it.
    """
    return sorted(series, key=lambda one: _badness(one.figures))


def gravest(alerts: Iterable[WouldBeAlert]) -> list[WouldBeAlert]:
    """The highest score first."""
    return sorted(alerts, key=lambda alert: (-alert.worst, alert.opened, alert.series))


def _badness(figures: SeriesFigures) -> tuple[int, float, float, str]:
    claim, skill = figures.claim, figures.skill
    if claim.low is None:
        return (2, 0.0, 0.0, figures.name)
    excess = claim.low / claim.claimed if claim.standing == "more than claimed" else 0.0
    return (0 if excess else 1, -excess, 1.0 if skill is None else skill, figures.name)


def _groups(series: Sequence[ReportedSeries], key: Callable[[ReportedSeries], str]) -> tuple[GroupFigures, ...]:
    return tuple(_group(name, [one for one in series if key(one) == name]) for name in sorted(set(map(key, series))))


def _group(name: str, series: Sequence[ReportedSeries]) -> GroupFigures:
    figures = [one.figures for one in series]
    units = {one.unit for one in figures}
    claim = held(figures[0].claim.claimed, together([one.days for one in series]))
    tally = Tally(series[0].trace.tally.share)
    for one in series:
        tally.include(one.trace.tally)
    hours = sum(one.hours for one in figures)
    inside = [(one.inside, one.claim.judged) for one in figures if one.inside is not None]
    standings = [one.claim.standing for one in figures]
    relative_error = _typical(one.relative_error for one in figures)
    return GroupFigures(
        name=name,
        unit=units.pop() if len(units) == 1 else "",
        series=len(figures),
        judged_series=sum(one.claim.judged > 0 for one in figures),
        hours=hours,
        judged_share=claim.judged / hours,
        claim=claim,
        inside_claimed=figures[0].inside_claimed,
        inside=sum(share * count for share, count in inside) / claim.judged if claim.judged else None,
        pinball=tally.pinball,
        skill_pooled=tally.skill,
        relative_pinball=_typical(one.relative_pinball for one in figures),
        skill=None if relative_error is None else 1.0 - relative_error,
        kept=standings.count("kept"),
        more=standings.count("more than claimed"),
        fewer=standings.count("fewer than claimed"),
        alerts=_alerts(figures, claim.judged),
    )


def _typical(ratios: Iterable[float | None]) -> float | None:
    known = [one for one in ratios if one is not None]
    return geometric_mean(known) if known else None


def _alerts(figures: Sequence[SeriesFigures], judged: int) -> AlertFigures:
    labelled = [one for one in figures if one.is_labelled]
    incidents: list[Incident] = [incident for one in labelled for incident in one.incidents]
    outcomes = [incident.outcome for incident in incidents]
    delays = [incident.delay_hours for incident in incidents if incident.delay_hours is not None]
    count = sum(len(one.alerts) for one in figures)
    false = sum(alert.is_false is True for one in labelled for alert in one.alerts)
    judged_labelled = sum(one.claim.judged for one in labelled)
    return AlertFigures(
        count=count,
        unfloored=sum(one.unfloored_alerts for one in figures),
        unevidenced=sum(one.unevidenced_alerts for one in figures),
        per_series_week=count * WEEK_HOURS / judged if judged else None,
        labelled_series=len(labelled),
        incidents=len(incidents),
        found=outcomes.count("found"),
        already_open=outcomes.count("already open"),
        missed=outcomes.count("missed"),
        false=false,
        false_per_series_week=false * WEEK_HOURS / judged_labelled if judged_labelled else None,
        delay_median=median(delays) if delays else None,
    )
