"""The partitions of the history's tables: made for what arrives, and dropped when all of it is older than is kept.

There is no default partition: rows in one would have to be looked through, under a lock that stops everything, before
a partition could be made for their time. A writer asks for the partitions of its rows first (`ensure`), which costs
nothing once they are known.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, cast

from psycopg import AsyncConnection, sql
from psycopg.errors import LockNotAvailable

from state.keeping import Keeping

Unit = Literal["day", "month"]

# Any number that no other program on the same database takes: who makes or drops partitions holds this lock.
_LOCK: Final = int.from_bytes(b"partitio", "big")
# A detached partition waits for the transactions that may still read it; so long, and then at the next look.
_WAIT_SECONDS: Final = 2

_State = Literal["attached", "detaching", "detached"]

# The bounds are the catalogue's, not those that a name promises.
_PARTITIONS: Final = r"""
select child.relname,
    case when link.inhrelid is null then 'detached'
        when link.inhdetachpending then 'detaching'
        else 'attached' end as state,
    (regexp_match(pg_get_expr(child.relpartbound, child.oid), $$TO \('([^']+)'\)$$))[1]::timestamptz
from pg_class parent
join pg_class child on child.relnamespace = parent.relnamespace and child.relkind = 'r'
left join pg_inherits link on link.inhrelid = child.oid and link.inhparent = parent.oid
where parent.oid = to_regclass(%(table)s)
    and (link.inhrelid is not null or child.relname ~ ('^' || parent.relname || '_[0-9]{6,8}$'))
    and (%(name)s::text is null or child.relname = %(name)s)
order by 1
"""


@dataclass(frozen=True, slots=True)
class Partitioned:
    """A table by ranges of a time: `fill_percent` leaves room in a page for rows that are updated in place."""

    table: str
    unit: Unit
    fill_percent: int = 100

    def start_of(self, moment: datetime) -> datetime:
        """The beginning, in UTC, of the partition for this moment."""
        midnight = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight if self.unit == "day" else midnight.replace(day=1)

    def end_of(self, start: datetime) -> datetime:
        """The first moment after the partition that begins at `start`."""
        return start + timedelta(days=1) if self.unit == "day" else (start + timedelta(days=31)).replace(day=1)

    def name_of(self, start: datetime) -> str:
        """`observation_events_20251121`, `gauge_hours_202511`."""
        return f"{self.table}_{start:%Y%m%d}" if self.unit == "day" else f"{self.table}_{start:%Y%m}"


CALL_WINDOWS: Final = Partitioned("call_windows", "month")
OBSERVATIONS: Final = Partitioned("observations", "month")
OBSERVATION_EVENTS: Final = Partitioned("observation_events", "day")
# Rows of the running minute and hour are added to with each batch.
GAUGE_MINUTES: Final = Partitioned("gauge_minutes", "day", fill_percent=80)
GAUGE_HOURS: Final = Partitioned("gauge_hours", "month", fill_percent=70)
ALERTS: Final = Partitioned("alerts", "month", fill_percent=80)
RULE_AUDIT: Final = Partitioned("rule_audit", "month")


def days_kept(keeping: Keeping) -> dict[Partitioned, int]:
    """For how many days each table keeps its rows."""
    return {
        OBSERVATION_EVENTS: keeping.events_days,
        GAUGE_MINUTES: keeping.minutes_days,
        GAUGE_HOURS: keeping.hours_days,
        CALL_WINDOWS: keeping.hours_days,
        OBSERVATIONS: keeping.hours_days,
        ALERTS: keeping.alerts_days,
        RULE_AUDIT: keeping.alerts_days,
    }


class Partitions:
    """What one process knows of the partitions; `forget` after a write found one missing that was known."""

    def __init__(self) -> None:
        self._known: set[tuple[str, datetime]] = set()

    def forget(self) -> None:
        """Somebody dropped a partition: look again at the next `ensure`."""
        self._known.clear()

    async def ensure(self, connection: AsyncConnection, needed: Mapping[Partitioned, Iterable[datetime]]) -> None:
        """Make what is missing for rows of these moments, in a transaction of its own, which must not be inside one.

        Safe beside others that do the same, and beside readers and writers of the tables.
        """
        missing = {(table, table.start_of(moment)) for table, moments in needed.items() for moment in moments}
        missing = {(table, start) for table, start in missing if (table.table, start) not in self._known}
        if not missing:
            return
        async with connection.transaction():
            await connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
            for table, start in sorted(missing, key=lambda one: (one[0].table, one[1])):
                await _make(connection, table, start)
        self._known |= {(table.table, start) for table, start in missing}


async def drop_older(connection: AsyncConnection, table: Partitioned, before: datetime) -> list[str]:
    """Drop the partitions that hold nothing of `before` or later; the names of those that went.

    Must not be inside a transaction. Readers and writers of the table do not wait for it: a partition is detached
    concurrently, and one that somebody still reads is left to the next call.
    """
    cursor = await connection.execute("select pg_try_advisory_lock(%s)", (_LOCK,))
    if await cursor.fetchone() != (True,):
        return []
    dropped: list[str] = []
    try:
        await connection.execute(f"set lock_timeout = '{_WAIT_SECONDS}s'")
        for name, state in await _ending(connection, table, before):
            await _drop(connection, table, name, state)
            dropped.append(name)
    except LockNotAvailable:
        # Somebody reads what is older than is kept. What has been detached half-way is finished by the next call.
        pass
    finally:
        if not connection.closed:
            await connection.execute("reset lock_timeout")
            await connection.execute("select pg_advisory_unlock(%s)", (_LOCK,))
    return dropped


async def names(connection: AsyncConnection, table: Partitioned) -> list[str]:
    """The partitions of a table, oldest first."""
    return [name for name, state, _ in await _partitions(connection, table) if state == "attached"]


async def _make(connection: AsyncConnection, table: Partitioned, start: datetime) -> None:
    """Made apart and then attached: that takes no lock which a reader or a writer of the table would wait for."""
    name = table.name_of(start)
    for known, state, _ in await _partitions(connection, table, name):
        if state == "attached":
            return
        # It was on its way out, with all that it holds.
        await _drop(connection, table, known, state)
    parent, child = sql.Identifier(table.table), sql.Identifier(name)
    await connection.execute(
        sql.SQL("create table {} (like {} including all) with (fillfactor = {})").format(
            child, parent, sql.Literal(table.fill_percent)
        )
    )
    await connection.execute(
        sql.SQL("alter table {} attach partition {} for values from ({}) to ({})").format(
            parent, child, sql.Literal(start.isoformat()), sql.Literal(table.end_of(start).isoformat())
        )
    )


async def _ending(connection: AsyncConnection, table: Partitioned, before: datetime) -> list[tuple[str, _State]]:
    return [
        (name, state)
        for name, state, end in await _partitions(connection, table)
        if state != "attached" or (end is not None and end <= before)
    ]


async def _drop(connection: AsyncConnection, table: Partitioned, name: str, state: _State) -> None:
    parent, child = sql.Identifier(table.table), sql.Identifier(name)
    match state:
        case "attached":
            await connection.execute(sql.SQL("alter table {} detach partition {} concurrently").format(parent, child))
        case "detaching":
            await connection.execute(sql.SQL("alter table {} detach partition {} finalize").format(parent, child))
        case "detached":
            pass
    await connection.execute(sql.SQL("drop table {}").format(child))


async def _partitions(
    connection: AsyncConnection, table: Partitioned, name: str | None = None
) -> list[tuple[str, _State, datetime | None]]:
    """Name, state and end of the partitions, oldest first, and of those that were detached and not dropped."""
    cursor = await connection.execute(_PARTITIONS, {"table": table.table, "name": name})
    return [(name, cast(_State, state), end) for name, state, end in await cursor.fetchall()]
