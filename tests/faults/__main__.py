"""Runs of the command line: `python -m tests.faults --seed 17 --runs 1`."""

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path

from local.postgres import Postgres
from tests.faults.brokers import Apache, Embedded
from tests.faults.soak import soak


def main() -> int:
    """0 when every run has ended as its quiet run."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description="Real workers, a seeded stream, a seeded schedule of faults: the end must be that of a quiet run.",
    )
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--runs", type=int, default=200, help="how many seeds, from the first one on (default: 200)")
    parser.add_argument("--lanes", type=int, default=4, help="runs at a time, each with its own servers (default: 4)")
    parser.add_argument("--folder", type=Path, help="for servers and logs (default: a new one)")
    parser.add_argument("--apache", action="store_true", help="Apache Kafka in place of the embedded broker")
    parser.add_argument("--verbose", action="store_true", help="show every run as if it had failed, and keep its logs")
    options = parser.parse_args()
    # What the driver's own clients say while their broker is away is what was asked for.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="tidemark-faults-"))).resolve()
    postgres = Postgres(folder)
    postgres.start()
    try:
        seeds = range(options.seed, options.seed + options.runs)
        lanes = min(options.lanes, options.runs)
        summary = asyncio.run(
            soak(
                seeds,
                folder=folder,
                postgres_url=postgres.url,
                lanes=lanes,
                with_servers=Apache if options.apache else Embedded,
                say=_say,
                is_verbose=options.verbose,
            )
        )
    finally:
        postgres.stop()
    _say(str(summary))
    return 1 if summary.failed else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
