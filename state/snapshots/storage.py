"""Objects by their path, whatever keeps them: Azure Blob Storage, S3, Google Cloud Storage, or a folder.

The library is `obstore`. It reads the variables and files of each cloud by itself, managed identities among them; what
it may do without TLS is said here and not by them.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store

from detection.errors import OperatorError, RetryError, SettingsError, UnreadableStateError
from state.snapshots.address import SnapshotAddress, refuse_plain_endpoints

# One request may take so long, and all attempts together so long: a segment is 16 MiB on a slow line.
_REQUEST: Final = timedelta(seconds=60)
_ATTEMPTS: Final = timedelta(seconds=240)
_CONNECT: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Stored:
    """An object: its path below the address, its bytes, and when it was last written."""

    path: str
    bytes: int
    modified_ms: int


class Storage:
    """Objects below one address. RetryError when the storage does not answer, OperatorError when it refuses us."""

    def __init__(self, store: ObjectStore, address: SnapshotAddress) -> None:
        self._store = store
        self._address = address

    def __str__(self) -> str:
        # Never the library's own text, which may show how one gets in.
        return str(self._address)

    @classmethod
    def open(cls, address: SnapshotAddress, *, certificates: Path | None = None, is_patient: bool = True) -> "Storage":
        """Nothing is asked before it is used, but a folder is made. SettingsError for options that nobody knows.

        Who is not patient asks once, and takes five seconds for no answer.
        """
        refuse_plain_endpoints(os.environ)
        # Said always: the library would else go by variables, and its switch for the emulator of Azure allows plain
        # HTTP to wherever another variable points.
        client: dict[str, Any] = {
            "allow_http": address.is_plain,
            "allow_invalid_certificates": False,
            "connect_timeout": _CONNECT,
            "timeout": _REQUEST if is_patient else _CONNECT,
        }
        if certificates is not None:
            try:
                client["root_certificate"] = certificates.read_bytes()
            except OSError as error:
                raise SettingsError(f"TIDEMARK_SNAPSHOT_CA_FILE: {certificates}: {error.strerror}") from error
        shared: dict[str, Any] = {
            "prefix": address.prefix or None,
            "client_options": client,
            "retry_config": {"retry_timeout": _ATTEMPTS}
            if is_patient
            else {"max_retries": 0, "retry_timeout": _CONNECT},
        }
        # Their types list the options of each; which of them a text is for, the library finds out.
        options: Any = dict(address.options)
        try:
            match address.kind:
                case "azure":
                    options["use_emulator"] = False
                    return cls(AzureStore(address.place, config=options, **shared), address)
                case "s3":
                    return cls(S3Store(address.place, config=options, **shared), address)
                case "gcs":
                    return cls(GCSStore(address.place, config=options, **shared), address)
                case "file":
                    return cls(LocalStore(address.place, mkdir=True, automatic_cleanup=True), address)
        except UnknownConfigurationKeyError as error:
            raise SettingsError(f"TIDEMARK_SNAPSHOT_OPTIONS: {_first_line(error)}") from None
        except (BaseError, ValueError, OSError) as error:
            # Not what the library says: it may quote a key that it could not read.
            raise SettingsError(f"{address}: the library refuses its options ({type(error).__name__})") from None

    def get(self, path: str) -> bytes:
        """UnreadableStateError where it is not there."""
        with self._errors(path):
            return bytes(obstore.get(self._store, path).bytes())

    def get_range(self, path: str, *, start: int, length: int) -> bytes:
        """As many bytes as there are of these; UnreadableStateError where the object is not there, or ends before."""
        with self._errors(path):
            return bytes(obstore.get_range(self._store, path, start=start, length=length))

    def stream(self, path: str) -> Iterator[bytes]:
        """The object, some megabytes at a time."""
        with self._errors(path):
            for chunk in obstore.get(self._store, path).stream(min_chunk_size=4 * 1024 * 1024):
                yield bytes(chunk)

    def put(self, path: str, content: bytes) -> None:
        """Nobody sees a part of it."""
        with self._errors(path):
            obstore.put(self._store, path, content)

    def put_new(self, path: str, content: bytes) -> bool:
        """Whether it was written: not where there is one already. Of several at once, one writes."""
        try:
            with self._errors(path):
                obstore.put(self._store, path, content, mode="create", use_multipart=False)
        except FileExistsError:
            return False
        return True

    def list(self, prefix: str) -> Iterator[Stored]:
        """Everything below, in no order."""
        with self._errors(prefix):
            for page in obstore.list(self._store, prefix):
                for one in page:
                    yield Stored(one["path"], one["size"], round(one["last_modified"].timestamp() * 1000))

    def delete(self, paths: Sequence[str]) -> None:
        """What is not there is no error."""
        for path in paths:
            try:
                with self._errors(path):
                    obstore.delete(self._store, path)
            except UnreadableStateError:
                continue

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        try:
            yield
        except AlreadyExistsError as error:
            raise FileExistsError(path) from error
        except FileNotFoundError as error:
            raise UnreadableStateError(f"{self}: {path} is not there") from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise OperatorError(
                f"{self}: {path}: the storage refuses us ({_first_line(error)}); which credentials are used is said by "
                "TIDEMARK_SNAPSHOT_OPTIONS, or by the variables of the cloud itself"
            ) from error
        except (BaseError, OSError) as error:
            if "range" in str(error) and "invalid" in str(error).lower():
                raise UnreadableStateError(f"{self}: {path} ends too early") from error
            raise RetryError(f"{self}: {path}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """What the library says, without what it adds for its own makers, and without the parameters of a request."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return " ".join(word.partition("?")[0] if "://" in word else word for word in line.split())


def paths(found: Iterable[Stored]) -> dict[str, Stored]:
    """By their path."""
    return {one.path: one for one in found}
