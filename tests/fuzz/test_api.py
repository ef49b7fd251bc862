"""Schemathesis finds nothing in the API; `make fuzz-api` looks longer."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuzz.served_api import served_api

if TYPE_CHECKING:
    from tests.fuzz.served_api import ServedApi

pytestmark = [
    pytest.mark.fuzz,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(find_spec("schemathesis") is None, reason="needs schemathesis: `make test-fuzz` installs it"),
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[ServedApi]":
    with served_api(tmp_path_factory.mktemp("fuzzed")) as found:
        yield found


def test_every_answer_to_a_key_for_everything_is_as_described(here: "ServedApi", tmp_path: Path) -> None:
    from tests.fuzz.api import assail

    found = assail(here, tmp_path, key=here.admin_key, seed=1, each=10)
    assert found.is_clean, found.said[-10_000:]
    assert found.cases > 3000


def test_every_answer_to_a_key_for_a_few_subjects_is_as_described(here: "ServedApi", tmp_path: Path) -> None:
    from tests.fuzz.api import assail

    found = assail(here, tmp_path, key=here.limited_key, seed=2, each=10, phases="examples,fuzzing")
    assert found.is_clean, found.said[-10_000:]
