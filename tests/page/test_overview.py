"""The overview in a real browser: searched, sorted and filtered, by hand and by keyboard, wide and narrow."""

import re

import pytest
from playwright.sync_api import Browser, expect

from tests.page.browsing import NARROW, THEMES, Theme, Visit, visit

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def test_every_subject_is_in_the_list_and_few_of_them_are_elements(visitor: Visit, tidemark: str) -> None:
    page = visitor.go()
    expect(page.get_by_role("status").filter(has_text=re.compile(r"^\d{3} subjects$"))).to_be_visible()
    table = page.get_by_role("table", name="Subjects")
    assert int(table.get_attribute("aria-rowcount") or 0) > 500
    assert 5 < visitor.rows().count() < 60
    assert visitor.rows().first.get_attribute("aria-rowindex") == "2"


def test_what_alerts_stands_first_and_says_so_in_words(visitor: Visit) -> None:
    visitor.go()
    expect(visitor.page.locator(".tile", has_text="Alerting").locator(".tile-value")).not_to_have_text("0")
    ranks = [{"info": 1, "warning": 2, "critical": 3}.get(alert, 0) for alert in visitor.cells("alert")]
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[0] > 0
    # Not of all: who is silent, or is what a rule with a number is about, need not be beyond what was learned.
    assert any("beyond the threshold" in distance for distance in visitor.cells("nearest"))


def test_lines_of_the_last_hours_come_for_the_rows_in_sight(visitor: Visit) -> None:
    visitor.go()
    expect(visitor.rows().nth(3).locator("svg.sparkline")).to_be_visible()


def test_a_press_anywhere_in_a_row_opens_its_subject(visitor: Visit) -> None:
    page = visitor.go()
    expect(page.get_by_text(re.compile(r"^\d{3} subjects$"))).to_be_visible()
    row = visitor.rows().nth(2)
    box = row.bounding_box()
    assert box
    row.click(position={"x": box["width"] * 0.8, "y": box["height"] / 2})
    page.wait_for_url(re.compile("#/subject/"))


def test_scrolling_to_the_end_shows_the_last_subject(visitor: Visit) -> None:
    page = visitor.go()
    expect(page.get_by_text(re.compile(r"^\d{3} subjects$"))).to_be_visible()
    page.locator(".grid-scroll").evaluate("(scroll) => { scroll.scrollTop = scroll.scrollHeight }")
    count = int(page.get_by_role("table", name="Subjects").get_attribute("aria-rowcount") or 0)
    expect(page.locator(f".grid-body [aria-rowindex='{count}']")).to_be_in_viewport()


def test_a_search_leaves_what_matches_and_is_kept_in_the_address(visitor: Visit) -> None:
    page = visitor.go()
    page.keyboard.press("/")
    page.keyboard.type("bank-00")
    expect(page.get_by_text(re.compile(r"^9 of \d+ subjects$"))).to_be_visible()
    assert all(name.startswith("bank-00") for name in visitor.cells("subject"))
    assert page.url.endswith("#/?q=bank-00")
    page.reload()
    expect(page.get_by_text(re.compile(r"^9 of \d+ subjects$"))).to_be_visible()
    expect(page.get_by_label("Search subjects")).to_have_value("bank-00")


def test_what_nothing_matches_offers_the_way_back(visitor: Visit) -> None:
    page = visitor.go("#/?q=no-such-biller")
    expect(page.get_by_role("heading", name="No subject matches")).to_be_visible()
    page.get_by_role("button", name="Clear search and filters").click()
    expect(visitor.rows().first).to_be_visible()
    assert page.url.endswith("#/")


def test_kinds_and_tiles_filter(visitor: Visit) -> None:
    page = visitor.go()
    page.get_by_role("button", name="Models").click()
    expect(page.get_by_text(re.compile(r"^6 of \d+ subjects$"))).to_be_visible()
    assert page.get_by_role("columnheader", name="Drift").is_visible()
    page.get_by_role("button", name=re.compile("^All")).click()
    alerting = page.get_by_role("button", name="Alerting")
    alerting.click()
    expect(alerting).to_have_attribute("aria-pressed", "true")
    assert set(visitor.cells("alert")) <= {"critical", "warning", "info"}
    alerting.click()
    expect(alerting).to_have_attribute("aria-pressed", "false")


def test_every_head_sorts_both_ways_and_says_which(visitor: Visit) -> None:
    page = visitor.go()
    expect(page.get_by_text(re.compile(r"^\d{3} subjects$"))).to_be_visible()
    head = page.get_by_role("columnheader", name="Subject")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    names = visitor.cells("subject")
    assert names == sorted(names)
    assert names[0] == "bank-001"
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    speed = page.get_by_role("columnheader", name="Response time")
    speed.get_by_role("button").click()
    expect(speed).to_have_attribute("aria-sort", "descending")
    slowest = [float(text.split("\u00a0")[0].replace(",", "")) for text in visitor.cells("average-response-time")]
    assert slowest == sorted(slowest, reverse=True)
    expect(head).to_have_attribute("aria-sort", "none")


def test_the_keyboard_walks_the_rows_and_opens_one(visitor: Visit) -> None:
    page = visitor.go()
    expect(page.get_by_text(re.compile(r"^\d{3} subjects$"))).to_be_visible()
    first, second = visitor.cells("subject")[:2]
    page.keyboard.press("j")
    assert visitor.focused() == first
    page.keyboard.press("ArrowDown")
    assert visitor.focused() == second
    page.keyboard.press("k")
    assert visitor.focused() == first
    for _ in range(40):
        page.keyboard.press("j")
    expect(page.locator(".grid-body a:focus")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"#/subject/"))


def test_g_and_a_letter_goes_to_a_view_and_its_title_has_the_focus(visitor: Visit) -> None:
    page = visitor.go()
    page.keyboard.press("g")
    page.keyboard.press("p")
    expect(page.get_by_role("heading", level=1, name="Pipeline")).to_be_focused()
    expect(page.get_by_role("link", name="Pipeline")).to_have_attribute("aria-current", "page")
    page.keyboard.press("g")
    page.keyboard.press("o")
    expect(page.get_by_role("heading", level=1, name="Overview")).to_be_focused()


def test_help_opens_and_escape_closes_it(visitor: Visit) -> None:
    page = visitor.go()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard and help")
    expect(dialog).to_be_visible()
    visitor.assert_accessible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_the_theme_that_was_chosen_is_remembered(visitor: Visit) -> None:
    page = visitor.go()
    background = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Switch between light and dark").click()
    dark = page.evaluate(background)
    assert dark != light
    page.reload()
    assert page.evaluate(background) == dark


def test_it_is_renewed_without_being_asked(visitor: Visit) -> None:
    page = visitor.go()
    with page.expect_response(lambda answer: "/overview?limit=1000" in answer.url, timeout=12_000) as asked:
        pass
    assert asked.value.ok
    expect(page.locator("#connection")).to_have_text("Live")


@pytest.mark.parametrize("theme", THEMES)
def test_it_is_accessible_and_fits_at_any_width(browser: Browser, tidemark: str, theme: Theme) -> None:
    with visit(browser, tidemark, theme=theme) as wide:
        page = wide.go()
        expect(wide.rows().nth(3).locator("svg.sparkline")).to_be_visible()
        wide.assert_accessible()
        wide.assert_fits()
        wide.picture(f"overview-{theme}")
        wide.assert_clean()
    with visit(browser, tidemark, theme=theme, size=NARROW) as narrow:
        page = narrow.go()
        expect(narrow.rows().first).to_be_visible()
        narrow.assert_fits()
        narrow.assert_accessible()
        narrow.picture(f"overview-narrow-{theme}")
        page.get_by_role("link", name="Coverage").scroll_into_view_if_needed()
        narrow.assert_fits()
        narrow.assert_clean()
