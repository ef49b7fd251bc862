"""The whole error tree, split by what the caller can do about it.

TidemarkError
├── InputError                 mend the input, then send it again
│   ├── InvalidEventError          an event that cannot be a call or an observation
│   ├── InvalidObservationError    a value that cannot be learned
│   ├── InvalidSubjectError        a biller id, model name or version that cannot be a key
│   ├── UnknownMetricError         a metric type that the catalogue does not know
│   ├── InvalidRowError            a row of a data set that cannot be read
│   ├── InvalidRuleError           a rule that contradicts itself or cannot be read
│   ├── InvalidCalendarError       an iCalendar text that cannot be read, or that no subject can have
│   └── TooLargeError              more bytes, rows or depth than is taken
├── RetryError                 send the same again later
│   ├── ConflictError              another writer was faster, several times in a row
│   └── DependencyError            Kafka, Redis or PostgreSQL did not answer
└── OperatorError              a person must look
    ├── SettingsError              the process was told something it cannot run with
    ├── UnreadableStateError       stored state of another schema version, or damaged
    ├── LogRecreatedError          a topic ends before the offsets that were already learned
    └── RejectingEverythingError   nearly all events are refused: a bad deploy, upstream or here
"""

from collections.abc import Sequence


class TidemarkError(Exception):
    """Root of everything that Tidemark raises on purpose."""


class InputError(TidemarkError):
    """The caller can mend the input."""


class InvalidEventError(InputError):
    """An event that cannot be a call or an observation."""


class InvalidObservationError(InputError):
    """A value that cannot be learned."""


class InvalidSubjectError(InputError):
    """A biller id, model name or version that cannot be a key."""


class UnknownMetricError(InputError):
    """A metric type that the catalogue does not know."""


class InvalidRowError(InputError):
    """A row of a data set that cannot be read; names the row, counted from 1, and the field."""

    def __init__(self, row: int, field: str, reason: str) -> None:
        super().__init__(f"row {row}, {field}: {reason}")
        self.row = row
        self.field = field
        self.reason = reason


class InvalidCalendarError(InputError):
    """An iCalendar text that cannot be read, or that no subject can have; names the event."""


class InvalidRuleError(InputError):
    """A rule that contradicts itself or cannot be read; names the field.

    `faults` are all that is wrong, each with the way to it: names of fields, and places in lists from 0.
    """

    def __init__(self, text: str, faults: Sequence[tuple[tuple[str | int, ...], str]] = ()) -> None:
        super().__init__(text)
        self.faults = tuple(faults)


class TooLargeError(InputError):
    """More bytes, rows or depth than is taken."""


class RetryError(TidemarkError):
    """The same request may succeed later."""


class ConflictError(RetryError):
    """Another writer was faster, several times in a row."""


class DependencyError(RetryError):
    """Kafka, Redis or PostgreSQL did not answer; names which."""

    def __init__(self, dependency: str, reason: str) -> None:
        super().__init__(f"{dependency}: {reason}")
        self.dependency = dependency
        self.reason = reason


class OperatorError(TidemarkError):
    """A person must look."""


class SettingsError(OperatorError):
    """The process was told something that it cannot run with."""


class UnreadableStateError(OperatorError):
    """Stored state of another schema version, or damaged; names the key."""


class LogRecreatedError(OperatorError):
    """A topic ends before the offsets that were already learned from it."""


class RejectingEverythingError(OperatorError):
    """Nearly all events are refused."""
