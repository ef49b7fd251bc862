"""The operator's line, on standard output: once for each telling."""

import sys
from collections.abc import Sequence
from typing import TextIO

from stream.channels.channel import DeliveryError, Telling


class LineChannel:
    """Writes to `output`, standard output where none is named; logs go to standard error, so the two stay apart."""

    at_once = 1000
    parallel = 1
    timeout_seconds = 10.0
    repeat_ms = None

    def __init__(self, output: TextIO | None = None) -> None:
        self._output = output

    async def tell(self, tellings: Sequence[Telling]) -> None:
        output = sys.stdout if self._output is None else self._output
        try:
            output.write("".join(f"{one.line}\n" for one in tellings))
            output.flush()
        except (OSError, ValueError) as error:
            # Nobody reads it any more, or it was closed.
            raise DeliveryError(f"standard output: {error}") from error

    async def aclose(self) -> None:
        """Standard output stays open."""
