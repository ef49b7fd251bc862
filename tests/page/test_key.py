"""The page of an API that asks who asks: it asks for a key, keeps it for the tab, and says when one is not taken."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, expect

from state.api_keys import new_key
from tests.memory_api import NOW_MS, MemoryApi
from tests.page.browsing import Visit, visit
from tests.page.served import served

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

KEPT, KEY = new_key("kim", ["read"], now_ms=NOW_MS)


async def _with_a_key(api: MemoryApi) -> None:
    await api.keys.keep(KEPT)


@contextmanager
def guarded(browser: Browser) -> Iterator[Visit]:
    with served(_with_a_key, auth="on") as url, visit(browser, url) as here:
        yield here


def test_a_page_that_nobody_let_in_asks_for_a_key_and_goes_on_with_it(browser: Browser) -> None:
    with guarded(browser) as here:
        page = here.go()
        dialog = page.get_by_role("dialog", name="Who asks?")
        expect(dialog).to_be_visible()
        here.assert_accessible()
        here.picture("key-light")
        dialog.get_by_label("API key").fill(KEY[:-1])
        dialog.get_by_role("button", name="Use this key").click()
        expect(dialog).to_contain_text("is not known")
        dialog.get_by_label("API key").fill(KEY)
        dialog.get_by_role("button", name="Use this key").click()
        expect(dialog).to_be_hidden()
        expect(page.get_by_role("heading", name="Nothing has been learned yet")).to_be_visible()
        page.reload()
        expect(page.get_by_role("heading", name="Nothing has been learned yet")).to_be_visible()
        expect(page.get_by_role("dialog")).to_have_count(0)
        kept = page.evaluate("JSON.stringify([Object.values(localStorage), document.cookie])")
        assert KEY not in kept, "a key outlives no tab"
