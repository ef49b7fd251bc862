"""What belongs to one snapshot: written last, so that a snapshot that was interrupted is none."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from detection.errors import UnreadableStateError
from state.export import FORMAT as LINE_FORMAT
from state.export import said_of, with_check
from state.keys import SCHEMA
from state.snapshots.storage import Storage, Stored

# Of the manifest, the index and the segments; the lines have their own (`state.export.FORMAT`), and so has the state in
# them (`state.keys.SCHEMA`, `state.series_codec`).
FORMAT: Final = 1

MANIFESTS: Final = "snapshots"
INDEXES: Final = "indexes"
SEGMENTS: Final = "segments"

_WHAT: Final = "tidemark-snapshot"
_SUFFIX: Final = ".json"


@dataclass(frozen=True, slots=True)
class IndexPart:
    """Where the lines of some subjects are, from the first to the last in the order of their text."""

    path: str
    sha256: str
    bytes: int
    subjects: int
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class Segment:
    """An object with lines, `used` of which are of this snapshot."""

    path: str
    sha256: str
    bytes: int
    subjects: int
    used: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """One snapshot. `header` and `trailer` are the first and the last line of the export that it is.

    `scope` are the globs that its subjects fit, empty for all. `parent` is the snapshot whose segments it uses again,
    empty for none; it takes nothing else from it. `written` subjects are in segments of its own, and `deleted` ones
    were in the parent only. `line_bytes` are those of the lines before they were packed, of all subjects.
    """

    id: str
    taken: str
    program: str
    log_id: str
    scope: tuple[str, ...]
    parent: str
    header: str
    trailer: str
    subjects: int
    written: int
    deleted: int
    line_bytes: int
    uploaded_bytes: int
    seconds: float
    index: tuple[IndexPart, ...]
    segments: tuple[Segment, ...]

    @property
    def stored_bytes(self) -> int:
        """All objects that it needs, those that others need too among them; without the manifest."""
        return sum(one.bytes for one in self.index) + sum(one.bytes for one in self.segments)

    def paths(self) -> list[str]:
        """Of all objects that it needs but the manifest."""
        return [*(one.path for one in self.index), *(one.path for one in self.segments)]


def path_of(snapshot_id: str) -> str:
    """Of a manifest."""
    return f"{MANIFESTS}/{snapshot_id}{_SUFFIX}"


def encode(manifest: Manifest) -> bytes:
    """A line of JSON with its check."""
    versions = {"what": _WHAT, "format": FORMAT, "line_format": LINE_FORMAT, "schema": SCHEMA}
    return with_check(versions | asdict(manifest))


def decode(path: str, line: bytes) -> Manifest:
    """UnreadableStateError for what is damaged, of somebody else, or of another version."""
    try:
        said = said_of(line)
    except ValueError:
        said = None
    if said is None:
        raise UnreadableStateError(f"{path}: is damaged, or no manifest of a snapshot: its check is another")
    if said.get("what") != _WHAT:
        raise UnreadableStateError(f"{path}: is no manifest of a snapshot")
    _refuse_other_versions(path, said)
    try:
        found = {name: said[name] for name in Manifest.__dataclass_fields__}
        return Manifest(
            **found
            | {
                "scope": tuple(said["scope"]),
                "index": tuple(IndexPart(**one) for one in said["index"]),
                "segments": tuple(Segment(**one) for one in said["segments"]),
            }
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise UnreadableStateError(f"{path}: is no manifest of a snapshot: {error!r}") from error


def _refuse_other_versions(path: str, said: Mapping[str, Any]) -> None:
    versions = (("format", FORMAT), ("line_format", LINE_FORMAT), ("schema", SCHEMA))
    others = [(name, said.get(name), ours) for name, ours in versions if said.get(name) != ours]
    if not others:
        return
    is_newer = any(not isinstance(theirs, int) or theirs > ours for _, theirs, ours in others)
    what = ", ".join(f"{name} {theirs!r} (this program reads {ours})" for name, theirs, ours in others)
    advice = (
        "A newer program wrote it: restore it with that one, or a later one"
        if is_newer
        else "An older program wrote it: restore it with that one, and let this one go on with what is then in Redis"
    )
    raise UnreadableStateError(f"{path}: was written by Tidemark {said.get('program')} with {what}. {advice}")


def read(storage: Storage, snapshot_id: str) -> Manifest:
    """The manifest of that snapshot; UnreadableStateError where there is none that this program reads."""
    path = path_of(snapshot_id)
    found = decode(path, storage.get(path))
    if found.id != snapshot_id:
        raise UnreadableStateError(f"{path}: is the manifest of {found.id!r}")
    return found


def ids(storage: Storage) -> list[str]:
    """Of all snapshots by their names alone, oldest first; one of them may be unreadable."""
    listed = (one.path.removeprefix(f"{MANIFESTS}/") for one in storage.list(MANIFESTS))
    return sorted(name.removesuffix(_SUFFIX) for name in listed if name.endswith(_SUFFIX) and "/" not in name)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every snapshot that is there, oldest first, and why others cannot be read, by the path of their manifest."""

    snapshots: tuple[Manifest, ...]
    unreadable: Mapping[str, str]

    def find(self, snapshot_id: str) -> Manifest:
        """One snapshot, or the newest of all subjects for `latest`; UnreadableStateError where it is not there."""
        if snapshot_id == "latest":
            whole = [one for one in self.snapshots if not one.scope]
            if not whole:
                raise UnreadableStateError("there is no snapshot of all subjects that can be read")
            return whole[-1]
        for one in self.snapshots:
            if one.id == snapshot_id:
                return one
        why = self.unreadable.get(path_of(snapshot_id))
        near = ", ".join(one.id for one in self.snapshots[-3:]) or "none"
        raise UnreadableStateError(why or f"there is no snapshot {snapshot_id!r}; the newest are {near}")

    def newest(self, *, scope: Sequence[str], log_id: str) -> Manifest | None:
        """The newest of these globs and that log."""
        fitting = [one for one in self.snapshots if one.scope == tuple(scope) and one.log_id == log_id]
        return fitting[-1] if fitting else None


def catalogue(storage: Storage, manifests: Sequence[Stored] | None = None) -> Catalogue:
    """All snapshots, by what the storage lists."""
    found: list[Manifest] = []
    unreadable: dict[str, str] = {}
    listed = list(storage.list(MANIFESTS)) if manifests is None else manifests
    for stored in sorted(listed, key=lambda one: one.path):
        name = stored.path.removeprefix(f"{MANIFESTS}/")
        if not name.endswith(_SUFFIX) or "/" in name:
            unreadable[stored.path] = f"{stored.path}: is no manifest of a snapshot"
            continue
        try:
            found.append(read(storage, name.removesuffix(_SUFFIX)))
        except UnreadableStateError as error:
            unreadable[stored.path] = str(error)
    return Catalogue(tuple(found), unreadable)
