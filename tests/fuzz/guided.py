"""Coverage-guided fuzzing of one target: `python -m tests.fuzz.guided TARGET --seconds 600 --corpus FOLDER`.

Atheris 3.0 (libFuzzer inside) watches which lines of the program an input reaches, and which numbers and texts it is
compared with. Without `--corpus` what it finds is left in a folder that is gone afterwards; `--keep` makes the target's
corpus what was found, as far as it is short. An input that breaks a promise is put into `--crashes`.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

from tests.fuzz.targets import FOLDER, MOST_SECONDS, TARGETS, Target

_OURS = ("api", "detection", "state", "stream")
# What is compiled to machine code is not read as Python, and no exclusion of a package reaches its modules.
_COMPILED = ("compiled", *(f"kernel.{path.stem}" for path in (FOLDER.parents[1] / "detection" / "kernel").glob("*.py")))
# No input may make so much of anything at once.
_LARGEST_MB = 2048
# Atheris 3.0 never gives back what a comparison of arrays has come to: kilobytes an input, gigabytes in a long run.
_LARGEST_WITH_LEAKS_MB = 8192
# A corpus that is kept is read by everybody's tests: the shortest inputs, and no more bytes than this together.
_MOST_KEPT = 80_000


def main() -> None:
    """Run the fuzzer in this process; it ends with another status than 0 where a promise was broken."""
    arguments = _arguments()
    target = TARGETS[arguments.target]
    if arguments.keep:
        keep(target, arguments.corpus)
        return
    with tempfile.TemporaryDirectory(prefix="tidemark-fuzz-") as folder:
        corpus = arguments.corpus or Path(folder)
        corpus.mkdir(parents=True, exist_ok=True)
        fuzz(target, corpus, arguments.seconds, arguments.crashes or corpus)


def fuzz(target: Target, corpus: Path, seconds: int, crashes: Path) -> None:
    """Never returns: libFuzzer ends the process."""
    check = instrumented(target)
    for at, seed in enumerate(target.seeds()):
        (corpus / f"seed-{at:03d}").write_bytes(seed[: 4 * target.longest])
    words = corpus.parent / f"{target.name}.dictionary"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
    crashes.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={target.longest}",
        f"-timeout={10 * int(MOST_SECONDS)}",
        f"-malloc_limit_mb={_LARGEST_MB}",
        f"-rss_limit_mb={_LARGEST_WITH_LEAKS_MB}",
        f"-artifact_prefix={crashes}/",
        "-print_final_stats=1",
        "-use_value_profile=0",
    ]
    if target.words:
        # An empty dictionary is an error.
        options.append(f"-dict={words}")
    known = [str(folder) for folder in (target.corpus, target.found) if folder.is_dir()]
    _run([*options, str(corpus), *known], check)


def keep(target: Target, corpus: Path | None) -> None:
    """Make the target's corpus what it has and what was found, the shortest first; libFuzzer adds what reaches more."""
    target.corpus.mkdir(parents=True, exist_ok=True)
    folders = [folder for folder in (corpus, target.corpus) if folder is not None]
    found = {path.read_bytes(): path.name for folder in folders for path in folder.iterdir() if path.is_file()}
    # What the target begins with is made anew each time.
    texts = sorted(found.keys() - set(target.seeds()), key=lambda text: (len(text), text))
    sizes = accumulate(map(len, texts))
    kept = {found[text][:16]: text for text, size in zip(texts, sizes, strict=True) if size <= _MOST_KEPT}
    for old in target.corpus.iterdir():
        old.unlink()
    for name, text in kept.items():
        (target.corpus / name).write_bytes(text)
    sys.stderr.write(f"{target.corpus}: {len(kept)} of {len(texts)} inputs\n")


def instrumented(target: Target) -> Callable[[bytes], None]:
    """The target's check; every module of ours, and of the libraries it names, then says what is reached in it."""
    atheris: Any = __import__("atheris")
    excluded = [f"detection.{name}" for name in _COMPILED]
    with atheris.instrument_imports(include=[*_OURS, *target.libraries], exclude=excluded):
        check = target.check()
    for seed in target.seeds():
        # The first call loads the compiled core.
        check_quietly(check, seed)
    return check


def check_quietly(check: Callable[[bytes], None], data: bytes) -> None:
    """What is wrong with a seed is found again by the fuzzer, which says which one it was."""
    with suppress(Exception):
        check(data)


def _run(options: Sequence[str], check: Callable[[bytes], None]) -> None:
    atheris: Any = __import__("atheris")
    atheris.Setup([sys.argv[0], *options], check)
    atheris.Fuzz()


def _escaped(word: str) -> str:
    return "".join(
        chr(one) if 32 <= one < 127 and chr(one) not in '"\\' else f"\\x{one:02x}" for one in word.encode("utf-8")
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, help="where new inputs are put")
    parser.add_argument("--crashes", type=Path, help="where inputs that break a promise are put")
    parser.add_argument("--keep", action="store_true", help="shorten the target's corpus, with what is in --corpus")
    return parser.parse_args()


if __name__ == "__main__":
    main()
