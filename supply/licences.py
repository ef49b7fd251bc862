"""Under which licences the locked packages come, and whether each may be used: `docs/licences.md` is made from it.

The rule: what lets us ship it in an image under the Apache License, with notices. A package whose licence is none of
these, or cannot be told, stops the page from being written, until somebody has looked at it.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageMetadata, PackageNotFoundError, metadata, version
from pathlib import Path

LOCKS = Path(__file__).parents[1] / "requirements"

PERMISSIVE = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC0-1.0",
        "ISC",
        "LicenseRef-Repoze",  # the three-clause BSD licence, with two sentences on names and on marking changes
        "MIT",
        "MIT-0",
        "PSF-2.0",
        "Zlib",
    }
)
# Asks for the source of its own files, and of nothing that uses them.
OF_ITS_FILES = frozenset({"MPL-2.0"})
# May be used as a library that anybody can replace; each package is named here, because that has to be true of it.
LESSER = frozenset({"LGPL-3.0-only", "LGPL-3.0-or-later"})
REPLACEABLE = {
    "psycopg": "imported from its own folder",
    "psycopg-binary": "loaded by psycopg, which takes the system's libpq in its place",
    "psycopg-pool": "imported from its own folder",
    "recurring-ical-events": "imported from its own folder",
    "uplot-python": "not imported: it carries the charting library uPlot (MIT), whose two files are served",
    "x-wr-timezone": "imported by recurring-ical-events, from its own folder",
}
EXCEPTIONS = frozenset({"LLVM-exception"})

# What packages say that is not an SPDX expression. Texts in full count by their first line.
SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "BSD-derived (Repoze)": "LicenseRef-Repoze",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "ISC License": "ISC",
    "MIT License": "MIT",
}
# Said in words by the package, read in its licence file.
READ = {
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",
    "uvloop": "MIT OR Apache-2.0",
}

_USABLE = "yes"


class LicenceError(Exception):
    """A package may not be used, or nobody knows whether it may."""


@dataclass(frozen=True, slots=True)
class Package:
    """A locked package that this interpreter has installed, and the SPDX expression of its licence."""

    name: str
    version: str
    licence: str


def packages(lock: Path) -> Iterator[Package]:
    """What a lock pins, in its order, less what is for other platforms and other versions of Python."""
    for name in dict.fromkeys(re.findall(r"(?m)^([a-z0-9][a-z0-9._-]*)==", lock.read_text(encoding="utf-8"))):
        try:
            said = metadata(name)
        except PackageNotFoundError:
            continue
        yield Package(name, version(name), expression(name, said))


def expression(name: str, said: PackageMetadata) -> str:
    """The licence as an SPDX expression: the package's own, or what its words and classifiers mean.

    Raises LicenceError when it says nothing that is understood.
    """
    if name in READ:
        return READ[name]
    if "License-Expression" in said:
        return str(said["License-Expression"])
    classified = [one.rpartition(" :: ")[2] for one in said.get_all("Classifier") or [] if one.startswith("License ::")]
    for words in (str(said["License"] or "").partition("\n")[0].strip(), *classified[:1]):
        if words in SPDX:
            return SPDX[words]
        if _is_known(words):
            return str(words)
    raise LicenceError(
        f"{name} says of its licence only {said['License']!r} and {classified}: read it, and add it here"
    )


def refusal(package: Package) -> str | None:
    """Why a package may not be used; None when it may. Of alternatives, one that may be taken is enough."""
    rest, found = package.licence, 1
    while found:
        # From the inside out: what is in brackets counts as one licence, that may be used or not.
        rest, found = re.subn(r"\(([^()]*)\)", lambda inner: _USABLE if _may(inner[1], package.name) else "no", rest)
    if _may(rest, package.name):
        return None
    return f"{package.name} {package.version} comes under {package.licence}, which nobody has allowed"


def page() -> str:
    """The report; raises LicenceError with every package that may not be used."""
    runtime = list(packages(LOCKS / "runtime.txt"))
    local = [one for one in packages(LOCKS / "local.txt") if one not in runtime]
    refused = [said for one in (*runtime, *local) if (said := refusal(one)) is not None]
    if refused:
        raise LicenceError("; ".join(refused))
    lesser = [f"| {one.name} | {REPLACEABLE[one.name]} |" for one in runtime if one.name in REPLACEABLE]
    return "\n".join(
        [
            "<!-- Made by docs/generate.py from what the packages say; change the lock and run `make docs`. -->\n",
            "# Licences\n",
            "Tidemark is under the Apache License 2.0. These are the packages that it is installed with, and under",
            "which licences they come, as SPDX expressions. A package whose licence is not allowed, or not understood,",
            "stops the build of this page; [the supply chain](supply-chain.md) says what is allowed, and why.\n",
            "## In the image\n",
            *_table(runtime),
            "",
            "Of these, the following come under the GNU Lesser General Public License. They are used unchanged, as",
            "libraries that whoever has the image can replace:\n",
            "| Package | How it is used |",
            "|---|---|",
            *lesser,
            "",
            "## Only in the embedded stack of `tidemark up`\n",
            *_table(local),
            "",
        ]
    )


def _table(rows: Iterable[Package]) -> list[str]:
    return ["| Package | Version | Licence |", "|---|---|---|"] + [
        f"| {one.name} | {one.version} | {one.licence} |" for one in rows
    ]


def _may(licences: str, name: str) -> bool:
    """Whether an expression without brackets, in which AND binds more tightly than OR, leaves a way."""
    return any(
        all(_may_be_used(part.strip(), name) for part in re.split(r"\bAND\b", alternative))
        for alternative in re.split(r"\bOR\b", licences)
    )


def _may_be_used(part: str, name: str) -> bool:
    licence, _, exception = part.partition(" WITH ")
    if exception and exception not in EXCEPTIONS:
        return False
    return licence in PERMISSIVE | OF_ITS_FILES | {_USABLE} or (licence in LESSER and name in REPLACEABLE)


def _is_known(words: str) -> bool:
    return words in PERMISSIVE | OF_ITS_FILES | LESSER
