"""What every channel promises: to tell a few notices, or to say that it could not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from detection.rules.notice import Notice, Occasion, line_of, telling_id


class DeliveryError(Exception):
    """A target did not take what it was told; holds no URL and no secret. `wait_seconds` is what it asked for."""

    def __init__(self, reason: str, *, wait_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


@dataclass(frozen=True, slots=True)
class Telling:
    """One notice for one target; `at_ms` is now, in milliseconds since the epoch of the notifier's clock."""

    notice: Notice
    occasion: Occasion
    at_ms: int

    @property
    def id(self) -> str:
        """To recognise a second telling of the same by."""
        return telling_id(self.notice, self.occasion)

    @property
    def line(self) -> str:
        """As operators see it."""
        return line_of(self.notice, self.occasion)


class Channel(Protocol):
    """One target's way of being told; no two calls of `tell` are about the same alert at the same time."""

    @property
    def at_once(self) -> int:
        """Tellings that one call takes."""
        ...

    @property
    def parallel(self) -> int:
        """Calls that may be under way at a time."""
        ...

    @property
    def timeout_seconds(self) -> float:
        """After which a call is given up, and made again later."""
        ...

    @property
    def repeat_ms(self) -> int | None:
        """How often it is to be told again of every alert that is open; None for a channel that remembers."""
        ...

    async def tell(self, tellings: Sequence[Telling]) -> None:
        """Tell all of these; DeliveryError when any may not have arrived: all are then told again."""
        ...

    async def aclose(self) -> None:
        """Give back what it holds."""
        ...
