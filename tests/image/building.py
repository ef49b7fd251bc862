"""The image, built from the real Dockerfile by buildah, on a stand-in for its base image that Debian's packages make.

No registry of images is asked. The base, `python:3.11-slim-bookworm`, is Debian 12 with the Python project's own build
of 3.11 under /usr/local; the stand-in is Debian 12 with Debian's 3.11 under /usr, and Debian's pip. The build itself
has no network: it finds the wheels of the locks in a folder, checks their hashes, and fails when it asks for more.
"""

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "requirements"
BASE = "docker.io/library/python:3.11-slim-bookworm"
PACKAGES = "ca-certificates,netbase,python3-pip-whl,python3.11,python3.11-venv,tzdata"
WHEEL_FOLDER = "/wheels"
PIP = """#!/usr/bin/python3.11
import sys
from pip._internal.cli.main import main
sys.exit(main())
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of an image: who may do what with it, and its content (or where a link points)."""

    mode: int
    owner: int
    group: int
    content: str


Tree = dict[str, Entry]


class Builder:
    """buildah with storage of its own in one folder; nothing of it is left after `close`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._storage = folder / "storage"

    def prepare(self) -> None:
        """Makes the base image, and fetches what the build installs."""
        self._make_base()
        self._fetch_wheels()

    def build(self, name: str) -> None:
        """Every instruction of the Dockerfile, from the first one on, with what .dockerignore lets through."""
        settings = self._settings()
        self._buildah(
            *("build", "--format", "docker", "--isolation", "chroot", "--pull-never", "--no-cache", "--tag", name),
            *("--volume", f"{self._folder / 'wheels'}:{WHEEL_FOLDER}:ro"),
            *(argument for source, at in settings.items() for argument in ("--volume", f"{source}:{at}:ro")),
            str(ROOT),
            within=("unshare", "--net"),
        )

    @contextmanager
    def mounted(self, name: str) -> Iterator[Path]:
        """The root file system of an image."""
        container = self._buildah("from", "--pull-never", name)
        try:
            yield Path(self._buildah("mount", container))
        finally:
            self._buildah("rm", container)

    def inspected(self, name: str) -> dict[str, Any]:
        """What the image says of itself, in Docker's own format: the only one that has a health check."""
        said: dict[str, Any] = json.loads(self._buildah("inspect", "--type", "image", name))["Docker"]["config"]
        return said

    def close(self) -> None:
        self._buildah("rmi", "--all", "--force")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make_base(self) -> None:
        root = self._folder / "base"
        _run("mmdebstrap", "--mode=root", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root))
        # Debian's pip does not install into Debian's Python; the base image's does.
        (root / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink()
        (root / "usr/bin/python").symlink_to("python3.11")
        (wheel,) = (root / "usr/share/python-wheels").glob("pip-*.whl")
        with ZipFile(wheel) as archive:
            archive.extractall(root / "usr/local/lib/python3.11/dist-packages")
        pip = root / "usr/local/bin/pip"
        pip.write_text(PIP, encoding="utf-8")
        pip.chmod(0o755)
        container = self._buildah("from", "scratch")
        self._buildah("copy", "--quiet", container, str(root), "/")
        paths = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        self._buildah("config", "--env", f"PATH={paths}", "--env", "LANG=C.UTF-8", "--cmd", "python3", container)
        self._buildah("commit", "--quiet", "--rm", container, BASE)
        shutil.rmtree(root)

    def _fetch_wheels(self) -> None:
        setuptools = self._folder / "setuptools.txt"
        (block,) = re.findall(r"(?m)^setuptools==(?:.*\\\n)+.*\n", (LOCKS / "dev.txt").read_text(encoding="utf-8"))
        setuptools.write_text(block, encoding="utf-8")
        for lock in (LOCKS / "runtime.txt", LOCKS / "bootstrap.txt", setuptools):
            _run(
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"),
                *("--only-binary", ":all:", "--python-version", "3.11", "--implementation", "cp"),
                *("--dest", str(self._folder / "wheels"), "--requirement", str(lock)),
            )

    def _settings(self) -> dict[Path, str]:
        """Where pip and uv find the wheels; mounted while it is built, and no part of the image."""
        pip, uv = self._folder / "pip.conf", self._folder / "uv.toml"
        pip.write_text(f"[global]\nno-index = true\nfind-links = {WHEEL_FOLDER}\n", encoding="utf-8")
        uv.write_text(f'no-index = true\nfind-links = ["{WHEEL_FOLDER}"]\n', encoding="utf-8")
        return {pip: "/etc/pip.conf", uv: "/etc/uv/uv.toml"}

    def _buildah(self, *arguments: str, within: tuple[str, ...] = ()) -> str:
        places = ("--root", str(self._storage), "--runroot", str(self._folder / "run"), "--storage-driver", "overlay")
        return _run(*within, "buildah", *places, *arguments)


def tree(root: Path) -> Tree:
    """Every path of a root file system but what is mounted over; a file's content as its SHA-256."""
    return {str(path.relative_to(root)): _entry(path) for path in sorted(_walk(root))}


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)


def _entry(path: Path) -> Entry:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        content = str(path.readlink())
    elif stat.S_ISREG(status.st_mode):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    else:
        content = ""
    return Entry(status.st_mode, status.st_uid, status.st_gid, content)


def _run(*command: str) -> str:
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)
    if answer.returncode:
        raise RuntimeError(f"{' '.join(command[:8])} ...: {answer.stdout[-2000:]}{answer.stderr[-4000:]}")
    return answer.stdout.strip()
