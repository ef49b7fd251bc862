"""What a process loads before it answers: seconds of a restart are spent on imports, so what is not asked waits."""

import subprocess
import sys

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from benchmarks.context import ROOT
from state.migrate import newest_revision

# Each of these takes a tenth of a second to two seconds to load. Of scipy, numba reads the version.
_LATER = (
    "alembic",
    "apprise",
    "matplotlib",
    "opentelemetry.sdk.trace",
    "pyarrow",
    "river",
    "scipy.special",
    "sqlalchemy",
)


@pytest.mark.parametrize("process", ["stream.app", "api.app"])
def test_a_process_loads_nothing_heavy_that_only_few_ever_need(process: str) -> None:
    program = f"import sys, {process}; print([name for name in {_LATER!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True, text=True)
    assert loaded.stdout.strip() == "[]"


def test_the_newest_schema_is_known_without_loading_what_migrates() -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "state" / "migrations"))
    assert newest_revision() == ScriptDirectory.from_config(config).get_current_head()
