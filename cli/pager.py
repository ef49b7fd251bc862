"""Long output, page by page where somebody reads it in a terminal: by the pager of the user's choice, else `less`."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import TextIO, cast

# As git does: leave what fits on the screen, show colours, do not fold lines, keep the screen.
_LESS = "FRSX"


def page(lines: Iterable[str]) -> None:
    """Print the lines; in a terminal, through a pager, which takes them as they are asked for."""
    command = _command() if sys.stdout.isatty() else []
    if not command:
        for line in lines:
            print(line)
        return
    environment = {"LESS": _LESS, **os.environ}
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, encoding="utf-8") as pager,
        # Whoever has seen enough leaves the pager.
        suppress(BrokenPipeError),
        cast(TextIO, pager.stdin) as screen,
    ):
        screen.writelines(f"{line}\n" for line in lines)


def _command() -> list[str]:
    """Empty where there is no pager."""
    words = shlex.split(os.environ.get("PAGER", "less"))
    return words if words and shutil.which(words[0]) else []
