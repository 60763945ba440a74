"""The client of a cluster: a client per node, and each command to the node that serves its slot.

A command is sent again only where a node said that it did not execute it: the slot is served elsewhere
(MOVED, ASK), or is on its way (TRYAGAIN). Whatever else goes wrong is raised, since nobody can tell
whether the command was executed; the caller knows whether it may be repeated. redis-py's own cluster
client keeps to neither (docs/adr/0029).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ConnectionError,  # noqa: A004 - theirs, not Python's
    MovedError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004 - theirs, not Python's
    TryAgainError,
)

from eventlog.cancellation import CancellableClient, CancellablePipeline
from eventlog.cluster_slots import NO_MAP, SlotMap, slot_of
from eventlog.server_address import Place

PAUSE_S = 0.02
"""Before a slot that is on its way is asked for again."""

QUICK_REDIRECTS = 3
"""Followed at once; nodes that send us in circles disagree for a moment."""

Command = tuple[tuple[Any, ...], dict[str, Any]]
"""A command's words, and redis-py's options of it."""

_NOT_EXECUTED = (AskError, TryAgainError)  # a MovedError is an AskError
_NODE_FAILED = (ConnectionError, TimeoutError, OSError, ClusterDownError, ReadOnlyError)


class Route(NamedTuple):
    """Where a command goes."""

    place: Place
    is_asking: bool = False
    """Whether the node is about to get the slot: it answers only those who were sent."""


class ClusterClient(CancellableClient):
    """redis-py's commands over a cluster. Blocking commands, scripts and MULTI keep to one slot.

    Commands without a key go to the node of the key `home`, so that all clients ask the same clock.
    """

    def __init__(
        self,
        seeds: Sequence[Place],
        make: Callable[[Place], CancellableClient],
        *,
        home: str,
        patience_s: float,
    ) -> None:
        self._make = make
        self._seeds = tuple(seeds)
        self._clients = {place: make(place) for place in seeds}
        self._map = NO_MAP
        self._is_stale = True
        self._suspect: Place | None = None
        self._looking = asyncio.Lock()
        self._home = slot_of(["GET", home]) or 0
        self._patience_s = patience_s
        first = self._clients[self._seeds[0]]
        super().__init__(connection_pool=first.connection_pool)

    # --- commands --------------------------------------------------------------------------------

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Return the reply. Raises what the node raises, or what kept the slot away for too long."""
        slot = self._slot(args)
        route = Route(await self.place_of(slot))
        patience = Patience(self._patience_s)
        while True:
            replies = await self._send(route, [(args, options)])
            reply = replies[0]
            if not isinstance(reply, Exception):
                return reply
            if not isinstance(reply, _NOT_EXECUTED) or patience.is_over:
                raise reply
            await patience.before(reply)
            route = await self._redirected(reply, route, slot)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> ClusterPipeline:  # noqa: ARG002 - as theirs
        """Return a pipeline; a transaction must keep to one slot."""
        return ClusterPipeline(self, transaction=transaction)

    async def execute_all(self, commands: Sequence[Command]) -> list[Any]:
        """Return the replies, errors among them; commands of one node go in one piece and in order.

        One without a key (WAIT) belongs to the command before it: same node, same connection.
        """
        slots, before = self._slots(commands)
        replies: list[Any] = [None] * len(commands)
        todo = {index: Route(await self.place_of(slot)) for index, slot in enumerate(slots)}
        patience = Patience(self._patience_s)
        while todo:
            by_route: dict[Route, list[int]] = {}
            for index, route in sorted(todo.items()):
                by_route.setdefault(route, []).append(index)
            sendings = (
                self._send(route, [commands[index] for index in indexes])
                for route, indexes in by_route.items()
            )
            answers = await asyncio.gather(*sendings, return_exceptions=True)
            for indexes, answer in zip(by_route.values(), answers, strict=True):
                if isinstance(answer, BaseException):
                    raise answer
                for index, reply in zip(indexes, answer, strict=True):
                    replies[index] = reply
            again = [index for index in todo if isinstance(replies[index], _NOT_EXECUTED)]
            if not again or patience.is_over:
                break
            await patience.before(replies[again[0]])
            moved = {i: await self._redirected(replies[i], todo[i], slots[i]) for i in again}
            followers = {i: moved[before[i]] for i in todo if before[i] in moved and i not in moved}
            todo = moved | followers
        return replies

    async def execute_together(self, commands: Sequence[Command]) -> list[Any]:
        """Return the replies to a transaction, which one node executes whole or not at all."""
        slots = {slot for (args, _), slot in zip(commands, self._slots(commands)[0], strict=True)}
        if len(slots) > 1:
            raise ValueError("a transaction of several slots")
        slot, patience = slots.pop(), Patience(self._patience_s)
        while True:
            place = await self.place_of(slot)
            pipeline = self._client(place).pipeline(transaction=True)
            pipeline.command_stack = list(commands)
            try:
                return await pipeline.execute(raise_on_error=False)
            except _NOT_EXECUTED as error:
                # What MULTI queued is then given up whole (EXECABORT).
                if patience.is_over:
                    raise
                await patience.before(error)
                if isinstance(error, MovedError):
                    await self._redirected(error, Route(place), slot)
                else:
                    await asyncio.sleep(PAUSE_S)  # until all of the slot is on one side
            except _NODE_FAILED:
                self._suspects(place)
                raise

    async def scan_iter(self, *args: Any, **options: Any) -> AsyncIterator[Any]:  # type: ignore[override] # as theirs is, in truth
        """Yield the matching keys of all primaries; a key whose slot moves meanwhile may be missing."""
        for node in await self.nodes():
            async for key in node.scan_iter(*args, **options):
                yield key

    # --- nodes -----------------------------------------------------------------------------------

    async def nodes(self) -> list[Redis]:
        """Return a client of each primary."""
        await self._look()
        return [self._client(place) for place in self._map.primaries]

    async def place_of(self, slot: int) -> Place:
        """Return the node that serves a slot. Raises ClusterDownError where none does."""
        await self._look()
        place = self._map.served.get(slot)
        if place is None:
            self._is_stale = True
            raise ClusterDownError(f"slot {slot} is not served", status_code="CLUSTERDOWN")
        return place

    @property
    def clients(self) -> list[CancellableClient]:
        """The clients of single nodes that this one has."""
        return list(self._clients.values())

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close all connections."""
        for client in self.clients:
            await client.aclose(close_connection_pool)

    def _client(self, place: Place) -> CancellableClient:
        client = self._clients.get(place)
        if client is None:
            client = self._clients[place] = self._make(place)
        return client

    async def _look(self) -> None:
        """Ask who serves what, where that is unknown or was found wrong."""
        if not self._is_stale:
            return
        async with self._looking:
            if self._is_stale:
                await self._ask_around()

    async def _ask_around(self) -> None:
        known = random.sample(self._map.nodes, len(self._map.nodes))
        places = list(dict.fromkeys([*known, *self._seeds]))
        places.sort(key=lambda place: place == self._suspect)  # who failed just now is asked last
        failure: Exception = ClusterDownError("no slot is served", status_code="CLUSTERDOWN")
        for place in places:
            try:
                reply = await self._client(place).execute_command("CLUSTER SLOTS")
            except (RedisError, OSError) as error:
                failure = error
                continue
            found = SlotMap.of_reply(reply, place)
            if found.primaries:
                self._map, self._is_stale, self._suspect = found, False, None
                await self._forget_others()
                return
        raise failure

    async def _forget_others(self) -> None:
        kept = {*self._map.nodes, *self._seeds}
        for place in self._clients.keys() - kept:
            await self._clients.pop(place).aclose()

    def _suspects(self, place: Place) -> None:
        self._is_stale, self._suspect = True, place

    # --- the way of a command --------------------------------------------------------------------

    def _slot(self, args: Sequence[Any]) -> int:
        slot = slot_of(args)
        return self._home if slot is None else slot

    def _slots(self, commands: Sequence[Command]) -> tuple[list[int], list[int]]:
        """Return the commands' slots, and of each without a key the index of the one before it."""
        slots: list[int] = []
        before: list[int] = []
        for index, (args, _) in enumerate(commands):
            slot = slot_of(args)
            follows = slot is None and index > 0
            before.append(
                (before[index - 1] if before[index - 1] >= 0 else index - 1) if follows else -1
            )
            slots.append(slots[-1] if follows else self._slot(args))
        return slots, before

    async def _send(self, route: Route, commands: Sequence[Command]) -> list[Any]:
        """Return the replies of a node, errors that it answered among them."""
        client = self._client(route.place)
        try:
            if len(commands) == 1 and not route.is_asking:
                args, options = commands[0]
                return [await client.execute_command(*args, **options)]
            pipeline = client.pipeline(transaction=False)
            for args, options in commands:
                if route.is_asking:
                    pipeline.execute_command("ASKING")
                pipeline.execute_command(*args, **options)
            replies = await pipeline.execute(raise_on_error=False)
        except _NODE_FAILED:
            self._suspects(route.place)
            raise
        except ResponseError as error:
            return [error]
        if any(isinstance(reply, _NODE_FAILED) for reply in replies):
            self._suspects(route.place)
        return replies[1::2] if route.is_asking else replies

    async def _redirected(self, error: Exception, route: Route, slot: int) -> Route:
        """Return where a command is to go that was not executed."""
        if not isinstance(error, AskError):  # TRYAGAIN
            return Route(await self.place_of(slot))
        place = (error.host or route.place[0], error.port)
        if not isinstance(error, MovedError):
            return Route(place, is_asking=True)
        if self._map.served.get(slot) != place:
            self._map.served[slot] = place
            self._is_stale = place not in self._map.primaries  # its owner is one we do not know
        return Route(place)


class Patience:
    """How long a command is sent about that no node executes."""

    def __init__(self, limit_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._end_s = self._loop.time() + limit_s
        self._count = 0

    @property
    def is_over(self) -> bool:
        """Whether what the nodes say is to be raised."""
        return self._loop.time() >= self._end_s

    async def before(self, error: Exception) -> None:
        """Wait where it does not help to go on at once."""
        self._count += 1
        if isinstance(error, TryAgainError) or self._count > QUICK_REDIRECTS:
            await asyncio.sleep(PAUSE_S)


class ClusterPipeline(CancellablePipeline):
    """redis-py's pipeline, over a cluster."""

    def __init__(self, cluster: ClusterClient, *, transaction: bool) -> None:
        super().__init__(cluster.connection_pool, cluster.response_callbacks, transaction, None)
        self._cluster = cluster
        self._is_together = transaction

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Return the replies."""
        commands: list[Any] = self.command_stack
        self.command_stack = []
        if not commands:
            return []
        if self._is_together:
            replies = await self._cluster.execute_together(commands)
        else:
            replies = await self._cluster.execute_all(commands)
        if raise_on_error:
            self.raise_first_error(commands, replies)
        return replies


async def nodes_of(client: Redis) -> list[Redis]:
    """Return a client of each server that keeps a part of what `client` reaches: one, or a cluster's."""
    return await client.nodes() if isinstance(client, ClusterClient) else [client]
