"""A subject's view in a real browser: what its charts show, that they can be used, and what people do from there."""

import re
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.page.browsing import NARROW, THEMES, Theme, Visit, visit

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

# One of the crowd whose last minutes are slow, one to which nothing happens, and one that learned for weeks before.
SLOW = "energy-003"
SCHOOLED = "biller-003"
CALM = "water-002"
MODEL = "model:Llama/v1"
METRICS = ("Average response time", "Error rate", "Timeout error rate")


def test_every_metric_has_its_chart_its_threshold_and_the_reason_for_it(visitor: Visit, tidemark: str) -> None:
    page = visitor.go(f"#/subject/biller%3A{SLOW}")
    expect(visitor.heading()).to_have_text(SLOW)
    for number, name in enumerate(METRICS, 1):
        panel = _panel(page, name)
        expect(panel.locator("canvas")).to_be_visible()
        answer = _post(tidemark, f"/metrics/predict/{number}/{SLOW}")
        expect(panel.locator(".answer-threshold strong")).to_have_text(_shown(answer["threshold"], answer["unit"]))
        expect(panel.locator(".answer-sentence")).to_contain_text("is normal in the hour from")
        expect(panel.locator(".answer-sentence time")).to_have_attribute("title", re.compile(r" UTC$"))
        panel.get_by_text("What it is made of").click()
        expect(panel.locator(".shares li").first).to_contain_text("%")


def test_the_table_has_every_hour_of_the_range_with_the_threshold_that_stood_before_it(
    visitor: Visit, tidemark: str
) -> None:
    [series] = _get(tidemark, "/thresholds", prefix=SCHOOLED, metric="error-rate")["thresholds"]
    last = datetime.fromisoformat(series["last_window"])
    points = [
        one
        for one in _points(tidemark, f"biller:{SCHOOLED}", "error-rate")
        if last - timedelta(days=7) < datetime.fromisoformat(one["window_start"]) < last
    ]
    assert {one["origin"] for one in points} == {"live", "train"}
    page = visitor.go(f"#/subject/biller%3A{SCHOOLED}")
    panel = _panel(page, "Error rate")
    panel.get_by_role("button", name="Show as table").click()
    rows = panel.get_by_role("table").locator("tbody tr")
    # Above them are the hour that is the next to close, and the one that late calls may still change.
    expect(rows).to_have_count(len(points) + 2)
    expect(rows.nth(0)).to_contain_text("next to close")
    expect(rows.nth(1)).to_contain_text("just closed")
    newest = points[-1]
    cells = rows.nth(2).locator("td")
    expect(cells.nth(0)).to_have_text(_shown(newest["value"]))
    expect(cells.nth(5)).to_have_text(_shown(newest["threshold"]))
    for verdict, count in _verdicts(points).items():
        expect(rows.filter(has=page.locator("td:last-child", has_text=re.compile(f"^{verdict}$")))).to_have_count(count)


def test_dragging_zooms_all_charts_and_one_button_resets_them(visitor: Visit) -> None:
    page = visitor.go(f"#/subject/biller%3A{SCHOOLED}")
    first, second = _panel(page, METRICS[0]), _panel(page, METRICS[1])
    expect(first.locator(".claims h3")).to_be_visible()
    second.get_by_role("button", name="Show as table").click()
    rows = second.get_by_role("table").locator("tbody tr")
    expect(rows).not_to_have_count(0)
    before = rows.count()
    first.locator(".u-over").scroll_into_view_if_needed()
    area = first.locator(".u-over").bounding_box()
    assert area is not None
    page.mouse.move(area["x"] + area["width"] * 0.4, area["y"] + area["height"] / 2)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.6, area["y"] + area["height"] / 2, steps=5)
    page.mouse.up()
    expect(second.get_by_role("button", name="Reset zoom")).to_be_visible()
    assert 0 < rows.count() < before / 2
    second.get_by_role("button", name="Reset zoom").click()
    expect(first.get_by_role("button", name="Reset zoom")).to_be_hidden()
    expect(rows).to_have_count(before)


def test_the_keyboard_reads_hour_by_hour_and_zooms(visitor: Visit) -> None:
    page = visitor.go(f"#/subject/biller%3A{SCHOOLED}")
    panel = _panel(page, METRICS[0])
    expect(panel.locator("canvas")).to_be_visible()
    panel.get_by_role("application").focus()
    said = []
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
        said.append(panel.locator(".chart-readout").text_content())
    assert len(set(said)) == len(said)
    assert "threshold >" in (said[-1] or "")
    expect(panel.locator("[aria-live=polite]").first).to_have_text(said[-1] or "")
    page.keyboard.press("+")
    expect(panel.get_by_role("button", name="Reset zoom")).to_be_visible()
    page.keyboard.press("0")
    expect(panel.get_by_role("button", name="Reset zoom")).to_be_hidden()


def test_a_window_is_excluded_and_taken_back(visitor: Visit, tidemark: str) -> None:
    points = _points(tidemark, f"biller:{CALM}", "error-rate")
    hour = points[-10]["window_start"]
    page = visitor.go(f"#/subject/biller%3A{CALM}?range=all")
    expect(_panel(page, METRICS[1]).locator("canvas")).to_be_visible()
    page.get_by_role("button", name="Exclude a window").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("From").fill(hour[:16])
    dialog.get_by_label("To").fill(hour[:14] + "59")
    dialog.get_by_label("Reason").fill("maintenance of the line")
    dialog.get_by_label("Your name").fill("kim")
    dialog.get_by_role("button", name="Exclude", exact=True).click()
    expect(dialog).to_be_hidden()
    listed = page.locator(".exclusions li", has_text="maintenance of the line")
    expect(listed).to_contain_text("1 hour")
    assert [one["excluded"] for one in _points(tidemark, f"biller:{CALM}", "error-rate")].count(True) == 1
    panel = _panel(page, METRICS[1])
    panel.get_by_role("button", name="Show as table").click()
    expect(panel.get_by_role("row").filter(has_text="excluded")).to_have_count(1)
    listed.get_by_role("button", name="Take back").click()
    page.get_by_role("dialog").get_by_role("button", name="Take back").click()
    expect(page.get_by_text("Nothing is excluded")).to_be_visible()
    assert _get(tidemark, f"/billers/{CALM}/exclusions")["total"] == 0


def test_an_exclusion_that_cannot_be_says_why_and_keeps_what_was_written(visitor: Visit) -> None:
    page = visitor.go(f"#/subject/biller%3A{CALM}")
    page.get_by_role("button", name="Exclude a window").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("From").fill("2026-03-03T12:00")
    dialog.get_by_label("To").fill("2026-03-03T09:00")
    dialog.get_by_label("Reason").fill("the wrong way round")
    dialog.get_by_label("Your name").fill("kim")
    dialog.get_by_role("button", name="Exclude", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("is not after `from`")
    expect(dialog.get_by_label("To")).to_have_attribute("aria-invalid", "true")
    expect(dialog.get_by_label("Reason")).to_have_value("the wrong way round")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("button", name="Exclude a window")).to_be_focused()
    # The browser itself tells of every answer that is no success.
    assert all("422" in one for one in visitor.complaints)
    visitor.complaints.clear()


def test_how_often_the_claim_held_is_told_as_a_sentence_and_as_a_picture(visitor: Visit, tidemark: str) -> None:
    [known] = _get(tidemark, "/coverage", subject=f"biller:{SCHOOLED}", metric="error-rate", span="week")["series"]
    page = visitor.go(f"#/subject/biller%3A{SCHOOLED}")
    week = _panel(page, "Error rate").locator(".claim-list li", has_text="Last week")
    expect(week).to_contain_text(f"{known['exceeded']} of {known['judged']} hours went beyond the threshold")
    expect(week.get_by_role("img")).to_have_attribute("aria-label", re.compile(r"^claimed 1\s%, observed "))


def test_a_part_that_is_away_says_so_and_the_others_stand(browser: Browser, tidemark: str) -> None:
    with visit(browser, tidemark) as here:
        here.page.route("**/history?**", lambda route: route.fulfill(status=503, json=AWAY))
        page = here.go(f"#/subject/biller%3A{SLOW}")
        panel = _panel(page, METRICS[0])
        expect(panel.get_by_role("alert")).to_contain_text("Something that the answer needs is away")
        expect(panel.locator(".answer-threshold strong")).to_contain_text("ms")
        here.page.unroute("**/history?**")
        panel.get_by_role("button", name="Try again").click()
        expect(panel.locator("canvas")).to_be_visible()


def test_a_model_is_shown_as_a_biller_is_and_a_stranger_is_told_apart(visitor: Visit) -> None:
    page = visitor.go(f"#/subject/{MODEL.replace(':', '%3A').replace('/', '%2F')}")
    panel = _panel(page, "Prediction accuracy")
    expect(panel.locator("canvas")).to_be_visible()
    expect(panel.locator(".answer-threshold")).to_contain_text("Normal down to")
    expect(panel.locator(".chart-legend")).to_contain_text("Below its threshold")
    visitor.go("#/subject/biller%3Anobody-knows-it")
    expect(page.get_by_role("heading", name="Nothing is known of it yet")).to_be_visible()


@pytest.mark.parametrize("theme", THEMES)
def test_it_is_accessible_and_fits_at_any_width(browser: Browser, tidemark: str, theme: Theme) -> None:
    for size, name in (((1360, 2900), f"subject-{theme}"), ((NARROW[0], 2600), f"subject-narrow-{theme}")):
        with visit(browser, tidemark, theme=theme, size=size) as here:
            page = here.go(f"#/subject/biller%3A{SCHOOLED}")
            for metric in METRICS:
                expect(_panel(page, metric).locator("canvas")).to_be_visible()
                expect(_panel(page, metric).locator(".claims h3")).to_be_visible()
            here.picture(name)
            _panel(page, METRICS[0]).get_by_role("button", name="Show as table").click()
            here.assert_accessible()
            here.assert_fits()
            here.assert_clean()


AWAY = {
    "type": "urn:tidemark:problem:dependency-unavailable",
    "title": "Something that the answer needs is away",
    "status": 503,
    "detail": "PostgreSQL does not answer",
    "instance": "/history",
}


def _panel(page: Page, metric: str) -> Locator:
    heading = page.get_by_role("heading", level=2).filter(has_text=re.compile(rf"^{metric}"))
    return page.locator("section.metric").filter(has=heading)


def _points(url: str, subject: str, metric: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _get(url, "/history", subject=subject, metric=metric, limit=10_000)["points"]
    return found


def _verdicts(points: list[dict[str, Any]]) -> dict[str, int]:
    judged = [one for one in points if one["estimate"] is not None]
    beyond = [one for one in judged if one["exceeded"]]
    credible = [one for one in beyond if one["credible"]]
    return {
        "not judged": len(points) - len(judged),
        "normal": len(judged) - len(beyond),
        "beyond its threshold": len(credible),
        "beyond, too few calls": len(beyond) - len(credible),
    }


def _shown(number: float, unit: str = "") -> str:
    """As the page writes a number: four digits, thousands apart."""
    text = f"{number:,.0f}" if abs(number) >= 1000 else f"{float(f'{number:.4g}'):,.10g}"
    return f"{text}\u00a0{unit}" if unit else text


def _get(url: str, path: str, **params: Any) -> Any:
    answer = httpx.get(f"{url}{path}", params=params, trust_env=False, timeout=30)
    answer.raise_for_status()
    return answer.json()


def _post(url: str, path: str) -> Any:
    return httpx.post(f"{url}{path}", trust_env=False, timeout=30).json()
