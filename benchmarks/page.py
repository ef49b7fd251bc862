"""The page over 5,000 subjects, as Debian's Chromium measures it itself: the first view, its bytes, and scrolling.

A real stack (Valkey, PostgreSQL, the API as its own process, the loopback) holds what a worker would have left there;
calls are not coming in meanwhile. Needs what `make test-page` installs, and Chromium.
"""

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import httpx

from benchmarks.context import ROOT, Context
from benchmarks.result import Result, Target
from detection.hours import HOUR_MS, MINUTE_MS
from detection.policy import Policy
from detection.subject import Subject
from detection.subject_state import KEPT_MINUTES, Arrivals, SubjectState
from detection.windows import CallWindow, Window
from local.ports import free_port
from local.stack import Stack
from settings import Settings
from state.history import History
from state.migrate import migrate
from state.redis_store import RedisStore

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SUBJECTS: Final = 5_000
FIRST_VIEWS: Final = 5
# How far a quick wheel goes in a frame.
STEP_PIXELS: Final = 120
FRAMES: Final = 600

_HOURS: Final = 50
_SHOWN_HOURS: Final = 48
_AT_ONCE: Final = 250
_DEADLINE_SECONDS: Final = 60
_KILOBYTE: Final = 1000

# The first row that can be opened, drawn; then what had been fetched by then, as it was on the wire.
_FIRST_ROWS: Final = """() => new Promise((resolve) => {
  const look = () => {
    if (!document.querySelector('.grid-body .row-link')) return requestAnimationFrame(look);
    requestAnimationFrame(() => {
      const at = performance.now();
      const entries = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
      const done = entries.filter((entry) => entry.responseEnd && entry.responseEnd <= at);
      const bytes = (some) => some.reduce((sum, entry) => sum + entry.encodedBodySize, 0);
      const files = done.filter(({ name }) => name.includes('/page/') || new URL(name).pathname === '/');
      resolve({ at, bytes: bytes(done), files: bytes(files) });
    });
  };
  look();
})"""

# A frame is as long as from one to the next; the browser itself reports those of more than 50 ms with their causes.
_SCROLL: Final = """([step, frames]) => new Promise((resolve) => {
  const scroll = document.querySelector('.grid-scroll');
  const lengths = [];
  const reported = [];
  new PerformanceObserver((list) => reported.push(...list.getEntries().map((entry) => entry.duration)))
    .observe({ type: 'long-animation-frame' });
  let before = 0;
  let down = true;
  const frame = (now) => {
    if (before) lengths.push(now - before);
    before = now;
    if (lengths.length === frames) return setTimeout(() => resolve({ lengths, reported, top: scroll.scrollTop }), 200);
    const top = scroll.scrollTop;
    scroll.scrollTop = top + (down ? step : -step);
    if (scroll.scrollTop === top) down = !down;
    // Now and then somebody drags the bar.
    if (lengths.length % 60 === 59) scroll.scrollTop = (scroll.scrollHeight * ((lengths.length * 7919) % 1000)) / 1000;
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
})"""


def run(context: Context) -> list[Result]:
    from tests.page.browsing import launched

    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as name, ExitStack() as opened:
        folder = Path(name)
        stack = opened.enter_context(Stack(folder / "stack"))
        with context.part(f"{SUBJECTS:,} subjects into Valkey and PostgreSQL"):
            migrate(stack.postgres.url)
            asyncio.run(_fill(stack))
        url = opened.enter_context(_served(stack, folder / "api.log"))
        browser = opened.enter_context(launched())
        with context.part("first views"):
            # The first of all finds cold caches on the server too, as nobody but the first visitor does.
            _first_view(browser, url)
            views = [_first_view(browser, url) for _ in range(FIRST_VIEWS)]
        with context.part("scrolling"):
            scrolled = _scroll(browser, url)
    frames = sorted(scrolled["lengths"])
    beside = f"of {len(frames)} frames, {STEP_PIXELS} pixels each, with jumps"
    longest = [round(one) for one in sorted(scrolled["reported"], reverse=True)[:10]]
    context.say(f"the longest frames of more than 50 ms that the browser reports, in ms: {longest or 'none'}")
    return [
        Result(
            name=f"first rows of {SUBJECTS:,} drawn, nothing cached, median of {FIRST_VIEWS}",
            value=median(view["at"] for view in views),
            unit="ms",
            target=Target(at_most=1000),
        ),
        Result(
            name="compressed bytes of the first view, data included",
            value=max(view["bytes"] for view in views) / _KILOBYTE,
            unit="kB",
            target=Target(at_most=300),
        ),
        Result(
            name="compressed bytes of the first view, the page's files alone",
            value=max(view["files"] for view in views) / _KILOBYTE,
            unit="kB",
        ),
        Result(name=f"longest frame {beside}", value=frames[-1], unit="ms", target=Target(at_most=50)),
        Result(name=f"median frame {beside}", value=median(frames), unit="ms"),
        Result(
            name="frames of more than 50 ms that the browser reports",
            value=float(len(scrolled["reported"])),
            unit="frames",
            target=Target(at_most=0),
        ),
    ]


def _first_view(browser: "Browser", url: str) -> dict[str, float]:
    """In a context of its own, so that nothing is cached."""
    context = browser.new_context(viewport={"width": 1360, "height": 860})
    try:
        page = context.new_page()
        page.goto(f"{url}/", wait_until="commit")
        found: dict[str, float] = page.evaluate(_FIRST_ROWS)
        return found
    finally:
        context.close()


def _scroll(browser: "Browser", url: str) -> dict[str, Any]:
    """As soon as all subjects are there; renewing every five seconds goes on meanwhile."""
    context = browser.new_context(viewport={"width": 1360, "height": 860})
    try:
        page: Page = context.new_page()
        page.goto(f"{url}/")
        page.get_by_text(f"{SUBJECTS:,} subjects", exact=True).wait_for(timeout=_DEADLINE_SECONDS * 1000)
        found: dict[str, Any] = page.evaluate(_SCROLL, [STEP_PIXELS, FRAMES])
        return found
    finally:
        context.close()


async def _fill(stack: Stack) -> None:
    policy = Settings().policy()
    store = RedisStore.connect(stack.valkey.url, policy)
    now_ms = time.time_ns() // 1_000_000
    chance = random.Random(7)
    try:
        async with History(stack.postgres.url) as history:
            for start in range(0, SUBJECTS, _AT_ONCE):
                made = [_state(number, now_ms, chance, policy) for number in range(start, start + _AT_ONCE)]
                if await store.save([state for state, _ in made]):
                    raise RuntimeError("the store was not empty")
                await history.record({state.subject: hours for state, hours in made})
    finally:
        await store.aclose()


def _state(number: int, now_ms: int, chance: random.Random, policy: Policy) -> tuple[SubjectState, dict[int, Window]]:
    """A biller with two days behind it, and what of them the history has."""
    state = SubjectState(Subject.biller(f"biller-{number:05d}"))
    hour, minute = now_ms // HOUR_MS, now_ms // MINUTE_MS
    level_us = 1000 * chance.lognormvariate(5, 0.5)
    hours: dict[int, Window] = {hour - ago: _calls(300, level_us, chance) for ago in range(_HOURS)}
    minutes: dict[int, Window] = {minute - ago: _calls(5, level_us, chance) for ago in range(KEPT_MINUTES)}
    state.absorb(Arrivals(watermark_ms=now_ms, accepted=300 * _HOURS, windows=hours, minutes=minutes))
    state.learn(policy)
    state.publish(now_ms, policy)
    return state, {hour - ago: hours[hour - ago] for ago in range(1, _SHOWN_HOURS + 1)}


def _calls(count: int, level_us: float, chance: random.Random) -> CallWindow:
    latency_us = int(level_us * chance.lognormvariate(0, 0.2))
    return CallWindow(
        calls=count,
        errors=int(chance.random() < 0.3),
        latency_us=count * latency_us,
        latency_us2=count * latency_us**2,
    )


@contextmanager
def _served(stack: Stack, log: Path) -> Iterator[str]:
    port = free_port()
    environment = {**os.environ, **stack.environment(), "TIDEMARK_HTTP_PORT": str(port)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "api"], env=environment, cwd=ROOT, stdout=output, stderr=output
        )
        try:
            _wait(f"http://127.0.0.1:{port}/readyz")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def _wait(url: str) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(url, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"{url} did not answer")
