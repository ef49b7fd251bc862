"""What a faulted run has shown: each fault as it happened, and where the end differs from that of the quiet run."""

from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.schedule import Fault, Schedule, table


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault as it happened; it hit when events were in the state, and others on their way."""

    fault: Fault
    after_seconds: float
    in_state: int
    sent: int
    total: int
    note: str

    @property
    def is_hit(self) -> bool:
        return 0 < self.in_state < self.sent


@dataclass(slots=True)
class Outcome:
    """What a faulted run has shown."""

    seed: int
    schedule: Schedule
    struck: list[Struck] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    ended_by_themselves: list[str] = field(default_factory=list)
    kicks: int = 0
    command: str = ""
    seconds: float = 0.0
    faults_seconds: float = 0.0
    folder: Path | None = None

    @property
    def hits(self) -> int:
        return sum(one.is_hit for one in self.struck)

    def report(self) -> str:
        """Everything that is needed to look into it, and to do it again."""
        rows = [("at", "events in the state", "sent", "hit", "fault", "seconds", "what came of it")]
        rows += [
            (
                f"{one.after_seconds:.1f} s",
                f"{one.in_state} of {one.total}",
                str(one.sent),
                "yes" if one.is_hit else "no",
                one.fault.kind,
                f"{one.fault.seconds:.1f}",
                one.note,
            )
            for one in self.struck
        ]
        shown = self.differences[:40]
        head = (
            f"seed {self.seed}: {len(self.differences)} differences; {self.schedule.workers} workers at first, a flush "
            f"every {self.schedule.flush_events} events or {self.schedule.flush_seconds} s; faults were over after "
            f"{self.faults_seconds:.1f} s, everything after {self.seconds:.1f} s; {self.kicks} stalls"
        )
        lines = [head, table(rows), *shown]
        if len(shown) < len(self.differences):
            lines.append(f"... and {len(self.differences) - len(shown)} more")
        if self.ended_by_themselves:
            lines += ["ended by themselves:", *self.ended_by_themselves]
        return "\n".join([*lines, f"logs: {self.folder}", f"again: {self.command}"])
