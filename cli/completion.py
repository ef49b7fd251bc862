"""`tidemark completion SHELL`: the script by which a shell completes the command, and the values that it completes.

The script asks `tidemark` itself for each word, so commands and options are never out of date. Where Redis or the API
answers at once, subjects are completed too; where it does not, nothing is, and no error is seen.
"""

import asyncio
from enum import StrEnum
from typing import Annotated, Any, Final

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]  # typer re-exports it without saying so

from cli import credentials

_PROGRAM: Final = "tidemark"
_VARIABLE: Final = "_TIDEMARK_COMPLETE"
# A person waits for it, with a finger on a key.
_SECONDS: Final = 1.0
_MOST: Final = 50


class Shell(StrEnum):
    """Those that scripts are there for."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="The shell that reads it.")]) -> None:
    """Print the script that completes `tidemark` in a shell.

    bash: tidemark completion bash > ~/.local/share/bash-completion/completions/tidemark

    zsh: tidemark completion zsh > ~/.zfunc/_tidemark, a folder that is in fpath before compinit is called

    fish: tidemark completion fish > ~/.config/fish/completions/tidemark.fish
    """
    print(get_completion_script(prog_name=_PROGRAM, complete_var=_VARIABLE, shell=shell.value))


def stored_subjects(incomplete: str) -> list[str]:
    """Ids of subjects in Redis that begin like this; none where Redis is away."""
    from settings import load
    from state.redis_store import RedisStore

    async def found() -> list[str]:
        settings = load()
        store = RedisStore.connect(settings.redis(), settings.policy(), timeout_seconds=_SECONDS, retries=0)
        try:
            async with asyncio.timeout(_SECONDS):
                return [
                    subject.id
                    for kind in ("biller", "model")
                    for subject in await store.subjects(prefix=f"{kind}:{incomplete}", limit=_MOST)
                ]
        finally:
            await store.aclose()

    return _or_nothing(lambda: asyncio.run(found()))


def served_subjects(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of subjects that the API knows and that begin like this; none where it is away."""
    import httpx

    def found() -> list[str]:
        url = str(ctx.params.get("url") or "http://127.0.0.1:8000").rstrip("/")
        query: dict[str, Any] = {"prefix": incomplete, "limit": 3 * _MOST}
        answer = (
            httpx.get(f"{url}/thresholds", params=query, headers=credentials.headers(), timeout=_SECONDS)
            .raise_for_status()
            .json()
        )
        return list(dict.fromkeys(one["subject"].partition(":")[2] for one in answer["thresholds"]))

    return _or_nothing(found)


def stored_snapshots(incomplete: str) -> list[str]:
    """Ids of snapshots that begin like this, newest first; none where the storage is away."""
    from settings import load
    from state.snapshots.manifest import ids
    from state.snapshots.storage import Storage

    def found() -> list[str]:
        settings = load()
        storage = Storage.open(settings.snapshots(), certificates=settings.snapshot_ca_file, is_patient=False)
        return [one for one in ("latest", *reversed(ids(storage))) if one.startswith(incomplete)][:_MOST]

    return _or_nothing(found)


def metrics(incomplete: str) -> list[tuple[str, str]]:
    """Slugs of the metrics that every biller has; of a model's, anybody may name more."""
    from detection.catalogue import BILLER_METRICS

    return [(one.slug, f"in {one.unit}") for one in BILLER_METRICS if one.slug.startswith(incomplete)]


def _or_nothing(found: Any) -> list[str]:
    try:
        names: list[str] = found()
    # Whatever it is: what is printed here lands in the line that somebody is typing.
    except Exception:  # noqa: BLE001
        return []
    return names
