"""What `TIDEMARK_SNAPSHOT_URL` names: a container or bucket and a prefix in it, or a folder.

    az://CONTAINER/PREFIX    Azure Blob Storage; the account stands in TIDEMARK_SNAPSHOT_OPTIONS or its own variables
    s3://BUCKET/PREFIX       Amazon S3, and what speaks like it
    gs://BUCKET/PREFIX       Google Cloud Storage
    file:///FOLDER           a folder of this machine, or one that is mounted

Everything but a folder is asked over TLS. Plain HTTP is for an emulator on this machine: its endpoint is an option, and
leads to the loopback.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

import orjson

from detection.errors import SettingsError

Kind = Literal["azure", "s3", "gcs", "file"]

_KINDS: Final[dict[str, Kind]] = {"az": "azure", "s3": "s3", "gs": "gcs", "file": "file"}

# Options that say where requests go, by the names that the library has for them.
_ENDPOINTS: Final = frozenset(
    {
        "endpoint",
        "endpoint_url",
        "base_url",
        "aws_endpoint",
        "aws_endpoint_url",
        "azure_endpoint",
        "azure_storage_endpoint",
        "google_base_url",
    }
)
# Options that would send what is learned, or the credentials, where anybody can read it.
_REFUSED: Final = ("allow_http", "allow_invalid_certificates", "use_emulator")


@dataclass(frozen=True, slots=True)
class SnapshotAddress:
    """Where snapshots are kept. `options` may hold credentials, and are never shown."""

    kind: Kind
    place: str
    prefix: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    is_plain: bool = False

    def __str__(self) -> str:
        scheme = next(name for name, kind in _KINDS.items() if kind == self.kind)
        if self.kind == "file":
            return f"file://{self.place}"
        return f"{scheme}://{self.place}" + (f"/{self.prefix}" if self.prefix else "")


def parse(url: str, options: str = "") -> SnapshotAddress:
    """The address; raises SettingsError that says what is wrong, and shows nothing that may be a password.

    >>> str(parse("s3://billing/tidemark"))
    's3://billing/tidemark'
    """
    scheme, separator, _ = url.partition("://")
    kind = _KINDS.get(scheme)
    if not separator or kind is None:
        raise SettingsError(f"a snapshot URL begins with one of {', '.join(f'{name}://' for name in _KINDS)}")
    try:
        split = urlsplit(url)
        host, credentials = split.netloc, split.username
        _ = split.port
    except ValueError:
        raise SettingsError("the snapshot URL cannot be read") from None
    if credentials is not None or split.query or split.fragment:
        raise SettingsError(
            "a snapshot URL has no credentials and no options: they stand in TIDEMARK_SNAPSHOT_OPTIONS, or in the "
            "variables and files of the cloud itself"
        )
    path = unquote(split.path)
    if any(part in {".", ".."} for part in path.split("/")):
        raise SettingsError("a snapshot URL leads nowhere by '.' and '..'")
    found = _options(options)
    if kind == "file":
        if host or not path.strip("/"):
            raise SettingsError("a folder for snapshots is written file:///FOLDER, from the root on")
        if found:
            raise SettingsError("TIDEMARK_SNAPSHOT_OPTIONS says nothing of a folder")
        return SnapshotAddress(kind, path.rstrip("/"), "")
    if not host:
        raise SettingsError(f"the snapshot URL names no container or bucket: {scheme}://NAME/PREFIX")
    return SnapshotAddress(kind, host, path.strip("/"), found, is_plain=_is_plain(found))


def refuse_plain_endpoints(environment: Mapping[str, str]) -> None:
    """SettingsError where a cloud's own variable leads to an endpoint without TLS, which the library would refuse."""
    for name in sorted(environment):
        lowered = name.lower()
        if (
            lowered.startswith(("aws_endpoint", "azure_endpoint", "azure_storage_endpoint", "google_base_url"))
            and urlsplit(environment[name]).scheme == "http"
        ):
            raise SettingsError(
                f"{name} is an endpoint without TLS; name an emulator on this machine in TIDEMARK_SNAPSHOT_OPTIONS"
            )


def _options(text: str) -> dict[str, str]:
    if not text.strip():
        return {}
    try:
        said = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise SettingsError("TIDEMARK_SNAPSHOT_OPTIONS is no JSON object") from None
    if not isinstance(said, dict) or not all(isinstance(value, str | bool | int) for value in said.values()):
        raise SettingsError("TIDEMARK_SNAPSHOT_OPTIONS is no JSON object of texts")
    found = {name.lower(): _text(value) for name, value in said.items()}
    refused = [name for name in found if name.endswith(_REFUSED)]
    if refused:
        raise SettingsError(
            f"TIDEMARK_SNAPSHOT_OPTIONS: {refused[0]!r} is not taken; an emulator on this machine is named by its "
            "`endpoint`, http://127.0.0.1:PORT/..., and a private authority by TIDEMARK_SNAPSHOT_CA_FILE"
        )
    return found


def _text(value: str | bool | int) -> str:  # noqa: FBT001 - what JSON has
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_plain(options: Mapping[str, str]) -> bool:
    """Whether the endpoint is without TLS; SettingsError where that is not on this machine."""
    plain = False
    for name in _ENDPOINTS & options.keys():
        try:
            split = urlsplit(options[name])
            host = split.hostname or ""
        except ValueError:
            raise SettingsError(f"TIDEMARK_SNAPSHOT_OPTIONS: {name!r} cannot be read") from None
        if split.scheme == "https":
            continue
        if split.scheme != "http" or not _is_loopback(host):
            raise SettingsError(
                f"TIDEMARK_SNAPSHOT_OPTIONS: {name!r} has no TLS: an endpoint is https://HOST, and http:// leads to "
                "this machine alone"
            )
        plain = True
    return plain


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        # Any other name may lead elsewhere.
        return host == "localhost"
