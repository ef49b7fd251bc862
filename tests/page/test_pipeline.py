"""The pipeline's view in a real browser: what came, how far behind, what was refused."""

import json
import re
from datetime import UTC, datetime

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.page.browsing import NARROW, THEMES, Theme, Visit, visit

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def test_it_shows_every_topic_and_dependency_and_the_series_by_status(visitor: Visit, tidemark: str) -> None:
    known = httpx.get(f"{tidemark}/pipeline", trust_env=False).json()
    page = visitor.go("#/pipeline")
    for name in ("Kafka", "Redis", "PostgreSQL"):
        expect(page.locator(".plain li", has_text=name)).to_contain_text("up")
    table = page.get_by_role("table", name="Topics", exact=True)
    partitions = sum(len(topic["partitions"]) for topic in known["topics"])
    expect(table.locator("tbody tr.is-part")).to_have_count(partitions)
    expect(table.get_by_role("rowheader", name="calls")).to_be_visible()
    ready = known["series"]["ready"]
    expect(page.get_by_text(f"{ready:,} ready")).to_be_visible()
    expect(page.locator(".tile", has_text="Rate")).to_contain_text(re.compile(r"\d"))


def test_a_refused_event_is_shown_with_its_reason_and_its_place(visitor: Visit, tidemark: str) -> None:
    """The API refuses what it can see is wrong; what is too late only the worker knows."""
    long_ago = {"biller_id": "bank-001", "timestamp": "2026-03-03T00:10:00Z", "latency_ms": 5.0, "outcome": "ok"}
    sent = httpx.post(f"{tidemark}/events/calls", content=json.dumps([long_ago]), trust_env=False)
    assert sent.status_code == httpx.codes.ACCEPTED, sent.text
    page = visitor.go("#/pipeline")
    letters = page.get_by_role("table", name="Newest dead letters")
    expect(letters.get_by_role("row").filter(has_text="bank-001").first).to_be_visible(timeout=60_000)
    row = letters.get_by_role("row").filter(has_text="bank-001").first
    expect(row).to_contain_text("late")
    expect(row).to_contain_text(re.compile(r"calls/\d"))
    year = str(datetime.now(UTC).year)
    expect(row.locator("time")).to_have_attribute("title", re.compile(rf"^{year}-.* UTC$"))


@pytest.mark.parametrize("theme", THEMES)
def test_it_is_accessible_and_fits_at_any_width(browser: Browser, tidemark: str, theme: Theme) -> None:
    for size, name in (((1360, 1000), f"pipeline-{theme}"), (NARROW, f"pipeline-narrow-{theme}")):
        with visit(browser, tidemark, theme=theme, size=size) as here:
            page = here.go("#/pipeline")
            expect(page.get_by_role("table", name="Topics")).to_be_visible()
            here.assert_accessible()
            here.assert_fits()
            here.picture(name)
            here.assert_clean()
