"""A TCP proxy on the loopback whose network can be cut: by closing every connection, or by letting all bytes vanish."""

import asyncio
import contextlib
from types import TracebackType
from typing import Literal, Self

from local.ports import LOOPBACK

_CHUNK = 256 * 1024

How = Literal["closed", "silent"]


class Proxy:
    """Hands bytes on to `port` (which may be set later); connections whose first bytes hold `exempt` are never cut."""

    def __init__(self, *, exempt: bytes | None = None) -> None:
        self.port = 0
        self.target = 0
        self._exempt = exempt
        self._server: asyncio.Server | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._is_closed = False
        self._cuttable: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self, how: How) -> None:
        """From now on nothing passes; `closed` also ends what is connected, and whoever connects."""
        self._open.clear()
        if how == "closed":
            self._is_closed = True
            for writer in self._cuttable:
                writer.transport.abort()

    def mend(self) -> None:
        """Bytes that were held back pass again."""
        self._is_closed = False
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # Whoever leaves, we go on; and a task that asyncio's server made must not end as cancelled.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._pass_on(reader, writer)
        finally:
            self._tasks.discard(task)
            self._cuttable.discard(writer)
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(_CHUNK)
        is_exempt = self._exempt is not None and self._exempt in first
        if not is_exempt:
            self._cuttable.add(writer)
            if self._is_closed:
                return
            await self._open.wait()
        far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self.target)
        if not is_exempt:
            self._cuttable.add(far_writer)
        try:
            far_writer.write(first)
            directions = [
                asyncio.create_task(self._pump(*ends, is_exempt=is_exempt))
                for ends in ((reader, far_writer), (far_reader, writer))
            ]
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in directions:
                    one.cancel()
                await asyncio.gather(*directions, return_exceptions=True)
        finally:
            self._cuttable.discard(far_writer)
            far_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_exempt: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                if not is_exempt:
                    await self._open.wait()
                writer.write(chunk)
                await writer.drain()
