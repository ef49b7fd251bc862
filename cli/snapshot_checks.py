"""What a doctor sees of snapshots: whether the storage answers, and how old the newest one is."""

from typing import Final

from detection.errors import OperatorError, RetryError
from detection.hours import HOUR_MS, parse_ms
from settings import Settings
from state.finding import Finding, away, failed, ok, warning
from state.snapshots.manifest import ids
from state.snapshots.manifest import read as read_manifest
from state.snapshots.storage import Storage

_NAME: Final = "snapshots"
_ADVICE: Final = "Is `tidemark snapshots create` scheduled, and does it end well? Its last run says why not."


def snapshot_finding(settings: Settings, *, now_ms: int) -> Finding:
    """Asks once, and takes some seconds at most for a storage that does not answer."""
    try:
        storage = Storage.open(settings.snapshots(), certificates=settings.snapshot_ca_file, is_patient=False)
        for snapshot_id in reversed(ids(storage)):
            manifest = read_manifest(storage, snapshot_id)
            if not manifest.scope:
                age_ms = now_ms - parse_ms(manifest.taken)
                return _of_age(manifest.id, manifest.subjects, age_ms, most_hours=settings.snapshot_hours)
    except RetryError as error:
        return away(_NAME, str(error), "Is the storage there, and may this machine reach it?")
    except OperatorError as error:
        return failed(_NAME, str(error), "`tidemark snapshots list` says what can be read.")
    return warning(_NAME, f"there is no snapshot of all subjects in {storage}", _ADVICE)


def _of_age(snapshot_id: str, subjects: int, age_ms: int, *, most_hours: int) -> Finding:
    hours = age_ms / HOUR_MS
    found = f"{snapshot_id} of {subjects:,} subjects is {hours:.1f} hours old"
    if hours > most_hours:
        return warning(_NAME, f"{found}, more than TIDEMARK_SNAPSHOT_HOURS={most_hours}", _ADVICE)
    return ok(_NAME, found)
