"""A client for a cluster whose pipelines find their nodes, and find them again when slots or masters have moved.

redis-py's own cluster pipeline sends ASKING on one connection and the command on another, asks a dead node again when
errors are not raised, has no command that goes along to each node, and fails where it should wait for a connection.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from redis import exceptions
from redis.asyncio.cluster import ClusterNode, PipelineCommand, RedisCluster
from redis.backoff import ExponentialBackoff
from redis.cluster import get_node_name
from redis.crc import key_slot

Command = tuple[Any, ...]

# They name no key: they go along to each node that the pipeline reaches, in their place among the other commands.
_TO_EACH_NODE: Final = frozenset({"PING", "SCRIPT LOAD", "WAIT"})
_SCRIPT_CALLS: Final = frozenset({"EVAL", "EVALSHA"})

# Another node has the slot, or nobody has it for now.
_ELSEWHERE: Final = (
    exceptions.AskError,
    exceptions.ClusterDownError,
    exceptions.ConnectionError,
    exceptions.ReadOnlyError,
    exceptions.SlotNotCoveredError,
    exceptions.TimeoutError,
    exceptions.TryAgainError,
    OSError,
)
# Between two looks at who has which slot, however many pipelines ask for one.
_LOOK_SECONDS: Final = 0.1
_REDIRECTIONS: Final = 4
# The library's own commands, of which there are few, take no turn.
_SPARE_CONNECTIONS: Final = 8


@dataclass(frozen=True, slots=True)
class _Unit:
    """What must go to one node together, and is answered by the last reply; without a slot, to each node."""

    commands: tuple[Command, ...]
    slot: int | None


class ClusterClient(RedisCluster):
    """A `RedisCluster`, which connects to nothing before it is used, with pipelines of our own.

    At most `connections` pipelines are under way at a time, so at most as many connections to each node; others wait
    for `wait_seconds` at most.
    """

    def __init__(
        self,
        seeds: Sequence[tuple[str, int]],
        *,
        connection_class: type[Any],
        connections: int,
        wait_seconds: float,
        retries: int,
        options: Mapping[str, Any],
        of_connections: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            startup_nodes=[ClusterNode(*seed) for seed in seeds],
            # What is covered is served while another part of the cluster is away.
            require_full_coverage=False,
            max_connections=connections + _SPARE_CONNECTIONS,
            **options,
        )
        # The dictionary that every node to come is made with.
        self.connection_kwargs["connection_class"] = connection_class
        self.connection_kwargs |= of_connections or {}
        self.nodes_manager.startup_nodes = {}
        self._seeds = list(seeds)
        self._turns = asyncio.Semaphore(connections)
        self._wait_seconds = wait_seconds
        self._retries = retries
        self._backoff = ExponentialBackoff(cap=1.0, base=0.05)
        self._looked_at = float("-inf")
        self._add_seeds()

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> Any:  # noqa: ARG002 (the library's signature)
        """A `ClusterPipeline`; with `transaction`, one step on the one node that has all the keys."""
        return ClusterPipeline(self, is_transaction=bool(transaction))

    async def aclose(self) -> None:
        """Give all connections back, also where only pipelines were used."""
        await super().aclose()
        for nodes in ("nodes_cache", "startup_nodes"):
            await self.nodes_manager.aclose(nodes)

    async def in_turn(self, units: Sequence[_Unit]) -> list[Any]:
        """The answers to these units, errors among them."""
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._turns.acquire()
        except TimeoutError as error:
            raise exceptions.ConnectionError("no connection to the cluster became free") from error
        try:
            return await self._answers(units)
        finally:
            self._turns.release()

    async def _answers(self, units: Sequence[_Unit]) -> list[Any]:
        if not self.nodes_manager.slots_cache:
            await self._look()
        answers: list[Any] = [None] * len(units)
        pending = [at for at, unit in enumerate(units) if unit.slot is not None]
        asking: dict[int, ClusterNode] = {}
        failures = redirections = 0
        while True:
            pending = await self._round(units, pending, asking, answers)
            errors = [answers[at] for at in pending]
            if not errors:
                return answers
            if all(isinstance(error, exceptions.AskError) for error in errors) and redirections < _REDIRECTIONS:
                redirections += 1
            elif failures < self._retries:
                failures += 1
                await asyncio.sleep(self._backoff.compute(failures))
            else:
                return answers
            asking = await self._follow(dict(zip(pending, errors, strict=True)))

    async def _round(
        self, units: Sequence[_Unit], pending: Sequence[int], asking: Mapping[int, ClusterNode], answers: list[Any]
    ) -> list[int]:
        """Send what is pending to where it belongs, and keep the answers; what another node is to be asked for."""
        to_each = [at for at, unit in enumerate(units) if unit.slot is None]
        sent: dict[ClusterNode, list[int]] = {}
        for at in pending:
            node = asking[at] if at in asking else self._node_of(units[at].slot)
            if node is None:
                answers[at] = exceptions.SlotNotCoveredError(f"no node has slot {units[at].slot}")
            else:
                sent.setdefault(node, []).append(at)
        if not pending:
            sent = {node: [] for node in self.get_primaries()}
        found = await asyncio.gather(
            *(_send(node, units, sorted((*own, *to_each)), asking) for node, own in sent.items())
        )
        for own, of_node in zip(sent.values(), found, strict=True):
            for at in own:
                answers[at] = of_node[at]
            # Of a node that had nothing of what it was asked for, it does not matter what it says beside that.
            if not own or any(not isinstance(of_node[at], _ELSEWHERE) for at in own):
                for at in to_each:
                    answers[at] = _least(answers[at], of_node[at])
        return [at for at in pending if isinstance(answers[at], _ELSEWHERE)]

    def _node_of(self, slot: int | None) -> ClusterNode | None:
        found = self.nodes_manager.slots_cache.get(slot) if slot is not None else None
        return found[0] if found else None

    async def _follow(self, errors: Mapping[int, Exception]) -> dict[int, ClusterNode]:
        """Learn from these errors where the slots are; the nodes that are to be asked just this once."""
        asking = {}
        manager = self.nodes_manager
        if any(type(error) is not exceptions.AskError for error in errors.values()):
            # When nobody answers who could know better, what was known may hold again at the next try.
            with contextlib.suppress(exceptions.ConnectionError):
                await self._look()
        for at, error in errors.items():
            if isinstance(error, exceptions.MovedError):
                node = self._node_of(error.slot_id)
                # Whoever was asked to look may not have heard of it yet.
                if node is not None and node.name != get_node_name(error.host, error.port) and error.host:
                    await manager.move_slot(error)
            elif isinstance(error, exceptions.AskError):
                name = get_node_name(error.host, error.port)
                if name not in manager.nodes_cache:
                    node = ClusterNode(error.host, error.port, "primary", **self.connection_kwargs)
                    manager.set_nodes(manager.nodes_cache, {name: node})
                asking[at] = manager.nodes_cache[name]
        return asking

    async def _look(self) -> None:
        """Ask a node who has which slot, unless somebody has just done so."""
        now = asyncio.get_running_loop().time()
        if now - self._looked_at < _LOOK_SECONDS and self.nodes_manager.slots_cache:
            return
        self._looked_at = now
        # All nodes may have other addresses by now than those we know.
        self._add_seeds()
        try:
            await self.nodes_manager.initialize()
        except (exceptions.RedisClusterException, IndexError) as error:
            raise exceptions.ConnectionError(f"no node of the cluster says who has which slot: {error}") from error

    def _add_seeds(self) -> None:
        for host, port in self._seeds:
            node = ClusterNode(host, port, **self.connection_kwargs)
            self.nodes_manager.startup_nodes.setdefault(node.name, node)


class ClusterPipeline:
    """As a pipeline of one server, over as many nodes as the keys need; the order holds among keys of one slot.

    A `WAIT` in it answers the least number of replicas that any of the nodes has.
    """

    def __init__(self, client: ClusterClient, *, is_transaction: bool) -> None:
        self._client = client
        self._is_transaction = is_transaction
        self._commands: list[Command] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._commands = []

    def execute_command(self, *args: Any, **_: Any) -> None:
        """Keep the command for `execute`; the node that the library may name is found again by the key."""
        self._commands.append(args)

    async def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002 (the library's signature)
        """The replies in the order of the commands; the first error among them is raised unless told not to."""
        commands, self._commands = tuple(self._commands), []
        if not commands:
            return []
        replies = await (self._in_one_step(commands) if self._is_transaction else self._by_node(commands))
        if raise_on_error:
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return replies

    async def _by_node(self, commands: Iterable[Command]) -> list[Any]:
        return await self._client.in_turn([_Unit((command,), _slot(command)) for command in commands])

    async def _in_one_step(self, commands: tuple[Command, ...]) -> list[Any]:
        slots = {_slot(command) for command in commands}
        if len(slots) > 1:
            raise exceptions.CrossSlotTransactionError("one step of a cluster is about keys of one slot")
        (replies,) = await self._client.in_turn([_Unit((("MULTI",), *commands, ("EXEC",)), slots.pop())])
        if isinstance(replies, Exception):
            raise replies
        found: list[Any] = replies
        return found


async def _send(
    node: ClusterNode, units: Sequence[_Unit], wanted: Sequence[int], asking: Mapping[int, ClusterNode]
) -> dict[int, Any]:
    """What the node answers to these units; a node that cannot be reached answers all of them with the error."""
    queue: list[PipelineCommand] = []
    own: dict[int, list[PipelineCommand]] = {}
    for at in wanted:
        if at in asking:
            queue.append(PipelineCommand(at, "ASKING"))
        own[at] = [PipelineCommand(at, *command) for command in units[at].commands]
        queue += own[at]
    try:
        await node.execute_pipeline(queue)
    except (exceptions.RedisError, OSError) as error:
        return dict.fromkeys(wanted, error)
    return {at: _answer([one.result for one in commands]) for at, commands in own.items()}


def _answer(replies: Sequence[Any]) -> Any:
    """The first error, which the later ones follow from, or the last reply."""
    return next((reply for reply in replies if isinstance(reply, Exception)), replies[-1])


def _least(known: Any, found: Any) -> Any:
    """The worst of two nodes' answers: an error, or the smaller number."""
    if known is None or isinstance(found, Exception):
        return found
    if isinstance(known, int) and isinstance(found, int):
        return min(known, found)
    return known


def _slot(command: Command) -> int | None:
    name = command[0]
    if name in _TO_EACH_NODE:
        return None
    if name in _SCRIPT_CALLS:
        slots = {_slot_of_key(key) for key in command[3 : 3 + int(command[2])]}
        if len(slots) != 1:
            raise exceptions.CrossSlotTransactionError(f"{name} needs keys of one slot")
        return slots.pop()
    return _slot_of_key(command[1])


def _slot_of_key(key: Any) -> int:
    return key_slot(key.encode() if isinstance(key, str) else key)
