"""Who uses the API while others flood it, a process of its own: `python -m benchmarks._bystander SPEC`.

Asks `/readyz`, posts ten calls, and asks for one prediction, each ten times a second over connections of its own, and
notes when each was asked, how it was answered and after how long. Prints one JSON object: by what was asked, a list of
`[moment, status, milliseconds]`, the moments in seconds of the machine's monotonic clock.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx
import orjson

EVERY_SECONDS = 0.1
CALLS = 10

Seen = list[tuple[float, int, float]]


async def watch(spec: dict[str, Any]) -> dict[str, Seen]:
    """What is seen until `seconds` have gone by."""
    end = time.monotonic() + spec["seconds"]
    headers = {"Authorization": f"Bearer {spec['key']}"}
    base = f"http://127.0.0.1:{spec['port']}"
    billers = [f"B{number:06d}" for number in range(spec["billers"])]

    def calls() -> bytes:
        ms = time.time_ns() // 1_000_000
        return orjson.dumps(
            [{"biller_id": one, "timestamp": ms, "latency_ms": 150.0, "outcome": "ok"} for one in billers[:CALLS]]
        )

    async def ask(method: str, path: str, body: Callable[[], bytes] | None) -> Seen:
        seen: Seen = []
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=30) as client:
            while (started := time.monotonic()) < end:
                content = body() if body is not None else None
                kind = {"Content-Type": "application/json"} if content else {}
                response = await client.request(method, path, content=content, headers=kind)
                now = time.monotonic()
                seen.append((started, response.status_code, 1000 * (now - started)))
                await asyncio.sleep(max(started + EVERY_SECONDS - now, 0.0))
        return seen

    asked = {
        "ready": ask("GET", "/readyz", None),
        "events": ask("POST", "/events/calls", calls),
        "predict": ask("POST", "/metrics/predict/1/B000007", None),
    }
    return dict(zip(asked, await asyncio.gather(*asked.values()), strict=True))


if __name__ == "__main__":
    sys.stdout.write(orjson.dumps(asyncio.run(watch(orjson.loads(sys.argv[1])))).decode() + "\n")
