"""The alerts' views in a real browser: what is open, what people do about it, and what was."""

import re
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.page.browsing import NARROW, THEMES, Theme, Visit, visit

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def test_every_open_alert_is_there_with_its_line_and_its_series(visitor: Visit, tidemark: str) -> None:
    known = _open(tidemark)
    page = visitor.go("#/alerts")
    expect(page.locator(".alert-card")).to_have_count(len(known))
    alert = known[0]
    card = _card(page, alert)
    card.get_by_text("The line that was sent").click()
    expect(card.locator("code")).to_have_text(alert["line"])
    card.get_by_role("link").first.click()
    expect(visitor.heading()).to_have_text(alert["subject"].partition(":")[2])


def test_they_can_be_searched_and_told_apart_by_severity(visitor: Visit, tidemark: str) -> None:
    known = _open(tidemark)
    metric = known[0]["metric"]
    same = [one for one in known if metric in f"{one['subject']} {one['metric']} {one['rule']} {one['line']}"]
    page = visitor.go("#/alerts")
    page.get_by_label("Search alerts").fill(metric)
    expect(page.locator(".alert-card")).to_have_count(len(same))
    page.get_by_label("Search alerts").fill("")
    page.get_by_label("Severity").select_option("info")
    expect(page.locator(".alert-card")).to_have_count(sum(one["severity"] == "info" for one in known))


def test_acknowledging_asks_for_the_name_once(visitor: Visit, tidemark: str) -> None:
    first, second = _open(tidemark)[:2]
    page = visitor.go("#/alerts")
    _card(page, first).get_by_role("button", name=re.compile("^Acknowledge")).click()
    dialog = page.get_by_role("dialog", name="Who are you?")
    dialog.get_by_label("Your name").fill("robin")
    dialog.get_by_role("button", name="Go on").click()
    expect(_card(page, first)).to_contain_text("taken by robin")
    _card(page, second).get_by_role("button", name=re.compile("^Acknowledge")).click()
    expect(_card(page, second)).to_contain_text("taken by robin")
    taken = {one["id"]: one.get("acknowledged_by") for one in _open(tidemark)}
    assert (taken[first["id"]], taken[second["id"]]) == ("robin", "robin")


def test_an_opinion_is_kept_and_can_be_changed(visitor: Visit, tidemark: str) -> None:
    alert = _open(tidemark)[-1]
    page = visitor.go("#/alerts")
    wrong = _card(page, alert).get_by_role("button", name=re.compile("^False alarm"))
    wrong.click()
    expect(wrong).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#notices")).to_contain_text("Noted: a false alarm")
    assert _of(tidemark, alert)["opinion"] == "false"
    right = _card(page, alert).get_by_role("button", name=re.compile("^Worth telling"))
    right.click()
    expect(right).to_have_attribute("aria-pressed", "true")
    expect(wrong).to_have_attribute("aria-pressed", "false")
    assert _of(tidemark, alert)["opinion"] == "true"


def test_the_window_of_an_alert_is_excluded_from_where_it_is_seen(visitor: Visit, tidemark: str) -> None:
    alert = next(one for one in _open(tidemark) if one["metric"] == "error-rate")
    path = f"/billers/{alert['subject'].partition(':')[2]}/exclusions"
    page = visitor.go("#/alerts")
    _card(page, alert).get_by_role("button", name=re.compile("^Exclude this window")).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Metric")).to_have_value("error-rate")
    expect(dialog.get_by_label("From")).to_have_value(alert["since"][:14] + "00")
    expect(dialog.get_by_label("Reason")).to_have_value(f"Alert of rule {alert['rule']}")
    dialog.get_by_label("Your name").fill("kim")
    dialog.get_by_role("button", name="Exclude", exact=True).click()
    expect(dialog).to_be_hidden()
    [made] = _get(tidemark, path)["exclusions"]
    assert (made["metric"], made["by"]) == ("error-rate", "kim")
    httpx.delete(f"{tidemark}{path}/{made['id']}", trust_env=False, timeout=30).raise_for_status()


def test_the_history_is_filtered_and_the_filter_is_in_the_address(visitor: Visit, tidemark: str) -> None:
    newest = _get(tidemark, "/alerts/history", limit=1)["alerts"][0]
    same = _get(tidemark, "/alerts/history", subject=newest["subject"], limit=1000)["alerts"]
    page = visitor.go("#/alerts/history")
    page.get_by_label("Subject").fill(newest["subject"])
    page.get_by_role("button", name="Filter").click()
    rows = page.get_by_role("table").locator("tbody tr")
    expect(rows).to_have_count(min(len(same), 50))
    assert "subject=" in page.url
    page.reload()
    expect(rows).to_have_count(min(len(same), 50))
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Rule").fill("nobody-wrote-it")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("heading", name="No alert was like this")).to_be_visible()


def test_older_alerts_come_page_by_page(visitor: Visit, tidemark: str) -> None:
    total = len(_get(tidemark, "/alerts/history", limit=1000)["alerts"])
    page = visitor.go("#/alerts/history")
    rows = page.get_by_role("table").locator("tbody tr")
    shown = 50
    while shown < total:
        expect(rows).to_have_count(shown)
        page.get_by_role("button", name="Older ones").click()
        shown = min(shown + 50, total)
    expect(rows).to_have_count(total)
    expect(page.get_by_role("button", name="Older ones")).to_be_hidden()


@pytest.mark.parametrize("theme", THEMES)
def test_they_are_accessible_and_fit_at_any_width(browser: Browser, tidemark: str, theme: Theme) -> None:
    for hash_, name in (("#/alerts", "alerts"), ("#/alerts/history", "alerts-history")):
        for size, suffix in (((1360, 1000), theme), (NARROW, f"narrow-{theme}")):
            with visit(browser, tidemark, theme=theme, size=size) as here:
                page = here.go(hash_)
                expect(page.locator(".alert-card, tbody tr").first).to_be_visible()
                here.picture(f"{name}-{suffix}")
                here.assert_accessible()
                here.assert_fits()
                here.assert_clean()


def _card(page: Page, alert: dict[str, Any]) -> Locator:
    return page.locator(f'.alert-card[data-key="{alert["id"]}"]')


def _open(url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _get(url, "/alerts")["alerts"]
    assert found, "the data has no open alert"
    return found


def _of(url: str, alert: dict[str, Any]) -> dict[str, Any]:
    return next(one for one in _open(url) if one["id"] == alert["id"])


def _get(url: str, path: str, **params: Any) -> Any:
    answer = httpx.get(f"{url}{path}", params=params, trust_env=False, timeout=30)
    answer.raise_for_status()
    return answer.json()
