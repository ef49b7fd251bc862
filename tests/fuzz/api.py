"""The whole API against its own description: `python -m tests.fuzz.api --cases 50000 --seed 71`.

Schemathesis sends what /openapi.json allows and what it does not, to a Tidemark that `tests.fuzz.served_api` starts,
with a key that may do everything and with one that may look at a few subjects. Whatever is answered with another
status, media type or shape than is described, with a 5xx, or without a key, is a finding.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fuzz.served_api import ServedApi, served_api
from tests.worker import ROOT

_CONFIG: Final = Path(__file__).with_name("schemathesis.toml")
_ALL_PHASES: Final = "examples,coverage,fuzzing,stateful"


@dataclass(frozen=True, slots=True)
class Finding:
    """The end of one run: how many cases were sent, how many broke what is described, and what was printed of them."""

    cases: int
    with_failures: int
    is_complete: bool
    said: str

    @property
    def is_clean(self) -> bool:
        """Whether all was sent and nothing was found."""
        return self.is_complete and self.with_failures == 0


def assail(  # one parameter an option of the run
    here: ServedApi,
    folder: Path,
    *,
    key: str,
    seed: int,
    each: int,
    phases: str = _ALL_PHASES,
) -> Finding:
    """Send `each` random cases to every endpoint, beside those that its description names; the same seed, the same."""
    report, config = folder / f"report-{seed}.json", folder / "schemathesis.toml"
    config.write_text(_CONFIG.read_text().replace("[ALERT_IDS]", json.dumps(here.alert_ids)))
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config), "run", "--no-color"]
    command += [f"{here.url}/openapi.json", "--phases", phases, "--seed", str(seed), "--max-examples", str(each)]
    command += ["--report", "json", "--report-json-path", str(report)]
    environment = {**os.environ, "API_KEY": key, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    # A run that could not begin leaves no report, or an empty one.
    if not report.exists() or not report.stat().st_size:
        raise RuntimeError(f"schemathesis ended with {ended.returncode} and no report: {ended.stdout[-2000:]}")
    told = json.loads(report.read_text())
    sent = told["test_cases"]
    is_complete = told["complete"] and ended.returncode == 0 and not sent["errored"]
    return Finding(sent["generated"], sent["with_failures"], is_complete, ended.stdout)


def main() -> None:
    """Start a Tidemark, send as many cases as are wanted, and end with 1 where anything was found."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="tidemark-fuzz-") as name:
        folder = Path(name)
        with served_api(folder) as here:
            total, seed, each, phases = 0, arguments.seed, arguments.each, _ALL_PHASES
            while total < arguments.cases:
                found = assail(here, folder, key=here.admin_key, seed=seed, each=each, phases=phases)
                sys.stdout.write(found.said)
                total += found.cases
                sys.stdout.write(f"{total} cases up to seed {seed}\n")
                if not found.is_clean:
                    sys.exit(1)
                # What the description names was sent; what is drawn is another with each seed.
                seed, phases = seed + 1, "fuzzing,stateful"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=50_000, help="How many requests at least.")
    parser.add_argument("--each", type=int, default=300, help="How many random ones for each endpoint and seed.")
    parser.add_argument("--seed", type=int, default=71, help="The first seed.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
