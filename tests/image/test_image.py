"""What is in the image, and that both processes start from it as a pod starts them.

It is built twice from the real Dockerfile, by buildah, on a stand-in for its base image (tests/image/building.py says
in what it differs). What is ours in it, /opt/tidemark, comes from the same wheels as it would anywhere.
"""

import os
import re
import shutil
import stat
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from local.ports import free_port
from local.process import GuardedProcess
from local.stack import Stack
from tests.image.building import BASE, LOCKS, Builder, Entry, Tree, tree
from tests.image.running import Contained

pytestmark = [pytest.mark.image, pytest.mark.timeout(1500)]

OURS = "opt/tidemark/"
USER = 10001
# Where anybody may write in the base image; only /tmp is more than an empty folder to us, and the root is read-only.
OPEN_TO_ALL = {"tmp", "var/tmp", "run/lock"}
# Empty, where this builder mounted the build's wheels and settings.
MOUNTED = ("etc/pip.conf", "etc/uv", "wheels", "run/.containerenv")
# Ours, in whole megabytes of files: the libraries, their compiled forms, and the core's machine code.
MOST_MEGABYTES = 800
COMPILERS = re.compile(r"^(.*-)?(gcc|g\+\+|cc|c\+\+|cpp|clang|tcc|ld|as|make|rustc|cargo|go)(-[0-9.]+)?$")
# The real base image has Python's own headers under /usr/local; the stand-in has none of them.
NOT_NEEDED = re.compile(r"\.(a|h|hpp|pxd|pyx|c|cpp)$")


@dataclass(frozen=True, slots=True)
class Image:
    root: Path
    tree: Tree
    again: Tree
    base: Tree
    contained: Contained


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    for needed in ("buildah", "mmdebstrap"):
        if shutil.which(needed) is None:
            pytest.skip(f"needs Debian's {needed}")
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a root file system and to mount it")
    builder = Builder(tmp_path_factory.mktemp("image"))
    try:
        builder.prepare()
        builder.build("tidemark:again")
        with builder.mounted("tidemark:again") as root:
            again = tree(root)
        builder.build("tidemark:1")
        with builder.mounted(BASE) as root:
            base = tree(root)
        with builder.mounted("tidemark:1") as root:
            yield Image(root, tree(root), again, base, Contained.of(root, builder.inspected("tidemark:1")))
    finally:
        builder.close()


def test_the_image_is_the_same_when_it_is_built_again_but_for_what_was_compiled(image: Image) -> None:
    """Machine code and some byte code of the same sources differ in their bytes; docs/decisions/0038 says how far."""
    assert image.tree.keys() == image.again.keys()
    differing = {path for path in image.tree if image.tree[path] != image.again[path]}
    assert sorted(path for path in differing if not path.endswith((".nbc", ".pyc"))) == []


def test_nothing_in_the_image_compiles_or_installs(image: Image) -> None:
    programs = {Path(path).name for path, entry in image.tree.items() if entry.mode & 0o111 and not _is_folder(entry)}
    assert {name for name in programs if COMPILERS.match(name)} == set()
    assert not programs & {"pip", "pip3", "uv", "easy_install", "wheel"}
    packages = {Path(path).name for path in image.tree if Path(path).parent.name in {"site-packages", "dist-packages"}}
    assert not packages & {"pip", "setuptools", "uv"}


def test_no_source_of_other_languages_and_no_test_of_a_library_is_in_the_image(image: Image) -> None:
    ours = [path for path in image.tree if path.startswith(OURS)]
    assert [path for path in ours if NOT_NEEDED.search(path)] == []
    assert [path for path in ours if "/tests/" in path] == []


def test_the_user_of_the_image_owns_nothing_and_may_write_to_nothing(image: Image) -> None:
    # Devices are no files of an image: a container has its own.
    writable = {path for path, entry in image.tree.items() if _may_write(entry) and not path.startswith("dev/")}
    assert writable <= OPEN_TO_ALL
    assert {path for path, entry in image.tree.items() if USER in {entry.owner, entry.group}} == set()


def test_no_program_takes_rights_that_the_base_has_not_given_it(image: Image) -> None:
    def taking(found: Tree) -> set[str]:
        return {
            path
            for path, entry in found.items()
            if stat.S_ISREG(entry.mode) and entry.mode & (stat.S_ISUID | stat.S_ISGID)
        }

    assert taking(image.tree) == taking(image.base)


def test_outside_its_own_folder_the_image_adds_a_user_and_takes_away_the_installer(image: Image) -> None:
    changed = {
        path
        for path, entry in image.tree.items()
        if image.base.get(path) != entry and not path.startswith((OURS, *MOUNTED)) and not _is_folder(entry)
    }
    assert changed <= {
        f"etc/{name}{copy}"
        for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")
        for copy in ("", "-")
    }


def test_the_image_is_small_for_what_it_carries(image: Image) -> None:
    sizes = {
        path: (image.root / path).lstat().st_size for path, entry in image.tree.items() if stat.S_ISREG(entry.mode)
    }
    ours = sum(size for path, size in sizes.items() if path.startswith(OURS)) / 1e6
    whole = sum(sizes.values()) / 1e6
    print(f"\nthe image: {whole:.0f} MB of files, {ours:.0f} MB of them ours")  # noqa: T201 - it is what was measured
    assert ours < MOST_MEGABYTES


def test_the_packages_of_the_image_are_those_of_the_lock(image: Image) -> None:
    script = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    answer = image.contained.run("python", "-c", script)
    assert answer.returncode == 0, answer.stderr
    found = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in orjson.loads(answer.stdout).items()}
    pins = dict(re.findall(r"(?m)^([a-z0-9-]+)==([^\s;]+)", (LOCKS / "runtime.txt").read_text(encoding="utf-8")))
    assert found.pop("tidemark") == "0.1.0"
    assert found.keys() <= pins.keys()
    lock = (LOCKS / "runtime.txt").read_text(encoding="utf-8")
    assert {name for name, version in found.items() if f"{name}=={version} " not in lock} == set()
    # What is left out is for other platforms, or other versions of Python.
    assert {name for name in pins.keys() - found.keys() if f"{name}=={pins[name]} ;" not in lock} == set()


def test_the_program_says_what_it_can_do(image: Image) -> None:
    answer = image.contained.run("tidemark", "--help")
    assert answer.returncode == 0, answer.stderr
    assert "worker" in answer.stdout


def test_a_process_of_the_image_has_no_rights_and_writes_only_to_its_temporary_folder(image: Image) -> None:
    status = image.contained.run("cat", "/proc/self/status").stdout
    assert re.search(r"(?m)^Uid:\t10001\t10001\t10001\t10001$", status)
    assert set(re.findall(r"(?m)^Cap\w+:\t(\w+)$", status)) == {"0" * 16}
    assert "NoNewPrivs:\t1" in status
    assert image.contained.run("touch", "here").returncode == 0
    for place in ("/here", "/opt/tidemark/here", "/run/lock/here", "/etc/passwd"):
        refused = image.contained.run("touch", place)
        assert refused.returncode != 0
        assert re.search("Read-only file system|Permission denied", refused.stderr)


def test_the_learning_core_is_compiled_in_the_image(image: Image) -> None:
    script = (
        "from detection.compiled import config\n"
        "from detection.policy import Policy\n"
        "from detection.catalogue import ERROR_RATE\n"
        "from detection.series_model import SeriesModel\n"
        "from detection.training import fold\n"
        "from detection.rows import Observation\n"
        "from detection.kernel import step\n"
        "import numba.core.dispatcher as d\n"
        "from detection.machine_code import load_reading_code, load_streaming_code\n"
        "load_reading_code()\n"
        "load_streaming_code(Policy())\n"
        "fold(SeriesModel(ERROR_RATE, Policy()), [Observation(hour, 1.0, 100) for hour in range(480_000, 480_060)], "
        "Policy())\n"
        "from pathlib import Path\n"
        "print(sorted(str(path) for path in Path(config.CACHE_DIR).rglob('*.nb[ci]') if not path.is_symlink()))\n"
    )
    answer = image.contained.run("python", "-c", script)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "[]", "it was compiled again"


def test_the_api_serves_and_is_healthy_until_it_ends(image: Image, stack: Stack, tmp_path: Path) -> None:
    # Its own default port, which its health check asks.
    with _process(image, "api", tmp_path, _environment(stack)) as api:
        ready = _answered(8000, "/readyz", api)
        assert {name: one["status"] for name, one in ready["dependencies"].items()} == dict.fromkeys(
            ready["dependencies"], "ok"
        )
        healthy = image.contained.run(*image.contained.health)
        assert healthy.returncode == 0, healthy.stderr
        assert _ended(api) == 0
    assert image.contained.run(*image.contained.health).returncode != 0


def test_the_worker_is_ready_and_ends_when_it_is_asked_to(image: Image, stack: Stack, tmp_path: Path) -> None:
    port = free_port()
    environment = _environment(stack) | {"TIDEMARK_WORKER_HTTP_PORT": str(port)}
    with _process(image, "worker", tmp_path, environment, "worker") as worker:
        _answered(port, "/readyz", worker)
        assert _ended(worker) == 0


def _environment(stack: Stack) -> dict[str, str]:
    # Its folder is not in the image.
    return {name: text for name, text in stack.environment().items() if name != "TIDEMARK_DATA_DIR"}


@contextmanager
def _process(
    image: Image, name: str, folder: Path, environment: dict[str, str], *command: str
) -> Iterator[GuardedProcess]:
    process = image.contained.process(name, folder / f"{name}.log", environment, *command)
    process.start()
    try:
        yield process
    finally:
        process.stop()


def _answered(port: int, path: str, process: GuardedProcess) -> dict[str, dict[str, dict[str, str]]]:
    @retry(retry=retry_if_exception_type(OSError), stop=stop_after_delay(90), wait=wait_fixed(0.2), reraise=True)
    def ask() -> bytes:
        assert process.is_running, process.last_lines(40)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            body: bytes = answer.read()
            return body

    found: dict[str, dict[str, dict[str, str]]] = orjson.loads(ask())
    return found


def _ended(process: GuardedProcess) -> int:
    """The exit status after SIGTERM to the contained process, which is the first one of its own world."""
    inner = process.processes()[-1]
    inner.terminate()
    return process.wait(30)


def _is_folder(entry: Entry) -> bool:
    return stat.S_ISDIR(entry.mode)


def _may_write(entry: Entry) -> bool:
    """Whether the mode lets user 10001 write, who is in no group but its own."""
    if stat.S_ISLNK(entry.mode):
        return False
    if entry.owner == USER:
        return bool(entry.mode & 0o200)
    return bool(entry.mode & (0o020 if entry.group == USER else 0o002))
