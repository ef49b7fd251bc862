"""The page where something is missing: nothing learned yet, servers away, a view that is gone, no such address."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, expect

from local.ports import free_port
from tests.page.browsing import Visit, visit
from tests.page.living import wait_until_serving
from tests.page.served import served
from tests.worker import WorkerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@contextmanager
def looking_at_nothing(browser: Browser) -> Iterator[Visit]:
    with ExitStack() as opened:
        url = opened.enter_context(served())
        yield opened.enter_context(visit(browser, url))


def test_a_tidemark_that_knows_nothing_says_what_to_do(browser: Browser) -> None:
    with looking_at_nothing(browser) as here:
        page = here.go()
        expect(page.get_by_role("heading", name="Nothing has been learned yet")).to_be_visible()
        expect(page.get_by_text("tidemark simulate")).to_be_visible()
        expect(page.get_by_text("make run")).to_be_visible()
        here.assert_accessible()
        here.assert_fits()
        here.picture("overview-empty-light")


def test_an_address_that_leads_nowhere_leads_back(browser: Browser) -> None:
    with looking_at_nothing(browser) as here:
        page = here.go("#/nowhere")
        expect(here.heading()).to_have_text("There is nothing here")
        page.get_by_role("link", name="To the overview").click()
        expect(page.get_by_role("heading", name="Nothing has been learned yet")).to_be_visible()


def test_a_view_that_cannot_be_loaded_says_so_and_the_others_work(browser: Browser) -> None:
    with looking_at_nothing(browser) as here:
        here.page.route("**/rules.js", lambda route: route.abort())
        page = here.go("#/rules")
        expect(page.get_by_text("This view could not be loaded")).to_be_visible()
        expect(page.get_by_role("button", name="Try again")).to_be_visible()
        page.get_by_role("link", name="Overview", exact=True).click()
        expect(page.get_by_role("heading", name="Nothing has been learned yet")).to_be_visible()


def test_a_script_that_was_changed_on_its_way_is_not_run(browser: Browser) -> None:
    """The digests in the page hold: a proxy, or a half-written deployment, cannot slip anything in."""

    def changed(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text() + "\n// changed")

    with looking_at_nothing(browser) as here:
        here.page.route("**/main.js", changed)
        here.page.goto(here.url)
        here.page.wait_for_load_state("networkidle")
        assert any("integrity" in complaint for complaint in here.complaints)
        assert here.page.locator("main h1").count() == 0


def test_with_every_server_away_each_view_says_so_and_goes_on_asking(browser: Browser, tmp_path: Path) -> None:
    away, port = free_port(), free_port()
    environment = {
        "TIDEMARK_HTTP_PORT": str(port),
        "TIDEMARK_REDIS_URL": f"redis://127.0.0.1:{away}/0",
        "TIDEMARK_POSTGRES_URL": f"postgresql://127.0.0.1:{away}/nothing",
        "TIDEMARK_KAFKA_BROKERS": f"127.0.0.1:{away}",
    }
    url = f"http://127.0.0.1:{port}"
    with WorkerProcess(environment, tmp_path / "api.log", ["-m", "cli.main", "api"]), visit(browser, url) as here:
        wait_until_serving(url)
        for view in ("", "alerts", "rules", "coverage"):
            page = here.go(f"#/{view}")
            expect(page.get_by_role("alert").first).to_be_visible()
            expect(here.heading()).to_be_attached()
        page = here.go("#/")
        expect(page.locator("#connection")).to_contain_text("No data")
        here.assert_accessible()
        here.picture("overview-away-light")
        with page.expect_response(lambda answer: "/overview" in answer.url, timeout=15_000) as asked:
            pass
        assert asked.value.status == 503
        page = here.go("#/pipeline")
        expect(page.get_by_text("away").first).to_be_visible()
        here.picture("pipeline-away-light")
