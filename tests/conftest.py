"""What holds for every test: nothing from outside leaks in, and CI takes a skipped test for a failed one."""

import os
from collections.abc import Generator

import pytest
from _pytest.terminal import TerminalReporter

from settings import PREFIX

pytest_plugins = ["tests.stack"]

IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, None, None]:
    yield
    if IN_CI and _skipped(session.config) and session.exitstatus == pytest.ExitCode.OK:
        # A skipped test in CI is a tool that CI should have installed: it proves nothing, so it must not look green.
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    if IN_CI and (count := _skipped(config)):
        terminalreporter.write_line(f"{count} skipped: in CI that is a failure, install what they need", red=True)


def _skipped(config: pytest.Config) -> int:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return len(reporter.getreports("skipped")) if isinstance(reporter, TerminalReporter) else 0
