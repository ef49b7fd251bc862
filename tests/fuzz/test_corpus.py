"""Every input that was ever worth keeping is checked again: it needs no fuzzer, and takes seconds."""

import pytest

from tests.fuzz.targets import TARGETS, Target

_KEPT_BYTES = 100_000


@pytest.fixture(params=list(TARGETS.values()), ids=list(TARGETS))
def target(request: pytest.FixtureRequest) -> Target:
    found: Target = request.param
    return found


def test_no_promise_is_broken_by_any_input_that_is_kept(target: Target) -> None:
    check = target.check()
    for seed in target.seeds():
        check(seed)
    for path in target.inputs():
        try:
            check(path.read_bytes())
        except Exception as error:
            error.add_note(f"the input is {path}")
            raise


def test_a_corpus_is_kept_and_stays_small(target: Target) -> None:
    sizes = [path.stat().st_size for path in target.inputs()]
    assert sizes
    assert sum(sizes) < _KEPT_BYTES
