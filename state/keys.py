"""The only place where a key is built: schema version in front, the subject as the cluster's hash tag.

    tidemark:1:{biller:B1}                         what is known of the subject, and its open windows
    tidemark:1:{biller:B1}:average-response-time   one series: its answer and its last verdict
    tidemark:1:{biller:B1}:_models                 what was learned: a packed record for each series
    tidemark:1:{biller:B1}:_outbox                 learned windows on their way to the history
    tidemark:1:subjects                            every subject, in the order of its text
    tidemark:1:clock                               the newest event time of the whole stream
    tidemark:1:cohorts                             what the series of a cohort have in common, refreshed now and then
    tidemark:1:progress                            how far each partition is in the state, by source
    tidemark:1:alerting                            which subjects may have open alerts; a sorted set
    tidemark:1:notified                            what each target was last told of which alert, and who tells
    tidemark:1:rules                               the rules that people wrote, their revision, and changes on their way
    tidemark:1:rate:NAME                           how often an API key with a rate was used lately
    tidemark:1:log                                 which life of a topic is read, where topics were made anew
    tidemark:1:api-keys                            who may ask the API for what; digests, no keys
    tidemark:1:replayed                            which dead letters were sent back to the topic that they came from

No metric slug has an underscore, so no gauge of an observation event can be called like the outbox or the models; no
part of a subject has a brace or a colon (see `detection.subject`), so no subject can reach another one's keys.
"""

from collections.abc import Iterable
from typing import Final

from detection.subject import Subject

# Of the keys, and of the subject's own hash. Counted on when an older state is given up: programs of two versions then
# never read each other's keys. A series has a version of its own, of which two are readable (`state.series_codec`).
SCHEMA: Final = 1

_ROOT: Final = f"tidemark:{SCHEMA}:"

SUBJECTS: Final = f"{_ROOT}subjects"
CLOCK: Final = f"{_ROOT}clock"
COHORTS: Final = f"{_ROOT}cohorts"
PROGRESS: Final = f"{_ROOT}progress"
LOG: Final = f"{_ROOT}log"
ALERTING: Final = f"{_ROOT}alerting"
NOTIFIED: Final = f"{_ROOT}notified"
RULES: Final = f"{_ROOT}rules"
API_KEYS: Final = f"{_ROOT}api-keys"
REPLAYED: Final = f"{_ROOT}replayed"

# What the ACL of a reader is given.
PATTERN: Final = f"{_ROOT}*"


def rate_key(name: str) -> str:
    """How often a key was used in the window that `name` ends with; gone when the window is over."""
    return f"{_ROOT}rate:{name}"


def subject_key(subject: Subject) -> str:
    """The hash of a subject.

    >>> subject_key(Subject.biller("B1"))
    'tidemark:1:{biller:B1}'
    """
    return f"{_ROOT}{{{subject}}}"


def series_key(subject: Subject, slug: str) -> str:
    """The hash of one series of the subject."""
    return f"{_ROOT}{{{subject}}}:{slug}"


def series_keys(subject: Subject, slugs: Iterable[str]) -> list[str]:
    """The hashes of some series of the subject."""
    begin = f"{subject_key(subject)}:"
    return [begin + slug for slug in slugs]


def models_key(subject: Subject) -> str:
    """The hash of what the subject's series have learned, by metric slug."""
    return f"{_ROOT}{{{subject}}}:_models"


def outbox_key(subject: Subject) -> str:
    """The hash of the subject's learned windows that the history is not yet known to have."""
    return f"{_ROOT}{{{subject}}}:_outbox"
