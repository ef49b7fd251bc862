"""From a file of lines into Redis: checked to its end, then written, and each few subjects read back and compared.

The file is read twice, so that nothing is written of one that is damaged near its end; some hundred subjects are in
memory at a time.

How far the topics were read comes with the subjects, in the `offsets` of each and in the progress of all: the same
events then never count twice, and none is left out. The progress is set to where the file was made, back from where it
is if need be: workers read again from there, subjects that are further leave out by their own offsets what they have,
and the imported ones take what they miss. A worker compares the last record that was read with what its topic has there
(`stream.placement`), so a Kafka whose topics are others stops it. Of such a Kafka, `is_other_log` forgets offsets and
progress: its topics are read from their beginning.

Where only some subjects are imported, the file's progress says nothing of the others. A topic of which Redis knows no
progress is then read from its beginning too: the imported subjects leave out what they have, all others take theirs.

Offsets mean something only under the name they were kept under, which is the log's and the topic's life. So the lives
come with any import, and a file of another log, or of other lives than Redis has, is refused.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from cli.exporting import fits
from cli.progress import Progress
from detection.errors import ConflictError, InputError, OperatorError
from detection.hours import iso
from detection.policy import Policy
from state.alerting import RedisAlerting
from state.export import OWN, Exported, Fields, Header, Parts, Reader
from state.redis_export import RedisExport, Restore
from state.redis_progress import decode_lives
from state.redis_store import RedisStore
from state.store import Head, Reached

if TYPE_CHECKING:
    from settings import Settings

_AT_ONCE: Final = 250

# What a state says of the topics and of nothing else.
_OFFSETS: Final = b"offsets"
_REV: Final = b"rev"

# The lives of the topics, among what belongs to no subject.
_LOG: Final = "log"


# Opens the lines, from the first one on; they are read twice.
Source = Callable[[], AbstractContextManager[Iterator[bytes]]]


@dataclass(slots=True)
class Imported:
    """What an import has done, or would do: subjects by what became of them, and what else was set."""

    is_dry: bool
    new: int = 0
    replaced: int = 0
    unchanged: int = 0
    shared: list[str] = field(default_factory=list)
    progress: dict[str, int] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "is_dry_run": self.is_dry,
            "new": self.new,
            "replaced": self.replaced,
            "unchanged": self.unchanged,
            "shared": self.shared,
            "progress": self.progress,
        }

    def text(self) -> str:
        """For people."""
        lines = [f"{self.new:,} new subjects, {self.replaced:,} replaced, {self.unchanged:,} unchanged"]
        if self.shared:
            lines.append(f"also set: {', '.join(self.shared)}")
        lines += [f"{source} is read on from {offset:,}" for source, offset in sorted(self.progress.items())]
        lines.append("nothing was written: this was a dry run" if self.is_dry else "read back: all fields are equal")
        return "\n".join(lines)


async def import_state(
    store: RedisStore,
    source: Source,
    *,
    policy: Policy,
    log_id: str,
    globs: Collection[str],
    is_replacing: bool,
    is_other_log: bool,
    is_dry: bool,
    wall_ms: int,
    progress: Callable[[Mapping[str, int | None]], Progress],
) -> Imported:
    """Write the subjects of the file that fit, and what belongs to all of them.

    `log_id` is the log that workers read. InputError that names the line where the file is damaged, of another version,
    of another log or another life of a topic, or behind what is stored: nothing was written then. ConflictError where
    somebody wrote a subject meanwhile, OperatorError where what was read back is another: what was written before
    stays, and the same import can be run again.
    """
    work = _Import(store, RedisExport(store.client), log_id, is_replacing, is_other_log, Imported(is_dry))
    with progress({"checked": None}) as shown:
        count = await work.check(source, policy, globs, shown)
    if is_dry:
        return work.done
    with source() as lines, progress({"written": max(count, 1)}) as shown:
        reader = Reader(lines)
        await work.write_shared(reader.header, is_whole=not (globs or reader.header.is_partial))
        for some in _parts(one for one in reader.subjects() if fits(one.subject, globs)):
            await work.write(some, wall_ms)
            shown.advance("written", len(some))
    return work.done


async def refuse_beside_workers(settings: "Settings") -> None:
    """OperatorError where Kafka says that workers are alive: they would go on with what they have in memory."""
    from cli.log import members

    workers = await members(settings)
    if workers:
        raise OperatorError(
            f"{workers} of the group {settings.kafka_group!r} are alive: stop the workers first, and wait for "
            f"TIDEMARK_KAFKA_SESSION_SECONDS ({settings.kafka_session_seconds:g} s) if one was killed; --force goes on "
            "all the same, and fails where one of them writes a subject meanwhile"
        )


@dataclass(frozen=True, slots=True)
class _Import:
    store: RedisStore
    redis: RedisExport
    log_id: str
    is_replacing: bool
    is_other_log: bool
    done: Imported

    async def check(self, source: Source, policy: Policy, globs: Collection[str], shown: Progress) -> int:
        """Read the whole file, and compare with what is stored; how many subjects are to be looked at."""
        count = newer = 0
        first = ""
        with source() as lines:
            reader = Reader(lines)
            if not self.is_other_log:
                await self._check_log(reader.header)
            for some in _parts(reader.subjects()):
                wanted = [one for one in some if fits(one.subject, globs)]
                for one in wanted:
                    one.state(policy)
                heads = {one.subject: one for one in await self.store.heads([one.subject for one in wanted])}
                for one in wanted:
                    count += 1
                    head = heads.get(one.subject)
                    if head is not None and _is_newer(head, one):
                        newer += 1
                        first = first or f"line {one.line:,}: {one.subject} is further in Redis: {_behind(head, one)}"
                if self.done.is_dry:
                    await self._count(wanted)
                shown.advance("checked", len(some))
        if newer and not self.is_replacing:
            more = f", and so are {newer - 1:,} more" if newer > 1 else ""
            raise InputError(f"{first}{more}. Nothing was written; --replace writes the older state over them")
        return count

    async def _check_log(self, header: Header) -> None:
        """InputError where workers would keep the offsets of the file's topics under another name than the file."""
        otherwise = "Nothing was written; --other-logs forgets how far the topics were read"
        if header.log_id != self.log_id:
            raise InputError(
                f"line 1: the file is of the log {header.log_id!r}, TIDEMARK_KAFKA_LOG_ID is {self.log_id!r}. "
                f"{otherwise}"
            )
        stored, known = await self.store.log_lives(), await self.store.progress()
        lives = decode_lives(header.shared.get(_LOG, {}))
        for topic in sorted(_topics(lives, header.progress) & _topics(stored, known)):
            ours, theirs = (one[topic].life if topic in one else 0 for one in (stored, lives))
            if ours != theirs:
                raise InputError(
                    f"line 1: the file is of life {theirs} of the topic {topic}, Redis has life {ours} of it. "
                    f"{otherwise}"
                )

    async def write_shared(self, header: Header, *, is_whole: bool) -> None:
        """What belongs to no subject, before the first of them: a worker that starts too early then reads too much."""
        stored = await self.redis.shared()
        for name, fields in header.shared.items():
            if name == "clock":
                await self.store.advance_clock(int(fields[b"ms"]))
                self.done.shared.append(name)
            elif name == _LOG:
                await self._write_lives(fields, stored.get(name, {}))
            elif name not in stored and _is_wanted(name, is_whole=is_whole, is_other_log=self.is_other_log):
                await self.redis.restore_shared(name, fields)
                self.done.shared.append(name)
        if self.is_other_log:
            return
        reached = await self.store.progress()
        back = {
            source: one if is_whole or source in reached else Reached(0)
            for source, one in header.progress.items()
            if source not in reached or one.offset < reached[source].offset
        }
        await self.redis.set_progress(back)
        self.done.progress.update({source: one.offset for source, one in back.items()})

    async def _write_lives(self, fields: Fields, stored: Fields) -> None:
        """What the file says of the topics that nothing is stored of."""
        known = decode_lives(stored)
        new = {name: value for name, value in fields.items() if name.decode().rpartition(":")[0] not in known}
        if new and not self.is_other_log:
            await self.redis.restore_shared(_LOG, stored | new)
            self.done.shared.append(_LOG)

    async def write(self, some: list[Exported], wall_ms: int) -> None:
        """Write those that are not stored as they are in the file, and compare them with what is then stored."""
        restores = await self._count(some)
        if refused := await self.redis.restore(restores):
            raise ConflictError(f"{refused[0]}: somebody wrote it meanwhile; are all workers stopped?")
        with_alerts = [one.subject for one in restores if one.parts[OWN].get(b"alerts")]
        if with_alerts:
            await RedisAlerting(self.store.client).hint(with_alerts, now_ms=wall_ms)
        found = await self.redis.read([one.subject for one in restores])
        for one in restores:
            if difference := _difference(one.parts, found.get(one.subject, {})):
                raise OperatorError(f"{one.subject} was written, but {difference} is another when it is read back")

    async def _count(self, some: list[Exported]) -> list[Restore]:
        """What is to be written, counted."""
        stored = await self.redis.read([one.subject for one in some])
        restores = []
        for one in some:
            before = stored.get(one.subject, {})
            parts = self._wanted(one)
            if before and not _difference(parts | {OWN: parts[OWN] | {_REV: before[OWN][_REV]}}, before):
                self.done.unchanged += 1
                continue
            rev = int(before[OWN][_REV]) if before else 0
            self.done.replaced += bool(before)
            self.done.new += not before
            # Whoever has read what is stored must lose against this write.
            own = parts[OWN] | {_REV: b"%d" % (one.rev if one.rev > rev else rev + 1)}
            restores.append(Restore(one.subject, parts | {OWN: own}, before, rev))
        return restores

    def _wanted(self, one: Exported) -> Parts:
        return one.parts | {OWN: one.parts[OWN] | {_OFFSETS: b"{}"}} if self.is_other_log else one.parts


def _is_wanted(name: str, *, is_whole: bool, is_other_log: bool) -> bool:
    match name:
        case "rules":
            return is_whole
        case "replayed":
            return not is_other_log
        case _:
            return True


def _topics(lives: Iterable[str], sources: Iterable[str]) -> set[str]:
    return {*lives, *(topic for source in sources for topic in source.split("/")[1:-1])}


def _is_newer(head: Head, one: Exported) -> bool:
    return head.watermark_ms > one.watermark_ms or head.rev > one.rev


def _behind(head: Head, one: Exported) -> str:
    if head.watermark_ms > one.watermark_ms:
        newest = iso(one.watermark_ms) if one.watermark_ms >= 0 else "none"
        return f"its newest event is of {iso(head.watermark_ms)}, in the file of {newest}"
    return f"it was written {head.rev:,} times, in the file {one.rev:,} times"


def _difference(wanted: Parts, found: Parts) -> str:
    """The first field that differs, empty where none does."""
    for part in sorted({*wanted, *found}):
        ours, theirs = wanted.get(part, {}), found.get(part, {})
        for name in sorted({*ours, *theirs}):
            if ours.get(name) != theirs.get(name):
                return f"{part or 'subject'}: {name.decode()}"
    return ""


def _parts(items: Iterable[Exported]) -> Iterator[list[Exported]]:
    remaining = iter(items)
    while some := list(islice(remaining, _AT_ONCE)):
        yield some
