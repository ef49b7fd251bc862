"""The rules' view in a real browser: what is in force, tried over the history, changed, and refused."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.page.browsing import NARROW, THEMES, Theme, Visit, visit

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

FAILING: dict[str, Any] = {
    "id": "page-test",
    "metric": "error-rate",
    "condition": "higher than",
    "boundary": 5,
    "kind": "biller",
    "subject": "biller-0*",
    "window": {"n": 2, "m": 3},
    "severity": "critical",
    "owner": "payments",
    "notify": ["ops-chat"],
    "mute": [{"since": "22:00", "until": "06:00", "days": ["sat"], "zone": "Europe/Berlin"}],
}


@pytest.fixture
def rule(tidemark: str) -> Iterator[dict[str, Any]]:
    """One that somebody wrote, and that is gone afterwards."""
    httpx.put(f"{tidemark}/rules/page-test", json=FAILING, trust_env=False, timeout=30).raise_for_status()
    yield FAILING
    httpx.delete(f"{tidemark}/rules/page-test", trust_env=False, timeout=30)


def test_each_rule_says_what_it_watches_and_when_it_opens(visitor: Visit, tidemark: str, rule: dict[str, Any]) -> None:
    page = visitor.go("#/rules")
    expect(page.get_by_role("table").locator("tbody tr")).to_have_count(len(_rules(tidemark)))
    row = _row(page, rule["id"])
    for text in ("error-rate of biller-0*", "higher than 5", "2 of 3", "critical", "ops-chat", "22:00 – 06:00 sat"):
        expect(row).to_contain_text(text)
    row.get_by_role("button", name="Details of page-test").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("payments")
    expect(dialog.locator(".audit li").first).to_contain_text("created")


def test_a_dry_run_tells_which_alerts_there_would_have_been(
    visitor: Visit, tidemark: str, rule: dict[str, Any]
) -> None:
    known = httpx.post(f"{tidemark}/rules/dry-run", json=rule, trust_env=False, timeout=60).json()
    assert known["alerts_total"] > 0
    page = visitor.go("#/rules")
    _row(page, rule["id"]).get_by_role("button", name=re.compile("^Dry run")).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Run over the history").click()
    alerts = dialog.locator(".tile").filter(has_text="would have opened")
    expect(alerts.locator(".tile-value")).to_have_text(str(known["alerts_total"]), timeout=40_000)
    expect(dialog.get_by_role("table").locator("tbody tr")).to_have_count(min(known["alerts_total"], 200))
    expect(dialog.locator(".notes li").first).to_have_text(known["notes"][0])


def test_a_default_is_disabled_by_who_says_so_and_enabled_again(visitor: Visit, tidemark: str) -> None:
    page = visitor.go("#/rules")
    page.get_by_role("button", name="Disable biller-silent").click()
    dialog = page.get_by_role("dialog", name="Who are you?")
    dialog.get_by_label("Your name").fill("robin")
    dialog.get_by_role("button", name="Go on").click()
    expect(_row(page, "biller-silent")).to_contain_text("off")
    known = _rule(tidemark, "biller-silent")
    assert (known["rule"]["is_enabled"], known["by"]) == (False, "robin")
    page.get_by_role("button", name="Enable biller-silent").click()
    expect(page.get_by_role("button", name="Disable biller-silent")).to_be_visible()
    assert _rule(tidemark, "biller-silent")["rule"]["is_enabled"]
    httpx.delete(f"{tidemark}/rules/biller-silent", trust_env=False, timeout=30).raise_for_status()


def test_a_rule_is_edited_as_json_and_what_cannot_be_is_refused_fault_by_fault(
    visitor: Visit, tidemark: str, rule: dict[str, Any]
) -> None:
    page = visitor.go("#/rules")
    dialog = _edited(page, {**rule, "severity": "warn", "window": {"n": 3, "m": 2}})
    refused = dialog.get_by_role("alert")
    expect(refused).to_contain_text("severity")
    expect(refused).to_contain_text("did you mean `warning`?")
    dialog.get_by_label("Rule, as JSON").fill("{")
    dialog.get_by_role("button", name="Save").click()
    expect(refused).to_contain_text("This is no JSON")
    dialog.get_by_label("Rule, as JSON").fill(json.dumps({**rule, "severity": "warning", "boundary": 7}))
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_be_hidden()
    expect(_row(page, rule["id"])).to_contain_text("higher than 7")
    assert _rule(tidemark, rule["id"])["by"] == "kim"
    _clear(visitor, "422")


def test_a_change_of_somebody_else_is_never_overwritten(visitor: Visit, tidemark: str, rule: dict[str, Any]) -> None:
    page = visitor.go("#/rules")
    _row(page, rule["id"]).get_by_role("button", name=re.compile("^Edit")).click()
    other = {**rule, "boundary": 11}
    httpx.put(f"{tidemark}/rules/page-test", json=other, trust_env=False, timeout=30).raise_for_status()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Your name").fill("kim")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Somebody has changed this rule meanwhile")
    assert _rule(tidemark, rule["id"])["rule"]["boundary"] == 11
    _clear(visitor, "412")


def test_a_rule_is_written_anew_and_deleted(visitor: Visit, tidemark: str) -> None:
    page = visitor.go("#/rules")
    page.get_by_role("button", name="New rule").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Rule, as JSON").fill(json.dumps({**FAILING, "id": "page-test-new"}))
    dialog.get_by_label("Your name").fill("kim")
    dialog.get_by_role("button", name="Save").click()
    expect(_row(page, "page-test-new")).to_be_visible()
    page.get_by_role("button", name="Details of page-test-new").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_role("dialog", name="Delete page-test-new?").get_by_role("button", name="Delete").click()
    expect(_row(page, "page-test-new")).to_have_count(0)
    assert "page-test-new" not in {one["rule"]["id"] for one in _rules(tidemark)}


@pytest.mark.parametrize("theme", THEMES)
def test_they_are_accessible_and_fit_at_any_width(
    browser: Browser, tidemark: str, rule: dict[str, Any], theme: Theme
) -> None:
    for size, suffix in (((1360, 900), theme), (NARROW, f"narrow-{theme}")):
        with visit(browser, tidemark, theme=theme, size=size) as here:
            page = here.go("#/rules")
            expect(_row(page, rule["id"])).to_be_visible()
            here.picture(f"rules-{suffix}")
            here.assert_accessible()
            here.assert_fits()
            for action in ("Details of", "Edit", "Dry run of"):
                page.get_by_role("button", name=f"{action} page-test").click()
                expect(page.get_by_role("dialog")).to_be_visible()
                if action == "Dry run of":
                    page.get_by_role("dialog").get_by_role("button", name="Run over the history").click()
                    expect(page.get_by_role("dialog").locator(".notes")).to_be_visible(timeout=40_000)
                here.picture(f"rules-{action.split()[0].lower()}-{suffix}")
                here.assert_accessible()
                here.assert_fits()
                page.keyboard.press("Escape")
            here.assert_clean()


def _edited(page: Page, rule: dict[str, Any]) -> Locator:
    """The dialog after the rule was written into it and sent."""
    _row(page, rule["id"]).get_by_role("button", name=re.compile("^Edit")).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Rule, as JSON").fill(json.dumps(rule))
    dialog.get_by_label("Your name").fill("kim")
    dialog.get_by_role("button", name="Save").click()
    return dialog


def _row(page: Page, rule_id: str) -> Locator:
    named = page.get_by_role("button", name=f"Details of {rule_id}", exact=True)
    return page.locator("table.rules tbody tr").filter(has=named)


def _clear(visitor: Visit, status: str) -> None:
    """The browser itself tells of every answer that is no success: of these, and of nothing else."""
    assert visitor.complaints
    assert all(status in one for one in visitor.complaints), visitor.complaints
    visitor.complaints.clear()


def _rules(url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{url}/rules", trust_env=False, timeout=30).json()["rules"]
    return found


def _rule(url: str, rule_id: str) -> dict[str, Any]:
    return next(one for one in _rules(url) if one["rule"]["id"] == rule_id)
