"""The page's files as they are sent: read, digested and compressed once, and named by what all of them contain."""

import base64
import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from api.page.chart_library import chart_library

FOLDER: Final = Path(__file__).parent / "static"
INDEX: Final = "index.html"

_MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
# What the first view needs: its modules are named in the page, so that they are fetched at once and not one by one.
_FIRST: Final = ("main.js", "overview.js")
_IMPORT: Final = re.compile(r"""^(?:import\b[^;]*?|\} )from '\./([\w.-]+)';""", re.MULTILINE)
_PLACE: Final = re.compile(r"\{\{(address|digest) ([\w.-]+)\}\}")


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: as it is, compressed, and by its digests."""

    body: bytes
    compressed: bytes
    media_type: str
    integrity: str
    etag: str

    @classmethod
    def of(cls, name: str, body: bytes) -> "Asset":
        """KeyError for a file of a kind that the page does not have."""
        digest = hashlib.sha256(body).digest()
        return cls(
            body=body,
            # The time of compressing is no part of it: all processes send the same bytes.
            compressed=gzip.compress(body, compresslevel=9, mtime=0),
            media_type=_MEDIA_TYPES[Path(name).suffix],
            integrity="sha256-" + base64.b64encode(digest).decode(),
            etag=f'"{digest.hex()[:24]}"',
        )


@dataclass(frozen=True, slots=True)
class Assets:
    """All files of one build of the page; `version` changes with any of them, so each may be kept for ever."""

    version: str
    index: Asset
    files: Mapping[str, Asset]


@cache
def assets() -> Assets:
    """The page that is installed; SettingsError when its charting library is not the one it was built with."""
    return made(_own(), chart_library())


def made(own: Mapping[str, bytes], library: Mapping[str, bytes]) -> Assets:
    """The page of these files, of which `index.html` is filled in with the addresses and digests of the others."""
    files = {name: Asset.of(name, body) for name, body in {**own, **library}.items() if name != INDEX}
    told = hashlib.sha256()
    for name, asset in sorted(files.items()):
        told.update(f"{name} {asset.integrity}\n".encode())
    version = told.hexdigest()[:16]
    index = _filled(own[INDEX].decode(), version, files)
    return Assets(version=version, index=Asset.of(INDEX, index.encode()), files=files)


def imported(names: tuple[str, ...], files: Mapping[str, Asset]) -> list[str]:
    """These modules and all that they import, each once, in the order in which they are met."""
    found: list[str] = []
    waiting = list(names)
    while waiting:
        name = waiting.pop(0)
        if name not in found and name in files:
            found.append(name)
            waiting += _IMPORT.findall(files[name].body.decode())
    return found


def _own() -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(FOLDER.iterdir()) if file.suffix in _MEDIA_TYPES}


def _filled(template: str, version: str, files: Mapping[str, Asset]) -> str:
    def address(name: str) -> str:
        return f"/page/{version}/{name}"

    def place(match: re.Match[str]) -> str:
        kind, name = match.groups()
        return address(name) if kind == "address" else files[name].integrity

    preloads = "\n".join(
        f'<link rel="modulepreload" href="{address(name)}" integrity="{files[name].integrity}">'
        for name in imported(_FIRST, files)
    )
    return _PLACE.sub(place, template.replace("{{preloads}}", preloads))
