"""A state as lines of JSON: a header, a line for each subject, a trailer; each with a check, so damage has a place.

    {"what":"tidemark-state","format":1,"schema":1,"log_id":"kafka","is_partial":false,"progress":{...},"shared":{...},…}
    {"subject":"biller:B1","schema":1,"hashes":{"":{...},"error-rate":{...}},"packed":{"_models":{...}},"check":"…"}
    {"subjects":1,"digest":"…","check":"…"}

A subject's line has its hashes field by field, as `redis-cli` shows them, by the last part of their key; what is no
text, the records of the models above all, is in `packed` as base64. `check` is a hash of the rest of its line, `digest`
of the checks of all lines before it, so that one that is missing, doubled or moved is noticed. The same state gives the
same lines.

The header says how far the sources were *before* the first subject was read: everything before is in the lines, and
what a subject has beyond that is in its own `offsets`.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from detection.errors import InputError, TidemarkError, UnreadableStateError
from detection.policy import Policy
from detection.subject import Subject
from detection.subject_state import SubjectState
from state.codec import decode
from state.keys import SCHEMA, models_key, outbox_key, series_key, subject_key
from state.outbox_codec import decode_alert_history, decode_announcements, decode_outbox
from state.redis_progress import decode_progress, encode_progress
from state.store import Reached

FORMAT: Final = 1

# Parts of a subject, by the last part of their key.
OWN: Final = ""
MODELS: Final = "_models"
OUTBOX: Final = "_outbox"

_WHAT: Final = "tidemark-state"
_CHECK: Final = b',"check":"'
_CHECK_DIGITS: Final = 16
_END: Final = b'"}\n'
_TAIL: Final = len(_CHECK) + _CHECK_DIGITS + len(_END)

Fields = dict[bytes, bytes]
# The hashes of one subject by their part, without those that are empty.
Parts = dict[str, Fields]


@dataclass(frozen=True, slots=True)
class Header:
    """Of which state the lines are: `shared` are the hashes that belong to no subject, by a name of their own.

    A file that `is_partial` has some of the subjects only, and its progress is that of all.
    """

    log_id: str
    written: str
    is_partial: bool = False
    progress: Mapping[str, Reached] = field(default_factory=dict)
    shared: Mapping[str, Fields] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Exported:
    """One subject of a file: its line's number, from 1, and its hashes."""

    line: int
    subject: Subject
    parts: Parts

    @property
    def rev(self) -> int:
        """How often it was written."""
        return int(self.parts[OWN][b"rev"])

    @property
    def watermark_ms(self) -> int:
        """The time of its newest event, -1 before the first."""
        return int(self.parts[OWN][b"watermark_ms"])

    def state(self, policy: Policy) -> SubjectState:
        """The state that these hashes are, every record read; raises InputError that names the line."""
        subject, parts = self.subject, self.parts
        series = {part: fields for part, fields in parts.items() if part not in {OWN, MODELS, OUTBOX}}
        try:
            state = decode(subject, parts[OWN], series, parts.get(MODELS, {}), policy)
            for slug in list(state.models):
                _ = state.models[slug]
            _ = dict(state.minutes)
            outbox = parts.get(OUTBOX, {})
            for read in (decode_outbox, decode_announcements, decode_alert_history):
                read(subject, outbox)
        except (UnreadableStateError, KeyError) as error:
            raise _refused(self.line, str(error)) from error
        return state


def keys_of(subject: Subject, parts: Iterable[str]) -> list[str]:
    """The keys of these parts of a subject."""
    known = {OWN: subject_key(subject), MODELS: models_key(subject), OUTBOX: outbox_key(subject)}
    return [known[part] if part in known else series_key(subject, part) for part in parts]


def with_check(said: Mapping[str, Any]) -> bytes:
    """A line that says this, with its check and its line end."""
    text = orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
    return text[:-1] + _CHECK + _check(text) + _END


def check_of(line: bytes) -> str:
    """The check that stands in a line of `with_check`."""
    return line[-len(_END) - _CHECK_DIGITS : -len(_END)].decode("ascii", "replace")


def said_of(line: bytes) -> dict[str, Any] | None:
    """What a line of `with_check` says; None where its check is another, or what is checked is no object."""
    text = line[:-_TAIL] + b"}"
    if line != text[:-1] + _CHECK + _check(text) + _END:
        return None
    try:
        said = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return said if isinstance(said, dict) else None


class Writer:
    """Makes the lines of one file, each with its line end, in this order: header, subjects, trailer."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._subjects = 0

    def header(self, header: Header) -> bytes:
        """The first line."""
        progress = {source.decode(): text.decode() for source, text in encode_progress(header.progress).items()}
        said = {
            "what": _WHAT,
            "format": FORMAT,
            "schema": SCHEMA,
            "log_id": header.log_id,
            "written": header.written,
            "is_partial": header.is_partial,
            "progress": progress,
        }
        return self._line(said | _split("shared", header.shared))

    def subject(self, subject: Subject, parts: Mapping[str, Fields]) -> bytes:
        """A subject's line."""
        self._subjects += 1
        return self._line({"subject": str(subject), "schema": SCHEMA} | _split("hashes", parts))

    def kept(self, check: str) -> None:
        """A subject's line comes here that was made before, with this check."""
        self._subjects += 1
        self._digest.update(check.encode())

    def trailer(self) -> bytes:
        """The last line."""
        return self._line({"subjects": self._subjects, "digest": self._digest.hexdigest()})

    def _line(self, said: Mapping[str, Any]) -> bytes:
        line = with_check(said)
        self._digest.update(check_of(line).encode())
        return line


class Reader:
    """Reads the lines of one file; InputError names the line that is damaged, missing, or of another schema version."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self._digest = hashlib.sha256()
        self._number = 0
        self.header = self._read_header()

    def subjects(self) -> Iterator[Exported]:
        """Each subject in the order of the file; what is said of them holds only when the last one was taken.

        The trailer is checked behind the last one.
        """
        count = 0
        seen_last = ""
        while True:
            before = self._digest.hexdigest()
            said = self._next()
            if "subject" not in said:
                break
            one = self._exported(said)
            if str(one.subject) <= seen_last:
                raise _refused(self._number, f"{one.subject} is not behind {seen_last}, as it must be")
            seen_last = str(one.subject)
            count += 1
            yield one
        if (said.get("subjects"), said.get("digest")) != (count, before):
            raise _refused(self._number, f"lines are missing or changed: {count} of {said.get('subjects')} subjects")
        if next(self._lines, b""):
            raise _refused(self._number + 1, "something follows behind the last line")

    def _exported(self, said: Mapping[str, Any]) -> Exported:
        if said.get("schema") != SCHEMA:
            raise _refused(self._number, f"has schema {said.get('schema')!r}, this program reads {SCHEMA}")
        try:
            subject = Subject.parse(str(said["subject"]))
            return Exported(self._number, subject, _joined("hashes", said))
        except (AttributeError, KeyError, TypeError, ValueError, binascii.Error, TidemarkError) as error:
            raise _refused(self._number, f"is no subject's: {error!r}") from error

    def _read_header(self) -> Header:
        said = self._next()
        if said.get("what") != _WHAT:
            raise _refused(1, "this is no file of `tidemark state export`")
        if (said.get("format"), said.get("schema")) != (FORMAT, SCHEMA):
            raise _refused(
                1,
                f"has format {said.get('format')!r} and schema {said.get('schema')!r}, "
                f"this program reads format {FORMAT} and schema {SCHEMA}",
            )
        try:
            progress = {source.encode(): text.encode() for source, text in said["progress"].items()}
            return Header(
                str(said["log_id"]),
                str(said["written"]),
                bool(said["is_partial"]),
                decode_progress(progress),
                _joined("shared", said),
            )
        except (AttributeError, KeyError, TypeError, ValueError, UnreadableStateError) as error:
            raise _refused(1, f"is no header: {error!r}") from error

    def _next(self) -> dict[str, Any]:
        try:
            line = next(self._lines, b"")
        # What the libraries that unpack files raise for a damaged one.
        except (EOFError, OSError, ValueError) as error:
            raise _refused(self._number + 1, f"the file cannot be unpacked further: {error}") from error
        self._number += 1
        if not line.endswith(b"\n"):
            raise _refused(self._number, "the file ends here, without its last line")
        said = said_of(line)
        if said is None:
            what = "is damaged" if self._number > 1 else "is damaged, or no line of `tidemark state export`"
            raise _refused(self._number, f"{what}: its check is another")
        self._digest.update(check_of(line).encode())
        return said


def _check(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_CHECK_DIGITS // 2).hexdigest().encode()


def _refused(line: int, why: str) -> InputError:
    return InputError(f"line {line:,}: {why}")


def _split(name: str, hashes: Mapping[str, Fields]) -> dict[str, dict[str, dict[str, str]]]:
    """Text apart from what is none; all of the models is none, so that a record never looks different by chance."""
    texts: dict[str, dict[str, str]] = {}
    packed: dict[str, dict[str, str]] = {}
    for part, fields in hashes.items():
        for field_name, value in fields.items():
            text = None if part == MODELS else _text(value)
            if text is None:
                packed.setdefault(part, {})[field_name.decode()] = base64.b64encode(value).decode()
            else:
                texts.setdefault(part, {})[field_name.decode()] = text
    return {name: texts, "packed": packed}


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _joined(name: str, said: Mapping[str, Any]) -> Parts:
    parts: Parts = {}
    for part, fields in said[name].items():
        parts.setdefault(part, {}).update({key.encode(): value.encode() for key, value in fields.items()})
    for part, fields in said["packed"].items():
        found = {key.encode(): base64.b64decode(value, validate=True) for key, value in fields.items()}
        parts.setdefault(part, {}).update(found)
    return parts
