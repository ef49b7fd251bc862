"""Hundreds of commands in one packet on one connection, with as little work for each as there can be.

A pipeline of redis-py takes longer for a small command and its reply than the server does: a timer for each reply, a
search for how to translate it. Here replies are what the server said, names and values by turns for a hash. Only for a
client of one server; a cluster's nodes have to be found.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from hiredis import pack_command
from redis import exceptions
from redis.asyncio import Redis

from state.redis_pipeline import Command, redis_errors
from state.replies import Replies

# More than a connection holds at a time.
_RECEIVED_BYTES: Final = 256 * 1024

Result = TypeVar("Result")


class Exchange:
    """What is said on one connection, which nobody else has meanwhile."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to these commands, errors among them."""
        return await self.ask_packed([pack_command(command) for command in commands])

    async def ask_packed(self, commands: Sequence[bytes]) -> list[Any]:
        """The same, of commands as the protocol has them."""
        async with self._sent(commands) as parser:
            replies = [await parser.read_response() for _ in commands]
        return _of_the_master(replies)

    async def ask_unparsed(self, commands: Sequence[Command]) -> Replies | None:
        """The replies as they came, None where some are neither strings nor hashes; raises an error among them."""
        replies = Replies(len(commands))
        async with self._sent([pack_command(command) for command in commands]) as parser:
            while not replies.are_whole and replies.are_usual:
                replies.take(await _received(parser))
            if replies.are_usual:
                if replies.has_more:
                    raise exceptions.ConnectionError("the server has sent more than it was asked for")
                return replies
            # The parser goes on with what has come in.
            parser._reader.feed(bytes(replies.octets))  # noqa: SLF001 (as in `_sent`)
            parsed = [await parser.read_response() for _ in commands]
        raise_first(_of_the_master(parsed))
        return None

    @asynccontextmanager
    async def _sent(self, commands: Sequence[bytes]) -> AsyncIterator[Any]:
        """Send these, and give the parser of the connection, for as long as an answer may take."""
        connection = self._connection
        await connection.send_packed_command(commands)
        try:
            # One timer for all of them; `read_response` of the connection would set one for each.
            async with asyncio.timeout(connection.socket_timeout):
                # It has no other door that stays open for a second reply.
                yield connection._parser  # noqa: SLF001
        except TimeoutError as error:
            raise exceptions.TimeoutError("the server did not answer in time") from error
        except OSError as error:
            raise exceptions.ConnectionError(f"the connection broke: {error}") from error


class Exchanges:
    """Exchanges with one server over the connections of a client; DependencyError for one that fails."""

    def __init__(self, client: Redis) -> None:
        self._pool: Any = client.connection_pool

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to these commands; the first error among them is raised."""
        with redis_errors():
            replies = await self.try_all(commands)
            raise_first(replies)
        return replies

    async def ask_unparsed(self, commands: Sequence[Command]) -> Replies | None:
        """The replies as they came, None where some are neither strings nor hashes; raises an error among them."""
        return await self.hold(lambda exchange: exchange.ask_unparsed(commands))

    async def try_all(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to these commands, errors among them."""
        return await self.hold(lambda exchange: exchange.ask(commands)) if commands else []

    async def hold(self, work: Callable[[Exchange], Awaitable[Result]]) -> Result:
        """What the work comes to on a connection of its own; it begins anew, on a new one, where the connection broke.

        The connection goes back only when the work has ended well: of another one, nothing that was watched and no
        reply that nobody has read reaches the next user.
        """
        with redis_errors():
            connection = await self._pool.get_connection()
            try:
                result: Result = await connection.retry.call_with_retry(
                    lambda: work(Exchange(connection)), lambda _: connection.disconnect(nowait=True)
                )
                return result
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            finally:
                await asyncio.shield(self._pool.release(connection))


def _of_the_master(replies: list[Any]) -> list[Any]:
    """The same; ConnectionError where a server says that it is not the master."""
    for reply in replies:
        if isinstance(reply, exceptions.ReadOnlyError | exceptions.MasterDownError):
            raise exceptions.ConnectionError(f"the server is not the master any more: {reply}")
    return replies


async def _received(parser: Any) -> bytes:
    """The next bytes, before the parser has seen them."""
    octets: bytes = await parser._stream.read(_RECEIVED_BYTES)  # noqa: SLF001 (as in `_sent`)
    if not octets:
        raise exceptions.ConnectionError("the server has closed the connection")
    return octets


def raise_first(replies: Sequence[Any]) -> None:
    """Raises the first error among the replies."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
