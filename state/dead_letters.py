"""The letters of the topic `dead-letters`, read: what could not be used, why, and where it came from.

They are written by the workers (`stream.dead_letters`). What reads them takes what it finds: a record of the topic that
is no letter is shown as one whose reason is `unreadable`, so that nobody looks past it.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Any, Final

import orjson

TOPIC: Final = "dead-letters"

# The header of a record that was a dead letter: which one, as `PARTITION/OFFSET` of the topic.
REPLAYED_HEADER: Final = "tidemark-replayed"

INVALID: Final = "invalid"
LATE: Final = "late"
UNREADABLE: Final = "unreadable"


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter; `partition` and `offset` are its own, `origin_…` those of the record that it is about.

    `key` and `value` are what came, as far as it is kept: of a long record only the beginning is (`is_whole` is then
    false), and of an observation that was read and was late, or one metric too many, what it said and not its bytes.
    Late calls come as one batch of a partition, without an offset of their own.
    """

    partition: int
    offset: int
    time_ms: int
    reason: str
    detail: str
    topic: str | None = None
    origin_partition: int | None = None
    origin_offset: int | None = None
    key: bytes | None = None
    value: bytes | None = None
    is_whole: bool = True

    @property
    def place(self) -> str:
        """Where it lies in the topic, as `PARTITION/OFFSET`."""
        return f"{self.partition}/{self.offset}"

    @property
    def origin(self) -> str:
        """Where it came from, `calls/3/120`, as far as that is known."""
        parts = (self.topic, self.origin_partition, self.origin_offset)
        return "/".join("?" if one is None else str(one) for one in parts).rstrip("/?") or "?"

    @property
    def identity(self) -> str:
        """What stays the same when a worker that was killed writes the letter a second time.

        The record's own place and content, or the letter's, where a letter is about no single record.
        """
        is_of_one = None not in (self.topic, self.origin_partition, self.origin_offset)
        digest = hashlib.blake2b(self.key or b"", digest_size=8)
        digest.update(b"\0")
        digest.update(self.value or b"")
        return f"{self.origin if is_of_one else f'{TOPIC}/{self.place}'}:{digest.hexdigest()}"

    def excerpt(self, length: int = 80) -> str:
        """The beginning of what came, on one line."""
        if self.value is None:
            return "(no value)"
        text = self.value[: 4 * length].decode(errors="backslashreplace")
        line = "".join(one if one.isprintable() else " " for one in text)
        return line if len(line) <= length else f"{line[: length - 1]}…"


def decode_letter(partition: int, offset: int, time_ms: int, value: bytes | None) -> Letter:
    """The letter that this record of the topic is; never raises."""
    try:
        fields = orjson.loads(value or b"")
        origin = fields["origin"]
        topic, at = _source(origin)
        data, is_whole = _data(fields)
        return Letter(
            partition,
            offset,
            time_ms,
            reason=str(fields["reason"]),
            detail=str(fields["detail"]),
            topic=topic,
            origin_partition=at,
            origin_offset=None if origin.get("offset") is None else int(origin["offset"]),
            key=None if fields.get("key") is None else str(fields["key"]).encode(),
            value=data,
            # Of an observation that was read, the partition is not told: its letter has what it said, in other words.
            is_whole=is_whole and at is not None,
        )
    except (AttributeError, KeyError, TypeError, ValueError, binascii.Error) as error:
        return Letter(partition, offset, time_ms, UNREADABLE, f"is no dead letter: {error!r}", value=value)


def _source(origin: dict[str, Any]) -> tuple[str | None, int | None]:
    """Topic and partition: given as such, or as the source `LOG/TOPIC/PARTITION` that late calls came from."""
    source = origin.get("source")
    if source is not None:
        _, name, number = str(source).rsplit("/", 2)
        return name, int(number)
    topic, partition = origin.get("topic"), origin.get("partition")
    return None if topic is None else str(topic), None if partition is None else int(partition)


def _data(fields: dict[str, Any]) -> tuple[bytes | None, bool]:
    """What came, and whether that is all of it."""
    is_whole = fields.get("value_bytes") is None
    encoded = fields.get("value_base64")
    if encoded is not None:
        return base64.b64decode(encoded, validate=True), is_whole
    match fields.get("value"):
        case None:
            return None, is_whole
        case str() as text:
            return text.encode(), is_whole
        case told:
            return orjson.dumps(told), is_whole
