"""Where the machine code of the learning core is kept, and what is left of it where nothing may be written."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from detection import compiled

NOBODY = 65534


@pytest.fixture
def shipped() -> Iterator[Path]:
    """A folder with machine code that its reader does not own; outside pytest's own, which nobody else may enter."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "kernel").mkdir()
        (Path(folder) / "kernel" / "function.nbc").write_bytes(b"machine code")
        for path in (Path(folder) / "kernel", Path(folder)):
            path.chmod(0o555)
        yield Path(folder)
        for path in (Path(folder), Path(folder) / "kernel"):
            path.chmod(0o755)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may write everywhere, so it is somebody else meanwhile."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if before == 0:
            os.seteuid(before)


def test_a_folder_that_may_be_written_is_used_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "when missing"
    assert compiled._writable(folder) == str(folder)
    assert folder.is_dir()


def test_a_folder_that_may_not_be_written_is_read_through_one_that_may(shipped: Path) -> None:
    with unprivileged():
        twin = Path(compiled._writable(shipped))
        assert twin != shipped
        assert (twin / "kernel" / "function.nbc").read_bytes() == b"machine code"
        new = twin / "kernel" / "new.nbc"
        new.write_bytes(b"compiled here")
        new.replace(twin / "kernel" / "function.nbc")
    assert (shipped / "kernel" / "function.nbc").read_bytes() == b"machine code"


def test_what_may_not_be_made_is_made_elsewhere(shipped: Path) -> None:
    with unprivileged():
        twin = Path(compiled._writable(shipped / "missing"))
        assert list(twin.iterdir()) == []


def test_another_version_of_the_sources_has_another_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "step.py").write_text("", encoding="utf-8")
    monkeypatch.setattr(compiled, "_SOURCES", tmp_path)
    before = compiled.cache_folder()
    assert compiled.cache_folder() == before
    (tmp_path / "step.py").write_text("changed = 1", encoding="utf-8")
    assert compiled.cache_folder() != before
