"""One run of `tidemark up`, from the first server to the last: start, wait until ready, watch, stop in order."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.live import Live

import settings
from cli.recordings import Recording
from cli.replaying import Replay, replay
from cli.summary import Glance, Watcher, line, screen
from detection.errors import OperatorError
from local.ports import LOOPBACK, free_port
from local.service import Service
from local.stack import PARTITIONS, Stack
from state.migrate import migrate

_READY_SECONDS = 60.0
_LOOK_SECONDS = 1.0
_LINE_SECONDS = 5.0
# A larger recording is not read a second time for the sake of an example.
_LOOKED_THROUGH_BYTES = 8 * 1024 * 1024
# While recorded calls rush by, the worker writes every so many, so that thresholds are seen to form.
_REPLAY_FLUSH_EVENTS = 1000


@dataclass(frozen=True, slots=True)
class Options:
    """What one run was asked for; `speed` None is as fast as possible, `seconds` None is until stopped."""

    data_dir: Path | None
    is_fresh: bool
    recording: Path | None
    speed: float | None
    port: int
    workers: int
    is_plain: bool
    seconds: float | None


@dataclass(slots=True)
class _Run:
    """What the summary is drawn from while a run lasts."""

    options: Options
    console: Console
    stack: Stack
    api: Service
    workers: list[Service]
    url: str
    replayed: Replay | None = None
    notes: list[str] = field(default_factory=list)

    def tend(self) -> None:
        """Restart what may be restarted; raises OperatorError for what has ended for good."""
        for server in self.stack.servers:
            if not server.is_running:
                raise OperatorError(f"the {server.name} ended unexpectedly. Its log is {server.log}")
        for service in (self.api, *self.workers):
            note = service.tend()
            if note is not None:
                self.notes.append(note)
                if self.options.is_plain:
                    self.console.print(note, markup=False)


class _Stopped(BaseException):
    """A signal asked to stop; not an Exception, so that nothing on the way takes it for a failure."""


def run(options: Options) -> None:
    """Returns after Ctrl-C, SIGTERM or the time asked for; raises OperatorError when a part fails for good."""
    configured = settings.load()
    data_dir = options.data_dir if options.data_dir is not None else configured.data_dir
    console = Console(highlight=False, soft_wrap=True)
    is_plain = options.is_plain or not console.is_terminal
    if options.recording is not None:
        # Whether it can be read shows before anything is started, or deleted.
        with Recording(options.recording):
            pass
    with contextlib.suppress(_Stopped), _signals_stop():
        console.print(f"Starting broker, Valkey and PostgreSQL in {data_dir} ...", markup=False)
        with Stack(data_dir, is_fresh=options.is_fresh) as stack:
            migrate(stack.postgres.url)
            _serve(options, console, stack, is_plain=is_plain)
            console.print("Stopping ...")
    console.print("Stopped: no process is left.")


def _serve(options: Options, console: Console, stack: Stack, *, is_plain: bool) -> None:
    port = free_port(options.port)
    url = f"http://{LOOPBACK}:{port}"
    if port != options.port:
        console.print(f"Port {options.port} is taken: the API uses {port} instead.", style="yellow")
    environment = stack.environment() | {
        "TIDEMARK_CLOCK": "events" if options.recording is not None else "wall",
        "TIDEMARK_HTTP_HOST": LOOPBACK,
        "TIDEMARK_HTTP_PORT": str(port),
    }
    if options.recording is not None:
        environment["TIDEMARK_FLUSH_EVENTS"] = str(_REPLAY_FLUSH_EVENTS)
    api = Service("api", "api", data_dir=stack.data_dir, environment=environment, is_restarted=False)
    workers, metrics_urls = [], []
    for number in range(1, options.workers + 1):
        metrics_port = free_port()
        metrics_urls.append(f"http://{LOOPBACK}:{metrics_port}")
        workers.append(
            Service(
                "worker" if options.workers == 1 else f"worker-{number}",
                "worker",
                data_dir=stack.data_dir,
                environment=environment | {"TIDEMARK_WORKER_HTTP_PORT": str(metrics_port)},
                is_restarted=True,
            )
        )
    this = _Run(options, console, stack, api, workers, url)
    try:
        for service in (*workers, api):
            service.start()
        asyncio.run(_watch(this, metrics_urls, is_plain=is_plain))
    finally:
        # First nobody asks any more, then what was absorbed is written, and the servers go last.
        api.stop()
        for worker in workers:
            worker.stop()


async def _watch(this: _Run, metrics_urls: Sequence[str], *, is_plain: bool) -> None:
    async with AsyncExitStack() as closing:
        watcher = Watcher(this.url, metrics_urls)
        closing.push_async_callback(watcher.close)
        await _until_ready(this, watcher)
        _tell_where(this)
        replaying = None
        if this.options.recording is not None:
            replaying = asyncio.create_task(_replay(this, this.options.recording))
            closing.push_async_callback(_cancelled, replaying)
        show = closing.enter_context(_display(this, is_plain=is_plain))
        ends = None if this.options.seconds is None else time.monotonic() + this.options.seconds
        while ends is None or time.monotonic() < ends:
            this.tend()
            if replaying is not None and replaying.done():
                # Raises what the replay raised.
                replaying.result()
            show(await watcher.look(time.monotonic()))
            await asyncio.sleep(_LOOK_SECONDS)
        show(await watcher.look(time.monotonic()))


async def _until_ready(this: _Run, watcher: Watcher) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while missing := await watcher.readiness():
        this.tend()
        if time.monotonic() > deadline:
            logs = ", ".join(str(service.log) for service in (this.api, *this.workers))
            raise OperatorError(f"not ready after {_READY_SECONDS:g} s: {missing}. The logs are {logs}")
        await asyncio.sleep(0.1)


async def _replay(this: _Run, recording: Path) -> None:
    def note(now: Replay) -> None:
        this.replayed = now

    configured = settings.load(kafka_brokers=this.stack.broker.bootstrap, kafka_partitions=PARTITIONS)
    this.replayed = Replay()
    done = await replay(recording, configured, speed=this.options.speed, on_progress=note)
    this.notes.append(f"replayed {done.acknowledged:,} calls of {recording} in {done.seconds:.1f} s")
    this.notes.extend(str(refusal) for refusal in done.refusals[:2])


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _tell_where(this: _Run) -> None:
    stack = this.stack
    biller = _example_biller(this.options.recording)
    lines = [
        f"Tidemark is ready at {this.url}",
        f"  API            {this.url}/docs",
        f"  Predict        curl -s -X POST {this.url}/metrics/predict/1/{biller}",
        f"  Thresholds     curl -s {this.url}/thresholds",
        f"  Inspect        TIDEMARK_REDIS_URL={stack.valkey.url} {_command()} inspect {biller}",
        f"  Valkey         redis-cli -p {stack.valkey.port}",
        f"  PostgreSQL     PGPASSFILE={stack.postgres.pgpass} psql -h {LOOPBACK} -p {stack.postgres.port} -U postgres",
        f"  Kafka          {stack.broker.bootstrap}",
        f"  Logs and data  {stack.data_dir}",
    ]
    this.console.print("\n".join(lines), markup=False)


def _command() -> str:
    """How this very program was called, so that the line works as it is printed."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "tidemark" else "tidemark"


def _example_biller(recording: Path | None) -> str:
    """The biller of the last call: one that is not yet silent when the replay ends."""
    last = "BILLER"
    if recording is not None and recording.stat().st_size <= _LOOKED_THROUGH_BYTES:
        with Recording(recording) as rows:
            for item in rows:
                if not isinstance(item, Exception):
                    last = item.key.decode()
    return last


@contextlib.contextmanager
def _display(this: _Run, *, is_plain: bool) -> Iterator[Callable[[Glance], None]]:
    """A function that shows a glance: on a live screen, or as a line now and then."""
    if not is_plain:
        with Live(console=this.console, auto_refresh=False) as live:
            yield lambda glance: live.update(screen(glance, this.replayed, this.notes), refresh=True)
        return
    told = 0.0

    def tell(glance: Glance) -> None:
        nonlocal told
        if glance.read_at - told >= _LINE_SECONDS:
            told = glance.read_at
            this.console.print(line(glance, this.replayed), markup=False)
            sys.stdout.flush()

    yield tell


@contextlib.contextmanager
def _signals_stop() -> Iterator[None]:
    """The first signal stops in order; later ones are ignored, because stopping must not be stopped half-way."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        raise _Stopped

    before = {number: signal.signal(number, stop) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
