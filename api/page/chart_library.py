"""uPlot, out of the wheel that carries it: found without importing it, and refused unless it is the very one."""

import hashlib
from collections.abc import Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from detection.errors import SettingsError

# Importing the package would need IPython, which nothing else here does.
CARRIER: Final = "uplot-python"

# The name here, the path in the wheel, and the SHA-256 of uPlot 1.6.16 as version 1.1.1 of the wheel carries it.
PINNED: Final[Mapping[str, tuple[str, str]]] = {
    "uPlot.js": ("uplot/static/uPlot.iife.js", "655bc8aa33781e8721c5af6b59f1699c03c9bda951aa74a6ab518ac20cc4326d"),
    "uPlot.css": ("uplot/static/uPlot.min.css", "3f121cd4a997b634e07a887658850018e475c26f0bddd874109a8d382c19de87"),
}


def chart_library(carrier: Distribution | None = None) -> dict[str, bytes]:
    """The files of the charting library by their names here; SettingsError names the one that is missing or another."""
    installed = _installed() if carrier is None else carrier
    return {name: _checked(installed, path, digest) for name, (path, digest) in PINNED.items()}


def _installed() -> Distribution:
    try:
        return distribution(CARRIER)
    except PackageNotFoundError as error:
        raise SettingsError(f"{CARRIER} is not installed, and the page draws with it: {_REPAIR}") from error


def _checked(installed: Distribution, path: str, digest: str) -> bytes:
    file = Path(str(installed.locate_file(path)))
    try:
        body = file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{file} cannot be read, and the page draws with it ({error}): {_REPAIR}") from error
    found = hashlib.sha256(body).hexdigest()
    if found != digest:
        raise SettingsError(
            f"{file} is not the file that the page was built with: its SHA-256 is {found}, not {digest}: {_REPAIR}"
        )
    return body


_REPAIR: Final = f"install the locked version of {CARRIER} again (`make setup`)"
