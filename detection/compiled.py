"""How the numeric core is compiled: scalar functions over one series' record, the same for one series and a million."""

import atexit
import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

import numba
import numba.core.config

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

# One record of a structured array: its fields are attributes in compiled code.
Record: TypeAlias = Any

# Numba's annotations know neither its own settings nor these options.
config: Any = numba.core.config
_njit: Any = numba.njit

_SOURCES = Path(__file__).parent / "kernel"


def cache_folder() -> Path:
    """Where machine code is kept: a folder of its own for each version of the sources.

    Numba notices when a function's own file changes, but not when a function that it calls does, in another file: it
    would go on with the old one.
    """
    digest = hashlib.sha256()
    for source in (Path(__file__), *sorted(_SOURCES.glob("*.py"))):
        digest.update(source.read_bytes())
    return _BASE / digest.hexdigest()[:16]


def _writable(folder: Path) -> str:
    """The folder, or where nothing may be written to it, a temporary one that leads to its files.

    Numba does not even read from a folder that it cannot write to, and would compile everything anew at each start of a
    container.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        twin = tempfile.mkdtemp(prefix="tidemark-compiled-")
        atexit.register(shutil.rmtree, twin, ignore_errors=True)
        for file in folder.rglob("*.nb[ci]"):
            link = Path(twin) / file.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
        return twin
    return str(folder)


_BASE = Path(config.CACHE_DIR or _SOURCES / "__pycache__")
config.CACHE_DIR = _writable(cache_folder())
# What every processor of its kind can do: the code compiled into an image runs wherever the image does, and no host
# joins a multiplication and an addition that another one rounds apart.
config.CPU_NAME = "generic"
config.CPU_FEATURES = ""
# A series is a loop over a dozen numbers at a time: vectors cost time to compile, and bring none back.
config.LOOP_VECTORIZE = 0


def compiled(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """The function as machine code, compiled at its first call and kept on disk.

    Without fastmath, so that the order of every operation is as written: the same input gives the same bits in a bank
    of models and in a single one. Division by zero gives infinity or NaN, as in numpy. The lock of the interpreter is
    released meanwhile, so a bank can learn beside an event loop.

    A private function can be called by compiled code only, and becomes a part of what calls it: it is spared the way in
    from the interpreter and the file of its own, a good part of the time to compile.
    """
    is_private = function.__name__.startswith("_")
    return cast(
        "Callable[_Arguments, _Result]",
        _njit(
            function,
            cache=not is_private,
            error_model="numpy",
            nogil=True,
            no_cpython_wrapper=is_private,
            no_cfunc_wrapper=True,
        ),
    )
