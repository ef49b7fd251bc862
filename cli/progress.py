"""How far a long command has come, on stderr: nothing for one that is soon done."""

import time
from collections.abc import Callable, Mapping
from typing import Self, TextIO

_SECONDS_WITHOUT = 2.0


class Progress:
    """A line for each kind of work, shown from two seconds after its beginning on.

    `totals` are the units of work by what they are called, None where nobody knows; `clock` is a monotonic one, in
    seconds. `file` is stderr where None.
    """

    def __init__(
        self,
        totals: Mapping[str, int | None],
        *,
        is_shown: bool,
        clock: Callable[[], float] = time.monotonic,
        file: TextIO | None = None,
    ) -> None:
        from rich import progress
        from rich.console import Console

        self._progress = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            console=Console(file=file, stderr=file is None),
            disable=not is_shown,
        )
        self._tasks = {name: self._progress.add_task(name, total=total) for name, total in totals.items() if total != 0}
        self._clock = clock
        self._shown_at = clock() + _SECONDS_WITHOUT
        self._is_started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_started:
            self._progress.stop()

    def advance(self, name: str, units: int = 1) -> None:
        """So many units of this work are done."""
        self._progress.advance(self._tasks[name], units)
        if not self._is_started and self._clock() >= self._shown_at:
            self._is_started = True
            self._progress.start()
