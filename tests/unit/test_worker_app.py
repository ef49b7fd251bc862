"""What a worker closes at its end, and when."""

import asyncio

from stream.app import WorkerApp


async def test_connections_go_when_no_task_is_left_that_may_use_them() -> None:
    app = WorkerApp("nobody", broker="kafka://127.0.0.1:1", store="memory://", autodiscover=False)
    seen: list[str] = []

    async def use() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("the task has ended")

    async def close() -> None:
        seen.append("closed")

    app.closing = (close,)
    _ = app.add_future(use())
    await asyncio.sleep(0)
    await app.stop()
    assert seen == ["the task has ended", "closed"]
