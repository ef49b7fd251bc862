"""What a benchmark is given, and what its results are stamped with: where it ran, and on which code."""

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.progress import Progress

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Context:
    """The screen and the recorded data; a benchmark reports each of its parts through `part`."""

    console: Console
    progress: Progress
    examples: Path = ROOT / "examples"

    @contextmanager
    def part(self, description: str) -> Iterator[None]:
        """Shows `description` with a running clock for as long as the block lasts."""
        task = self.progress.add_task(description, total=None)
        try:
            yield
        finally:
            self.progress.update(task, total=1, completed=1)

    def say(self, text: str) -> None:
        """A line above the progress, for what a person watching wants to know meanwhile."""
        self.progress.console.print(text)


def machine() -> str:
    """Processor, cores, memory and Python, and nothing that names the host."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().total / _GIB
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{_processor()}, {cores} cores, {memory:.1f} GiB, {platform.system()} {platform.machine()}, {python}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or "unknown processor"


def commit(root: Path = ROOT) -> str:
    """The commit in short, with `-dirty` when the tree differs from it; results themselves do not count.

    `none` where there is no repository or no commit yet.
    """
    name = _git(root, "rev-parse", "--short=12", "HEAD")
    if not name:
        return "none"
    changed = _git(root, "status", "--porcelain", "--", ".", ":!benchmarks/results")
    return f"{name}-dirty" if changed else name


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
