"""A short coverage-guided run of each target: new code is looked at before somebody runs `make fuzz` for longer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

_ROOT = Path(__file__).parents[2]
_SECONDS = int(os.environ.get("FUZZ_SECONDS", "20"))


@pytest.mark.fuzz
@pytest.mark.timeout(_SECONDS + 300)
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_new_is_found_in_a_short_time(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz.guided", name, "--seconds", str(_SECONDS)]
    folders = ["--corpus", str(tmp_path / "corpus"), "--crashes", str(tmp_path / "crashes")]
    done = subprocess.run(
        [*command, *folders], cwd=_ROOT, capture_output=True, text=True, errors="replace", check=False
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert "number_of_executed_units" in done.stderr
