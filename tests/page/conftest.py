"""One Tidemark and one browser for all tests of the page; without Playwright there are no such tests."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.page.browsing import Visit

# Playwright is not among what `make setup` installs: `make test-page` adds it.
collect_ignore_glob = [] if find_spec("playwright") else ["test_*.py"]


@pytest.fixture(scope="session")
def tidemark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a whole Tidemark that has learned half a thousand subjects.

    PAGE_URL names one that runs already (`python -m tests.page FOLDER`), for work on the page.
    """
    from tests.page.living import living

    running = os.environ.get("PAGE_URL")
    if running:
        yield running
        return
    with living(tmp_path_factory.mktemp("living")) as here:
        yield here.url


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    from tests.page.browsing import launched

    with launched() as running:
        yield running


@pytest.fixture
def visitor(browser: "Browser", tidemark: str) -> Iterator["Visit"]:
    """A first look at the living Tidemark, wide and light; whatever the console said fails the test."""
    with _clean(browser, tidemark) as here:
        yield here


@contextmanager
def _clean(browser: "Browser", url: str) -> Iterator["Visit"]:
    from tests.page.browsing import visit

    with visit(browser, url) as here:
        yield here
        here.assert_clean()
