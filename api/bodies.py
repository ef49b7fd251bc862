"""Request bodies, read no further than they may be long: counted as they arrive, and again as they are unpacked."""

import zlib
from typing import Final, Literal, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from api.problems import INVALID_REQUEST, MEDIA_REFUSED, SHOWN_ERRORS, Fault, RefusedError
from detection.errors import TooLargeError

Format = Literal["json", "ndjson", "csv"]
Model = TypeVar("Model", bound=BaseModel)

_FORMATS: Final[dict[str, Format]] = {
    "": "json",
    "application/json": "json",
    # What curl says of a body unless told otherwise.
    "application/x-www-form-urlencoded": "json",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "text/csv": "csv",
}
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
# Of a file that was packed in parts. Members that unpack to nothing are no bytes, however many of them are sent.
_MOST_MEMBERS: Final = 1000


def format_of(request: Request, *, taken: tuple[Format, ...]) -> Format:
    """What the Content-Type says, JSON when it says nothing; RefusedError for what is not taken here."""
    said = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    found = _FORMATS.get(said)
    if found is None or found not in taken:
        names = ", ".join(
            name for name, known in _FORMATS.items() if known in taken and "/" in name and "form" not in name
        )
        raise RefusedError(MEDIA_REFUSED, f"Content-Type {said[:80]!r} is not taken here; taken are {names}")
    return found


async def read_body(request: Request, *, limit: int) -> bytes:
    """The whole body, unpacked; TooLargeError as soon as it is longer than `limit` bytes, packed or unpacked."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", ""):
        raise RefusedError(MEDIA_REFUSED, f"Content-Encoding {encoding[:80]!r} is not taken; gzip is")
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > limit:
        raise TooLargeError(f"the body has {said} bytes, {limit} are the most")
    unpack = None if encoding in ("identity", "") else _Unpacking(limit)
    body = bytearray()
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > limit:
            raise TooLargeError(f"the body has more than {limit} bytes")
        body += chunk if unpack is None else unpack.feed(chunk)
        if len(body) > limit:
            raise TooLargeError(f"the body has more than {limit} bytes{'' if unpack is None else ', unpacked'}")
    if unpack is not None:
        unpack.finish()
    return bytes(body)


def limited(receive: Receive, *, limit: int) -> Receive:
    """For bodies that the framework reads, all of them: HTTPException (413) once there are more than `limit` bytes."""
    taken = 0

    async def counted() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            # The one kind of error that the framework does not take for a body that cannot be parsed.
            raise HTTPException(413, f"the body has more than {limit} bytes")
        return message

    return counted


def parsed(model: type[Model], body: bytes) -> Model:
    """The body as this shape; RefusedError that names each field that is not as it must be."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        faults = [
            Fault(".".join(str(part) for part in one["loc"]) or "body", one["msg"])
            for one in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        detail = "; ".join(f"{fault.field}: {fault.reason}" for fault in faults[:SHOWN_ERRORS])
        raise RefusedError(INVALID_REQUEST, detail, faults) from None


class _Unpacking:
    """Gzip, member after member, never more than one byte over the limit in memory at once."""

    def __init__(self, limit: int) -> None:
        self._left = limit + 1
        self._stream = zlib.decompressobj(_GZIP_WINDOW)
        self._has_begun = False
        self._members = 1

    def feed(self, chunk: bytes) -> bytes:
        """The unpacked bytes of this chunk, up to the limit and one more."""
        unpacked = bytearray()
        while chunk and self._left > 0:
            if self._stream.eof:
                self._members += 1
                if self._members > _MOST_MEMBERS:
                    raise TooLargeError(f"the gzip body has more than {_MOST_MEMBERS} members")
                self._stream = zlib.decompressobj(_GZIP_WINDOW)
            self._has_begun = True
            try:
                piece = self._stream.decompress(chunk, self._left)
            except zlib.error as error:
                raise RefusedError(
                    MEDIA_REFUSED, f"the body is not gzip as its Content-Encoding says: {error}"
                ) from error
            unpacked += piece
            self._left -= len(piece)
            chunk = self._stream.unused_data
        return bytes(unpacked)

    def finish(self) -> None:
        """Raise RefusedError when the stream ended in the middle of a member."""
        if self._has_begun and self._left > 0 and not self._stream.eof:
            raise RefusedError(MEDIA_REFUSED, "the gzip body ends before its end")
