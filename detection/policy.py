"""The few numbers that decide how a subject's events become thresholds: settings, as the pure core sees them."""

from dataclasses import dataclass, field

from detection.challengers.selection import Selection
from detection.hours import HOUR_MS, SECOND_MS

# A silent series is published for this long; then its last answer stands, and is stale.
PUBLISHED_SILENCE_HOURS = 30 * 24


@dataclass(frozen=True, slots=True)
class Policy:
    """How windows close, how series are judged; durations in milliseconds or hours as named."""

    close_after_ms: int = 60 * SECOND_MS
    grace_ms: int = HOUR_MS
    stale_after_hours: int = 24
    zone: str = "UTC"
    coverage: float = 0.99
    min_calls: int = 5
    selection: Selection = field(default_factory=Selection)

    def closed_before(self, clock_ms: int) -> int:
        """Hours since the epoch below which every window is closed when the clock shows `clock_ms`."""
        return (clock_ms - self.close_after_ms) // HOUR_MS

    def learned_before(self, watermark_ms: int) -> int:
        """Hours since the epoch below which every window is learned when this is the newest event's time."""
        return (watermark_ms - max(self.grace_ms, self.close_after_ms)) // HOUR_MS
