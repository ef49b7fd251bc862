"""How tests look at the page: a browser, what it complained about, axe-core's findings, and pictures to look at."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

CHROMIUM: Final = "/usr/bin/chromium"
# Where screenshots go; git does not keep them, CI does.
PICTURES: Final = Path(__file__).parents[2] / "artefacts" / "page"
Theme = Literal["light", "dark"]
THEMES: Final[tuple[Theme, ...]] = ("light", "dark")
WIDE: Final = (1360, 860)
NARROW: Final = (360, 740)

_FLAGS: Final = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_PATIENCE_MS: Final = 15_000
# What hurts people; the rest of axe's findings is advice.
_GRAVE: Final = {"serious", "critical"}


@contextmanager
def launched() -> Iterator[Browser]:
    """Debian's Chromium without a window, which reaches nothing but what it is sent to."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS, headless=True)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """One look at the page: a browser context of its own, and what its console said."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    def go(self, hash_: str = "#/") -> Page:
        """Show a view, as its address does, and wait until it stands."""
        self.page.goto(f"{self.url}/{hash_}")
        expect(self.page.locator("main h1")).to_be_attached()
        return self.page

    def heading(self) -> Locator:
        """The view's title."""
        return self.page.locator("main h1")

    def rows(self) -> Locator:
        """The rows of the overview that are elements now."""
        return self.page.locator(".grid-body [role=row]:not([hidden])")

    def cells(self, column: str) -> list[str]:
        """The texts of one column of the overview, from the top of what is drawn."""
        rows: list[str] = self.page.evaluate(
            """(column) => [...document.querySelectorAll('.grid-body [role=row]:not([hidden])')]
                .sort((one, other) => one.getAttribute('aria-rowindex') - other.getAttribute('aria-rowindex'))
                .map((row) => row.querySelector(`[data-column="${column}"]`)?.textContent ?? '')""",
            column,
        )
        return rows

    def focused(self) -> str:
        """The text of what has the focus."""
        text: str = self.page.evaluate("document.activeElement.textContent")
        return text

    def assert_clean(self) -> None:
        """Nothing was said on the console, and nothing failed to load."""
        assert self.complaints == []

    def assert_accessible(self) -> None:
        """axe-core finds nothing serious or critical in what is shown now."""
        found = Axe().run(self.page).response["violations"]
        grave = [_finding(one) for one in found if one["impact"] in _GRAVE]
        assert not grave, "\n".join(grave)

    def assert_fits(self) -> None:
        """The page does not scroll sideways."""
        width, room = self.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert width <= room, f"{width} pixels of content in {room}"

    def picture(self, name: str) -> Path:
        """Keep what is shown as `artefacts/page/NAME.png`."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        path = PICTURES / f"{name}.png"
        self.page.screenshot(path=path)
        return path


@contextmanager
def visit(
    browser: Browser,
    url: str,
    *,
    theme: Theme = "light",
    size: tuple[int, int] = WIDE,
    reduced_motion: bool = True,
) -> Iterator[Visit]:
    """A visitor who was never here before. Times are shown in UTC, so that pictures of the same data are the same."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=theme,
        reduced_motion="reduce" if reduced_motion else "no-preference",
        locale="en-GB",
        timezone_id="UTC",
    )
    context.set_default_timeout(_PATIENCE_MS)
    expect.set_options(timeout=_PATIENCE_MS)
    try:
        here = Visit(context.new_page(), url)
        here.page.on("console", lambda message: _listen(here, message))
        here.page.on("pageerror", lambda error: here.complaints.append(f"error: {error}"))
        yield here
    finally:
        context.close()


def _listen(here: Visit, message: ConsoleMessage) -> None:
    if message.type in {"error", "warning"}:
        here.complaints.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")


def _finding(violation: dict[str, Any]) -> str:
    places = ", ".join(str(node["target"]) for node in violation["nodes"][:5])
    return f"{violation['id']} ({violation['impact']}): {violation['help']}: {places}"
