"""Files that are packed as their name says, `.gz` or `.zst`: written under another name until they are whole."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, cast

from detection.errors import InputError, OperatorError

_GZIP: Final = ".gz"
_ZSTANDARD: Final = ".zst"
# Nearly as small as the default 9, in a third of the time.
_GZIP_LEVEL: Final = 6


def plain_suffix(path: Path) -> str:
    """What the file is called but for how it is packed, in lower case: `.ndjson` of `state.ndjson.gz`."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in {_GZIP, _ZSTANDARD} else suffix


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """A file to write; it takes its name when the block ends well, and is gone when it does not.

    OperatorError where it cannot be written.
    """
    draft = path.with_name(f"{path.name}.part")
    try:
        with draft.open("wb") as raw:
            match path.suffix.lower():
                case ".gz":
                    # No name and no time in it: the same content is the same file.
                    with gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0) as packed:
                        yield cast(BinaryIO, packed)
                case ".zst":
                    import pyarrow as pa

                    with pa.CompressedOutputStream(pa.PythonFile(raw, "w"), "zstd") as packed:
                        yield packed
                case _:
                    yield raw
        draft.replace(path)
    except OSError as error:
        raise OperatorError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def read(path: Path) -> Iterator[Iterator[bytes]]:
    """The lines of a file with their ends; InputError where it cannot be opened.

    A file that is damaged raises EOFError, OSError or ValueError at the line where that is found.
    """
    try:
        raw = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    with raw:
        match path.suffix.lower():
            case ".gz":
                with gzip.GzipFile("", "rb", fileobj=raw) as packed:
                    yield _lines(packed)
            case ".zst":
                import pyarrow as pa

                with pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd") as unpacked:
                    yield iter(io.BufferedReader(unpacked, 1024 * 1024))
            case _:
                yield iter(raw)


def _lines(packed: gzip.GzipFile) -> Iterator[bytes]:
    try:
        yield from packed
    # The only one of its errors that is of no class above it.
    except zlib.error as error:
        raise OSError(str(error)) from error
