"""What `tidemark doctor` finds out without asking anybody: Python, packages, settings, files, disk and memory."""

import os
import platform
import re
import resource
import shutil
import stat
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from detection.errors import InputError, SettingsError, TidemarkError
from state.finding import Finding, failed, ok, percent_finding, unknown, warning

if TYPE_CHECKING:
    from settings import Settings

_OLDEST_PYTHON: Final = (3, 11)
_LEAST_FILES: Final = 1024
_GOOD_FILES: Final = 4096
_LEAST_BYTES: Final = 1024**3
_REQUIREMENT: Final = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*(?:>=\s*([0-9.]+))?")


def machine_findings() -> list[Finding]:
    """Of the machine and of what is installed on it."""
    return [_python(), _packages(), _open_files(), _memory()]


def python_finding(found: tuple[int, int, int]) -> Finding:
    """Of a Python of this version."""
    text = ".".join(map(str, found))
    if found < _OLDEST_PYTHON:
        return failed("machine.python", text, "Take Python 3.11 or newer.")
    return ok("machine.python", f"{text}, {platform.system()} {platform.machine()}, {os.cpu_count()} processors")


def package_finding(needed: Mapping[str, str], installed: Mapping[str, str]) -> Finding:
    """Of the packages that are needed, with their least versions, and those that are there."""
    missing = sorted(name for name in needed if name not in installed)
    old = sorted(
        f"{name} {installed[name]} (needs {least})"
        for name, least in needed.items()
        if name in installed and _numbers(installed[name]) < _numbers(least)
    )
    if missing or old:
        found = "; ".join(
            f"{what}: {', '.join(which)}" for what, which in (("missing", missing), ("too old", old)) if which
        )
        return failed("machine.packages", found, "Install the locked ones: `make setup`, or requirements/runtime.txt.")
    shown = ", ".join(
        f"{name} {installed[name]}" for name in ("faust-streaming", "river", "redis") if name in installed
    )
    return ok("machine.packages", f"{len(needed)} as they are needed; {shown}")


def files_finding(soft: int) -> Finding:
    """Of a process that may have so many files and connections open."""
    advice = f"Raise it for the service: ulimit -n {_GOOD_FILES}, or LimitNOFILE= in its unit."
    found = f"{soft} may be open at a time"
    if soft < _LEAST_FILES:
        return failed("machine.files", found, advice)
    return warning("machine.files", found, advice) if soft < _GOOD_FILES else ok("machine.files", found)


def disk_finding(path: Path, free: int, total: int) -> Finding:
    """Of a disk with so many bytes."""
    found = f"{path}: {free / 1024**3:.1f} GiB free of {total / 1024**3:.1f}"
    advice = "Make room: logs and the data of the embedded stack are written there."
    if free < _LEAST_BYTES:
        return failed("machine.disk", found, advice)
    return percent_finding("machine.disk", found, 1 - free / total, advice, warn=0.9, fail=0.98)


def disk(path: Path) -> Finding:
    """Of the disk that this path is, or would be, on."""
    path = path.expanduser().resolve()
    while not path.exists():
        path = path.parent
    try:
        usage = shutil.disk_usage(path)
    except OSError as error:
        return unknown("machine.disk", f"{path}: {error.strerror}")
    return disk_finding(path, usage.free, usage.total)


def settings_findings() -> "tuple[Settings | None, list[Finding]]":
    """What can be said of the settings, and themselves where they can be used at all."""
    import settings

    findings: list[Finding] = []
    try:
        settings.refuse_unknown(os.environ)
    except SettingsError as error:
        findings.append(failed("settings.unknown", str(error), "Correct the name, or take the variable away."))
    known = {name: value for name, value in os.environ.items() if name.startswith(settings.PREFIX)}
    findings += _secrets(os.environ.get(settings.SECRETS_DIR))
    try:
        found = settings.Settings(_secrets_dir=os.environ.get(settings.SECRETS_DIR))
    except ValueError:
        # The same once more, for a text that shows nothing of what may be a password.
        try:
            settings.load()
        except SettingsError as error:
            findings.append(failed("settings", str(error), "Correct the setting: nothing starts with it."))
        return None, findings
    findings.insert(0, ok("settings", f"{len(known)} set, the others as by default"))
    return found, findings + dangers(found)


def dangers(settings: "Settings") -> list[Finding]:
    """Settings that can be used, and had better not be, or not like this."""
    from api.app import refuse_unprotected

    findings = []
    try:
        refuse_unprotected(settings)
    except SettingsError as error:
        findings.append(failed("settings.http_host", str(error), "The API does not start like this."))
    if settings.insecure:
        findings.append(
            warning(
                "settings.insecure",
                f"TIDEMARK_INSECURE=true, listening on {settings.http_host}",
                "Set TIDEMARK_AUTH=on in its place, unless a proxy in front asks who somebody is.",
            )
        )
    if settings.clock == "events":
        findings.append(
            warning(
                "settings.clock",
                "TIDEMARK_CLOCK=events",
                "For recorded data only: with live calls, nothing closes the windows when all billers are silent.",
            )
        )
    if settings.dead_letter_share >= 1:
        findings.append(
            warning(
                "settings.dead_letter_share",
                "TIDEMARK_DEAD_LETTER_SHARE=1",
                "Lower it: a bad deployment of a sender would divert everything, and no worker would stop for it.",
            )
        )
    return findings + _files(settings)


def _files(settings: "Settings") -> list[Finding]:
    from state.rule_files import rules_of_setting
    from stream.channels.targets import load_targets

    findings = []
    advice = "Correct the file: a worker does not start with it."
    try:
        if rules_of_setting(settings.rules) is not None:
            findings.append(ok("settings.rules", f"{settings.rules} can be read"))
    except TidemarkError as error:
        findings.append(failed("settings.rules", str(error), advice))
    if settings.targets is not None:
        try:
            found = load_targets(settings.targets)
            findings.append(ok("settings.targets", f"{settings.targets}: {len(found)} targets"))
        except (SettingsError, InputError) as error:
            findings.append(failed("settings.targets", str(error), advice))
    return findings


def _secrets(folder: str | None) -> list[Finding]:
    if not folder:
        return []
    path = Path(folder)
    if not path.is_dir():
        return [failed("settings.secrets", f"{folder} is no folder", "Correct TIDEMARK_SECRETS_DIR.")]
    loose = sorted(one.name for one in path.iterdir() if one.is_file() and one.stat().st_mode & stat.S_IROTH)
    if loose:
        return [warning("settings.secrets", f"anybody can read {', '.join(loose)}", "chmod o-rwx them.")]
    return [ok("settings.secrets", folder)]


def _python() -> Finding:
    return python_finding((sys.version_info.major, sys.version_info.minor, sys.version_info.micro))


def _packages() -> Finding:
    try:
        declared = requires("tidemark") or []
        own = version("tidemark")
    except PackageNotFoundError:
        return unknown("machine.packages", "tidemark itself is not installed", "pip install --no-deps --editable .")
    needed: dict[str, str] = {}
    for one in declared:
        match = _REQUIREMENT.match(one)
        if match is not None and "extra ==" not in one:
            needed[match[1]] = match[2] or "0"
    finding = package_finding(needed, {name: found for name in needed if (found := _installed(name))})
    return Finding(finding.name, finding.level, f"tidemark {own}; {finding.found}", finding.advice)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    """As far as a version is of numbers, which is what least versions are of."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[a-z+]", text)[0]))


def _open_files() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return files_finding(sys.maxsize if soft == resource.RLIM_INFINITY else soft)


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    return percent_finding(
        "machine.memory",
        f"{memory.available / 1024**3:.1f} GiB available of {memory.total / 1024**3:.1f}",
        1 - memory.available / memory.total,
        "A worker takes about 50 kB for each of TIDEMARK_CACHED_SUBJECTS, and what it reads at a time.",
        warn=0.9,
        fail=0.98,
    )
