"""Carries out a schedule: waits until work is under way, strikes, and mends everything in the end."""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Final

from redis.exceptions import RedisError

from tests.faults.nursery import Forked
from tests.faults.outcome import Outcome, Struck
from tests.faults.processes import LOOK_SECONDS, Processes
from tests.faults.proxy import How
from tests.faults.schedule import Fault, Kind, Schedule
from tests.faults.stream import Record

_FIRST_EVENT_SECONDS: Final = 40.0


class Striking:
    """Strikes one after the other; what takes its time goes on beside the next ones."""

    def __init__(self, run: Processes, schedule: Schedule, outcome: Outcome, started: float) -> None:
        self._run = run
        self._schedule = schedule
        self._outcome = outcome
        self._started = started
        self._rng = random.Random(f"order {schedule.seed}")
        self._going_on: list[asyncio.Task[str]] = []
        self._trainings = list(run.stream.trainings)
        self._rng.shuffle(self._trainings)
        self._effects: dict[Kind, Callable[[Fault], Coroutine[Any, Any, str]]] = {
            Kind.KILL_WORKER: self._kill_worker,
            Kind.STOP_WORKER: self._stop_worker,
            Kind.FREEZE_WORKER: self._freeze_worker,
            Kind.ZOMBIE: self._zombie,
            Kind.SCALE: self._scale,
            Kind.REWIND: self._rewind,
            Kind.TRAIN: self._train,
            Kind.KILL_API: self._kill_api,
            Kind.FREEZE_BROKER: self._served(lambda fault: run.servers.freeze_broker(fault.seconds)),
            Kind.RESTART_BROKER: self._served(lambda fault: run.servers.restart_broker(fault.seconds)),
            Kind.CUT_BROKER: self._served(lambda fault: run.servers.cut_broker(_how(fault), fault.seconds)),
            Kind.KILL_REDIS: self._served(lambda fault: run.servers.restart_redis(fault.seconds)),
            Kind.PAUSE_REDIS: self._served(lambda fault: run.servers.pause_redis(fault.seconds)),
            Kind.CUT_REDIS: self._served(lambda fault: run.servers.cut_redis(_how(fault), fault.seconds)),
        }

    async def strike_all(self) -> None:
        """Returns when everything is sent, trained and mended, and at least one worker runs."""
        run, stream = self._run, self._run.stream
        records = stream.shuffled(self._rng)
        held_back = sum(fault.kind in {Kind.TRAIN, Kind.KILL_API} for fault in self._schedule.faults)
        for training in self._trainings[held_back:]:
            await run.train(training, self._order())
        for _ in range(self._schedule.workers):
            run.start_worker()
        try:
            sending: asyncio.Task[None] | None = None
            done = 0
            for fault in self._schedule.faults:
                upto = round(fault.sent * len(records))
                sending = asyncio.create_task(self._send(records[done:upto], sending))
                done = upto
                await self._strike(fault, sending)
            await self._send(records[done:], sending)
            await self._mended()
            run.check_sent()
        finally:
            for task in self._going_on:
                task.cancel()

    async def _send(self, records: Sequence[Record], before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before
        await self._run.send(records)

    async def _strike(self, fault: Fault, sending: asyncio.Task[None]) -> None:
        run, total = self._run, self._run.stream.events
        deadline = time.monotonic() + _FIRST_EVENT_SECONDS
        is_begun = False
        in_state = 0
        while True:
            run.tend()
            # One that does not answer has been struck already: the state is no smaller than it was.
            in_state = await run.in_state() or in_state
            if in_state and not is_begun:
                # Before the first event there is nothing to lose; from then on patience counts.
                is_begun = True
                deadline = time.monotonic() + fault.patience_seconds
            if in_state >= fault.reached * total or time.monotonic() > deadline:
                break
            if sending.done():
                sending.result()
            await asyncio.sleep(LOOK_SECONDS)
        after = time.monotonic() - self._started
        at = len(self._outcome.struck)
        self._outcome.struck.append(Struck(fault, after, in_state, run.sent, total, "goes on"))
        task = asyncio.create_task(self._note(at, self._effects[fault.kind](fault)))
        self._going_on.append(task)
        if fault.kind is Kind.REWIND:
            # Without workers nothing that comes next would find anything to strike.
            await task

    async def _note(self, at: int, effect: Coroutine[Any, Any, str]) -> str:
        note = await effect
        self._outcome.struck[at] = replace(self._outcome.struck[at], note=note)
        return note

    async def _mended(self) -> None:
        while going_on := [task for task in self._going_on if not task.done()]:
            self._run.tend()
            await asyncio.wait(going_on, timeout=0.2)
        for task in self._going_on:
            task.result()
        for worker in self._run.workers:
            worker.signal(signal.SIGCONT)
        if not self._run.workers:
            self._run.start_worker()

    def _victim(self, fault: Fault) -> Forked | None:
        workers = self._run.workers
        return workers[fault.victim % len(workers)] if workers else None

    async def _kill_worker(self, fault: Fault) -> str:
        victim = self._victim(fault)
        if victim is None:
            return "there was none"
        self._run.kill_worker(victim)
        await asyncio.sleep(fault.seconds / 2)
        self._run.start_worker()
        return victim.log.name

    async def _stop_worker(self, fault: Fault) -> str:
        victim = self._victim(fault)
        if victim is None:
            return "there was none"
        self._run.start_worker()
        return f"{victim.log.name} {await self._run.stop_worker(victim)}"

    async def _freeze_worker(self, fault: Fault) -> str:
        victim = self._victim(fault)
        if victim is None:
            return "there was none"
        victim.signal(signal.SIGSTOP)
        await asyncio.sleep(fault.seconds)
        if victim not in self._run.workers:
            return f"{victim.log.name} ended meanwhile"
        victim.signal(signal.SIGCONT)
        return victim.log.name

    async def _zombie(self, fault: Fault) -> str:
        if len(self._run.workers) < 2:
            self._run.start_worker()
        return await self._freeze_worker(fault)

    async def _scale(self, fault: Fault) -> str:
        while len(self._run.workers) < 4:
            self._run.start_worker()
        await asyncio.sleep(3 + fault.seconds)
        notes: list[str] = []
        while len(self._run.workers) > 2:
            victim = self._run.workers[fault.victim % len(self._run.workers)]
            if len(notes) % 2:
                self._run.kill_worker(victim)
                notes.append(f"{victim.log.name} killed")
            else:
                notes.append(f"{victim.log.name} {await self._run.stop_worker(victim)}")
        return ", ".join(notes)

    async def _rewind(self, fault: Fault) -> str:
        others = [task for task in self._going_on if task is not asyncio.current_task()]
        if others:
            await asyncio.wait(others)
        count = max(len(self._run.workers), 1)
        await asyncio.gather(*[self._run.stop_worker(worker) for worker in list(self._run.workers)])
        await self._run.rewind()
        for _ in range(count):
            self._run.start_worker()
        return f"{count} workers"

    async def _train(self, fault: Fault) -> str:
        training = self._trainings.pop(0)
        # What was sent already is sent again, as a caller does who has lost the answer.
        tries = await self._run.train(training, (*self._order(), 0))
        return f"{training.path}, {tries} tries for 3 requests"

    async def _kill_api(self, fault: Fault) -> str:
        training = self._trainings.pop(0)
        task = asyncio.create_task(self._run.train(training, (*self._order(), 0)))
        await asyncio.sleep(fault.seconds / 20)
        self._run.start_api()
        return f"{training.path}, {await task} tries for 3 requests"

    def _order(self) -> tuple[int, int]:
        return self._rng.choice(((0, 1), (1, 0)))

    def _served(self, effect: Callable[[Fault], Awaitable[None]]) -> Callable[[Fault], Coroutine[Any, Any, str]]:
        async def strike(fault: Fault) -> str:
            try:
                await effect(fault)
            except (RedisError, OSError) as error:
                return f"did not reach its server: {error}"
            return ""

        return strike


def _how(fault: Fault) -> How:
    return "silent" if fault.is_silent else "closed"
