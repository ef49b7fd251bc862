"""What is generated or declared twice agrees with where it comes from."""

import re
import tomllib
from pathlib import Path

import pytest

from docs.generate import PAGES

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", re.MULTILINE)


@pytest.mark.parametrize("file_name", PAGES)
def test_a_generated_page_is_up_to_date(file_name: str) -> None:
    written = (ROOT / "docs" / file_name).read_text(encoding="utf-8")
    assert written == PAGES[file_name](), f"docs/{file_name} is old: run make docs"


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_a_lock_names_no_index_and_no_folder_of_the_machine_it_was_made_on(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text
    assert "file:" not in text
    assert not re.search(r"(^|\s)/", text, re.MULTILINE)


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_every_locked_package_has_hashes(path: Path) -> None:
    for block in re.split(r"\n(?=[a-z0-9])", path.read_text(encoding="utf-8")):
        if PIN.match(block):
            assert "--hash=sha256:" in block, block


@pytest.mark.parametrize(
    ("lock", "extras"), [("runtime.txt", ()), ("local.txt", ("local",)), ("dev.txt", ("local", "dev"))]
)
def test_every_declared_dependency_is_locked(lock: str, extras: tuple[str, ...]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = project["dependencies"] + [item for extra in extras for item in project["optional-dependencies"][extra]]
    names = {re.split(r"[\[<>=!~ ;]", item)[0] for item in declared}
    assert names <= _pins(lock).keys(), f"requirements/{lock} is old: run make lock"


@pytest.mark.parametrize("lock", ["runtime.txt", "local.txt", "bootstrap.txt"])
def test_all_locks_agree_on_the_versions(lock: str) -> None:
    assert _pins(lock).items() <= _pins("dev.txt").items()


def test_every_package_and_module_at_the_top_level_is_declared() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"benchmarks", "tests"}
    modules = {path.stem for path in ROOT.glob("*.py")}
    included = {name for name in tool["setuptools"]["packages"]["find"]["include"] if not name.endswith(".*")}
    assert set(tool["setuptools"]["py-modules"]) == modules
    assert packages <= included
    assert set(tool["importlinter"]["root_packages"]) == included
    assert set(tool["deptry"]["known_first_party"]) == included | modules
    assert (included | modules) - {"detection"} <= set(tool["importlinter"]["contracts"][0]["forbidden_modules"])


def _pins(lock: str) -> dict[str, frozenset[str]]:
    pins: dict[str, set[str]] = {}
    for name, version in PIN.findall((ROOT / "requirements" / lock).read_text(encoding="utf-8")):
        pins.setdefault(name, set()).add(version)
    return {name: frozenset(versions) for name, versions in pins.items()}
