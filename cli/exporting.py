"""From Redis into a file of lines: some hundred subjects in memory at a time, whatever there are."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from cli.packed import written
from cli.progress import Progress
from detection.hours import iso
from detection.rules.glob import literal_beginning, matcher
from detection.subject import Subject
from state.export import Header, Writer
from state.redis_export import RedisExport
from state.redis_store import RedisStore

_PAGE: Final = 500


def fits(subject: Subject, globs: Collection[str]) -> bool:
    """Whether a glob fits the subject's text, `biller:B1`, or its id; without globs, every subject does."""
    return not globs or any(matcher(glob)(str(subject)) or matcher(glob)(subject.id) for glob in globs)


async def export_state(
    store: RedisStore,
    path: Path,
    *,
    globs: Collection[str],
    log_id: str,
    wall_ms: int,
    progress: Callable[[int], Progress],
) -> int:
    """Write the subjects that fit into a file that is there when it is whole; how many."""
    redis = RedisExport(store.client)
    writer = Writer()
    # The progress first: everything before it is then in what is read after it.
    progress_of_all = await store.progress()
    header = Header(log_id, iso(wall_ms), bool(globs), progress_of_all, await redis.shared())
    count = 0
    prefix = beginning(globs)
    with written(path) as file, progress(max(await redis.count(), 1)) as shown:
        file.write(writer.header(header))
        after = ""
        while page := await store.subjects(after=after, limit=_PAGE, prefix=prefix):
            after = str(page[-1])
            wanted = [one for one in page if fits(one, globs)]
            for subject, parts in (await redis.read(wanted)).items():
                file.write(writer.subject(subject, parts))
                count += 1
            shown.advance("subjects", len(page))
        file.write(writer.trailer())
    return count


def beginning(globs: Collection[str]) -> str:
    """What the text of every subject that fits begins with, as far as that is known."""
    beginnings = {literal_beginning(glob) for glob in globs}
    return beginnings.pop() if len(beginnings) == 1 and all(":" in one for one in beginnings) else ""
