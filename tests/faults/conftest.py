"""The history's server, shared by all runs of a test process: each run has a database of its own on it."""

from collections.abc import Iterator

import pytest

from local.postgres import Postgres


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("history"))
    server.start()
    yield server
    server.stop()
