"""The view of coverage in a real browser: what was claimed against what was observed, by cohort and by series."""

import re
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.page.browsing import NARROW, THEMES, Theme, Visit, visit

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def test_every_cohort_stands_with_its_claim_and_what_was_observed(visitor: Visit, tidemark: str) -> None:
    known = _cohorts(tidemark, "week")
    page = visitor.go("#/coverage")
    rows = page.get_by_role("table", name="Coverage of each cohort").locator("tbody tr")
    expect(rows).to_have_count(len(known))
    expect(rows.first.locator("td").nth(1)).to_have_text(f"{known[0]['judged']:,}")
    expect(rows.first.get_by_role("img")).to_have_attribute("aria-label", re.compile(r"^claimed 1\s%, observed "))


def test_the_series_furthest_from_their_claim_come_first_and_lead_to_their_subject(
    visitor: Visit, tidemark: str
) -> None:
    judged = [one for one in _all_series(tidemark, "week") if one["judged"]]
    beyond = [one for one in judged if one["interval"][0] > one["claimed_exceedance"]]
    page = visitor.go("#/coverage")
    rows = page.get_by_role("table", name="Series furthest from their claim").locator("tbody tr")
    expect(rows.first).to_be_visible()
    expect(rows.filter(has_text="too many beyond")).to_have_count(min(len(beyond), 50))
    subject = rows.first.get_by_role("link")
    name = subject.inner_text()
    subject.click()
    expect(visitor.heading()).to_have_text(name)


def test_another_span_asks_anew_and_is_kept_in_the_address(visitor: Visit, tidemark: str) -> None:
    known = _cohorts(tidemark, "day")
    page = visitor.go("#/coverage")
    page.get_by_role("button", name="Day").click()
    cell = page.get_by_role("table", name="Coverage of each cohort").locator("tbody tr").first.locator("td").nth(1)
    expect(cell).to_have_text(f"{known[0]['judged']:,}")
    page.reload()
    expect(page.get_by_role("button", name="Day")).to_have_attribute("aria-pressed", "true")
    expect(cell).to_have_text(f"{known[0]['judged']:,}")


@pytest.mark.parametrize("theme", THEMES)
def test_it_is_accessible_and_fits_at_any_width(browser: Browser, tidemark: str, theme: Theme) -> None:
    for size, suffix in (((1360, 1500), theme), (NARROW, f"narrow-{theme}")):
        with visit(browser, tidemark, theme=theme, size=size) as here:
            _cohorts(tidemark, "week")
            page = here.go("#/coverage")
            expect(page.get_by_role("table")).to_have_count(2)
            here.picture(f"coverage-{suffix}")
            here.assert_accessible()
            here.assert_fits()
            here.assert_clean()


@retry(retry=retry_if_exception_type(AssertionError), stop=stop_after_delay(400), wait=wait_fixed(1), reraise=True)
def _cohorts(url: str, span: str) -> list[dict[str, Any]]:
    """Those in which any hour was judged, once a worker has summed them up."""
    found = [one for one in _get(url, "/coverage/cohorts", span=span)["cohorts"] if one["judged"]]
    assert found
    return found


def _get(url: str, path: str, **params: Any) -> Any:
    answer = httpx.get(f"{url}{path}", params=params, trust_env=False, timeout=30)
    answer.raise_for_status()
    return answer.json()


def _all_series(url: str, span: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = _get(url, "/coverage", span=span, limit=1000, cursor=cursor)
        found += page["series"]
        cursor = page["next_cursor"]
        if not cursor:
            return found
