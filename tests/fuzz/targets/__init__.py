"""What is fuzzed, by name: each target takes any bytes, and raises only where a promise is broken.

A target is a module with `check(data)`, which holds everything that is promised about these bytes against what the
program does with them, and `seeds()`, which are inputs to begin with. Modules are imported when they are asked for: the
fuzzer must be there before what it is to see.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[1]

# Of the processor: what one input of `longest` bytes may take, under a fuzzer and on a busy machine. What takes more
# than its length explains is how one message stops a worker.
MOST_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Target:
    """One decoder or a few of a kind; `words` are texts that a mutation of bytes would hardly come upon.

    `libraries` are packages outside of the project that are written in Python, parse the bytes and are watched too.
    """

    name: str
    longest: int
    words: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()

    @property
    def corpus(self) -> Path:
        """Inputs that between them reach everything that was ever reached, as small as they are known."""
        return FOLDER / "corpus" / self.name

    @property
    def found(self) -> Path:
        """Inputs that broke a promise once, each by the name of what was wrong."""
        return FOLDER / "found" / self.name

    def inputs(self) -> list[Path]:
        """All that is kept, in the order of their names."""
        folders = [folder for folder in (self.corpus, self.found) if folder.is_dir()]
        return sorted(path for folder in folders for path in folder.iterdir())

    def check(self) -> Callable[[bytes], None]:
        """The function that raises where a promise is broken; takes no longer than MOST_SECONDS."""
        check: Callable[[bytes], None] = import_module(f"{__name__}.{self.name}").check

        def timed(data: bytes) -> None:
            begun = time.process_time()
            check(data)
            seconds = time.process_time() - begun
            assert seconds < MOST_SECONDS, f"{len(data)} bytes took {seconds:.1f} s"

        return timed

    def seeds(self) -> Sequence[bytes]:
        """Inputs to begin with: what is sent and stored by rights, and what has a name among the wrongs."""
        seeds: Sequence[bytes] = import_module(f"{__name__}.{self.name}").seeds()
        return seeds


_NUMBERS: Final = (
    "1e400", "-0.0", "9223372036854775808", "18446744073709551616", "1e308", "5e-324", "NaN", "Infinity",
    "-1", "946684800000", "4102444800000", "253402300800000",
)  # fmt: skip
_TIMES: Final = (
    "2026-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00+23:59", "2000-01-01T00:00:00Z",
)  # fmt: skip
_CALL: Final = ('"biller_id":', '"timestamp":', '"latency_ms":', '"outcome":', '"status":', '"ok"', '"timeout"')
_NESTED: Final = ("[[[[[[[[", "]]]]]]]]", '{"a":{"a":{"a":', "\\u0000", "\\ud800", "\\udc00", "\\u202e")

TARGETS: Final = {
    one.name: one
    for one in (
        Target("calls", 2048, (*_CALL, '{"calls":[', *_NUMBERS, *_TIMES, *_NESTED)),
        Target(
            "observations",
            2048,
            ('"name":', '"version":', '"timestamp":', '"labels":{', '"drift":', *_NUMBERS, *_TIMES, *_NESTED),
        ),
        Target("states", 8192, ("null", "true", '"inf"', "0001-01-01T00:00:00Z", *_NUMBERS, *_TIMES)),
        Target("records", 4096),
        Target("exports", 8192, ('"packed":{', '"hashes":{', '"_models":{', *_NUMBERS, *_TIMES)),
        Target("outboxes", 4096, ("alert:", "history:", "published", '"judged":{', *_NUMBERS, *_TIMES)),
        Target("training", 2048, ("timestamp,value,count", '{"rows":[', *_CALL, *_NUMBERS, *_TIMES, *_NESTED)),
        Target(
            "rule_files",
            2048,
            ("rules:", "- id: ", "metric: ", "boundary: ", "window: ", "*a", "&a", "!!", "<<: ", ".nan", ".inf", "? "),
        ),
        Target(
            "calendars",
            2048,
            (
                "BEGIN:VCALENDAR", "END:VCALENDAR", "BEGIN:VEVENT", "END:VEVENT", "RRULE:FREQ=", "DTSTART", "DTEND",
                "DURATION:", "EXDATE", "RDATE", "RECURRENCE-ID", "TZID=", "VALUE=DATE", "BYDAY=", "COUNT=", "UNTIL=",
                "INTERVAL=", "X-WR-TIMEZONE:", "BEGIN:VTIMEZONE", "BEGIN:STANDARD", "TZOFFSETTO:",
            ),
            ("icalendar", "recurring_ical_events", "x_wr_timezone", "dateutil"),
        ),
        Target("letters", 2048, ('"origin":{', '"source":', '"reason":', '"value_base64":', '"value":', *_NUMBERS)),
        Target("texts", 512, ("biller:", "model:", "calls:", "{", "}", "\\", "*", "..", "\x00", "%2F", *_TIMES)),
    )
}  # fmt: skip
