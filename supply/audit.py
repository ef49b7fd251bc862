"""Asks, of every locked package, whether a vulnerability is known; fails when one is that nobody has accepted.

`make audit` runs it. An audit without data finds nothing, which looks like an audit that found nothing: so what could
not be asked is counted and named, and a source of data is believed only after it has named a vulnerability that is
known to be there. With `--complete`, a package that could not be asked fails the audit too.
"""

import argparse
import datetime as dt
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import requests
from packaging.version import Version
from pip_audit._service.interface import ConnectionError as NotReached
from pip_audit._service.interface import ResolvedDependency, ServiceError, VulnerabilityResult
from pip_audit._service.pypi import PyPIService

HERE = Path(__file__).parent
LOCKS = HERE.parent / "requirements"
ACCEPTED = HERE / "accepted.toml"
TIMEOUT_SECONDS = 30

# Vulnerable, and will be: one release that was mended by the next, and the newest one of a project that mends nothing.
KNOWN_OF_A_RELEASE = ResolvedDependency("jinja2", Version("3.1.2"))
KNOWN_OF_A_PROJECT = ResolvedDependency("ecdsa", Version("0.19.2"))

FOUND, INCOMPLETE = 1, 3


@dataclass(frozen=True, slots=True)
class Accepted:
    """A vulnerability that is let pass until a day, that day included."""

    id: str
    package: str
    reason: str
    until: dt.date


@dataclass(frozen=True, slots=True)
class Finding:
    package: ResolvedDependency
    vulnerability: VulnerabilityResult

    @property
    def names(self) -> frozenset[str]:
        return frozenset({self.vulnerability.id, *self.vulnerability.aliases})

    def __str__(self) -> str:
        others = ", ".join(sorted(self.vulnerability.aliases)) or "no other name"
        mended = ", ".join(str(version) for version in self.vulnerability.fix_versions) or "no release"
        return f"{self.package.name} {self.package.version}: {self.vulnerability.id} ({others}), mended in {mended}"


class Advisories:
    """What the index says of a release, or of the project whose newest it is: mirrors often know only the latter."""

    def __init__(self) -> None:
        self._releases = PyPIService(timeout=TIMEOUT_SECONDS)
        self._projects = PyPIService(timeout=TIMEOUT_SECONDS)
        # pip-audit makes the addresses and reads the answers; only what is asked is another.
        self._projects.session = _Projects(self._projects.session)
        self._believed = [
            service
            for service, known in ((self._releases, KNOWN_OF_A_RELEASE), (self._projects, KNOWN_OF_A_PROJECT))
            if _ask(service, known)
        ]

    def vulnerabilities(self, package: ResolvedDependency) -> list[VulnerabilityResult] | None:
        """What is known of it; None when nobody who is believed could say."""
        for service in self._believed:
            found = _ask(service, package)
            if found is not None:
                return found
        return None


class _Projects:
    """Asks for the project in place of the release; it is no answer when another release is its newest."""

    def __init__(self, session: requests.Session) -> None:
        self._session = session

    def get(self, url: str, timeout: int | None) -> requests.Response:
        project, version, last = url.rsplit("/", 2)
        answer = self._session.get(url=f"{project}/{last}", timeout=timeout)
        if answer.ok and answer.json()["info"]["version"] != version:
            answer.status_code = HTTPStatus.NOT_FOUND
        return answer


def _ask(service: PyPIService, package: ResolvedDependency) -> list[VulnerabilityResult] | None:
    try:
        answered, found = service.query(package)
    except (NotReached, ServiceError, requests.RequestException):
        return None
    return None if answered.is_skipped() else list(found)


def locked(paths: Iterable[Path]) -> list[ResolvedDependency]:
    """Every version that any of these files pins, once, in the order of names and versions."""
    pinned = {
        (name, Version(version))
        for path in paths
        for name, version in re.findall(r"(?m)^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", path.read_text(encoding="utf-8"))
    }
    return [ResolvedDependency(name, version) for name, version in sorted(pinned)]


def accepted(text: str) -> list[Accepted]:
    """What the reviewed file lets pass; raises TypeError for an entry that lacks a part or has one too many."""
    entries: list[dict[str, Any]] = tomllib.loads(text).get("vulnerability", [])
    return [Accepted(**entry) for entry in entries]


def unanswered(
    findings: Iterable[Finding], let_pass: Iterable[Accepted], today: dt.date
) -> Iterator[tuple[Finding, str]]:
    """The findings that nobody has accepted, or not for today, each with what is to be said of it."""
    for finding in findings:
        entries = [one for one in let_pass if one.package == finding.package.name and one.id in finding.names]
        if not entries:
            yield finding, "take a version that mends it, or say in supply/accepted.toml why it may pass"
        elif all(one.until < today for one in entries):
            yield finding, f"it was let pass until {max(one.until for one in entries)}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--complete", action="store_true", help="fail when a package could not be asked about")
    parser.add_argument("locks", nargs="*", type=Path, help="the locks that are asked about; all, without any")
    chosen = parser.parse_args(arguments)
    packages = locked(chosen.locks or sorted(LOCKS.glob("*.txt")))
    advisories = Advisories()
    answers = {package: advisories.vulnerabilities(package) for package in packages}
    not_asked = [package for package, found in answers.items() if found is None]
    findings = [Finding(package, one) for package, found in answers.items() for one in found or []]
    let_pass = accepted(ACCEPTED.read_text(encoding="utf-8"))
    bad = list(unanswered(findings, let_pass, dt.datetime.now(dt.UTC).date()))
    for finding, said in bad:
        print(f"VULNERABLE {finding}: {said}")
    passed = len(findings) - len(bad)
    print(f"{len(packages) - len(not_asked)} of {len(packages)} locked versions asked about: ", end="")
    print(f"{len(bad)} known vulnerabilities to mend, {passed} let pass by supply/accepted.toml.")
    if not_asked:
        print(f"NOT AUDITED, the data could not be had: {', '.join(f'{one.name} {one.version}' for one in not_asked)}")
    if bad:
        return FOUND
    return INCOMPLETE if not_asked and chosen.complete else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
