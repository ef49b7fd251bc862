"""The embedded stack for tests, one for each test process; a plugin, so that only tests that ask for it start it."""

from collections.abc import Iterator

import pytest

from local.stack import Stack
from settings import Settings


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Shared: a test that needs an empty topic, database or schema names its own, and restarts no server."""
    with Stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture
def stack_settings(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a process that belongs to the shared stack."""
    return settings_of(stack, monkeypatch)


def settings_of(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As the worker and the API of this stack would read them; the environment is restored after the test."""
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    return Settings()
