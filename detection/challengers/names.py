"""What forecasters are called: a selection is read without loading River, which takes seconds."""

from collections.abc import Iterable
from typing import Final

from detection.errors import SettingsError

# The name of the model that every series has and that is not in this package.
DEFAULT: Final = "default"
# How each of these is put together is in `registry.CHALLENGERS`.
NAMES: Final = ("holt-winters", "snarimax", "ewa")


def checked_name(name: str, names: Iterable[str]) -> str:
    """The name itself; SettingsError unless it is one of these."""
    valid = list(names)
    if name not in valid:
        raise SettingsError(f"{name[:80]!r} is no forecaster that can be selected; valid are {', '.join(valid)}")
    return name
