"""The jars of Apache Kafka: copied by Maven as `pom.xml` pins them, and never used with other contents than listed.

python -m tests.kafka.jars            copies what is missing, and verifies all of it
python -m tests.kafka.jars --accept   copies anew and lists what came, after a change of `pom.xml`
"""

import argparse
import functools
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
POM = Path(__file__).with_name("pom.xml")
LIST = Path(__file__).with_name("jars.sha256")
FOLDER = ROOT / ".cache" / "apache-kafka"

_OLDEST_JAVA = 17
_DEBIAN_PACKAGES = "on Debian and Ubuntu, install default-jre-headless and maven"


class JarsError(Exception):
    """Apache Kafka cannot be run here; the message says what is missing, or wrong."""


@functools.cache
def verified() -> Path:
    """The folder, which holds exactly the listed jars; raises JarsError. Looks once in a process."""
    if not FOLDER.is_dir():
        raise JarsError(f"{FOLDER} is missing: run make test-kafka, which copies the jars of Apache Kafka there")
    if differing := _differing():
        raise JarsError(f"{FOLDER} is not what {LIST.name} lists ({', '.join(differing)}): run make test-kafka")
    return FOLDER


def prepare(*, accept: bool = False) -> None:
    """Make the folder what it must be; raises JarsError."""
    _require_java()
    if not accept and FOLDER.is_dir() and not _differing():
        return
    _copy()
    if accept:
        LIST.write_text("".join(f"{digest}  {name}\n" for name, digest in _present().items()), encoding="utf-8")
    elif differing := _differing():
        # Nothing may run what was refused.
        shutil.rmtree(FOLDER)
        raise JarsError(f"what Maven copied is not what {LIST.name} lists: {', '.join(differing)}")


def _copy() -> None:
    if shutil.which("mvn") is None:
        raise JarsError(f"mvn was not found: Maven copies the jars of Apache Kafka; {_DEBIAN_PACKAGES}")
    shutil.rmtree(FOLDER, ignore_errors=True)
    command = ["mvn", "--batch-mode", "--quiet", "--no-transfer-progress", "--strict-checksums", "--file", str(POM)]
    command += ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={FOLDER}"]
    copied = subprocess.run(command, check=False, stdin=subprocess.DEVNULL)
    if copied.returncode:
        shutil.rmtree(FOLDER, ignore_errors=True)
        raise JarsError(f"Maven could not copy the jars of Apache Kafka: it ended with {copied.returncode}, see above")


def _require_java() -> None:
    if shutil.which("java") is None:
        raise JarsError(f"java was not found: Apache Kafka needs Java {_OLDEST_JAVA} or newer; {_DEBIAN_PACKAGES}")
    said = subprocess.run(["java", "-version"], check=False, capture_output=True, text=True).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < _OLDEST_JAVA:
        raise JarsError(f"Apache Kafka needs Java {_OLDEST_JAVA} or newer, and java says: {said.strip()}")


def _differing() -> list[str]:
    lines = (line.split("  ") for line in LIST.read_text(encoding="utf-8").splitlines())
    listed = {name: digest for digest, name in lines}
    return sorted(name for name, _ in listed.items() ^ _present().items())


def _present() -> dict[str, str]:
    files = sorted(path for path in FOLDER.iterdir() if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _main() -> int:
    parser = argparse.ArgumentParser(description="Copy and verify the jars of Apache Kafka.")
    parser.add_argument("--accept", action="store_true", help="list what Maven copies as what has to come")
    try:
        prepare(accept=parser.parse_args().accept)
    except JarsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
