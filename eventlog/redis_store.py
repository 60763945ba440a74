"""The log's partitions in Redis or Valkey."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from eventlog.batch import Batch, Outcome, pack_batch, unpack_outcome
from eventlog.cancellation import CancellableClient
from eventlog.clock import Clock
from eventlog.cluster import ClusterClient, nodes_of
from eventlog.cluster_arrivals import ClusterArrivals
from eventlog.connection import EMBEDDED, ServerInfo, translate
from eventlog.entry import RawEntry, raw_entries
from eventlog.errors import (
    EventLogError,
    LogNotOpen,
    LogUnavailable,
    OutOfMemory,
    UnsupportedDurability,
)
from eventlog.ids import START, EntryId
from eventlog.kept_connections import KeptConnections
from eventlog.keys import Keys
from eventlog.measures import AppendMeasures
from eventlog.outage import Outage
from eventlog.restoring import read_head
from eventlog.scripts import load_script
from eventlog.settings import Durability, Settings, mask_url

RETRY_BASE_S = 0.05
ALWAYS = "always"
ASK_POLICY = ("CONFIG GET", "appendfsync")
"""Asked behind an append whose reply says that it is synced, if the server still syncs always."""
_FINAL = (OutOfMemory, UnsupportedDurability)

T = TypeVar("T")


class RedisStore:
    """Partitions as streams. Lost connections are mended and the call repeated, being idempotent.

    `recover` is awaited before each repetition: the embedded server is restarted there.
    """

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        server: ServerInfo,
        settings: Settings,
        partition_count: int,
        clock: Clock,
        recover: Callable[[], Awaitable[None]],
        outage: Outage,
        measures: AppendMeasures,
    ) -> None:
        self.client = client
        self._keys = keys
        self._server = server
        self._settings = settings
        self._partition_count = partition_count
        self._clock = clock
        self._recover = recover
        self._outage = outage
        self._measures = measures
        self._closed = False
        self._arrivals = (
            ClusterArrivals(client, keys, settings.longest_block_ms)
            if isinstance(client, ClusterClient)
            else None
        )
        self._syncs_always = False
        """Whether the server synced before it replied, when it was asked last."""
        self._script = load_script("eventlog", "append")
        # Of sentinels' and a cluster's connections each command finds out anew where they lead.
        self._appending = (
            KeptConnections(client, settings.command_timeout_s)
            if type(client) is CancellableClient
            else client
        )
        self._append_keys = [keys.append(p) for p in range(partition_count)]

    async def append(self, partition: int, batch: Batch, durability: Durability) -> Outcome:
        """Return what became of the batch, at the durability asked for."""
        started_s = self._clock.monotonic_s()
        try:
            outcome = unpack_outcome(await self._append(partition, batch, durability))
        except EventLogError as error:
            self._measures.failed(error.code)
            raise
        self._measures.answered(outcome, self._clock.monotonic_s() - started_s)
        return outcome

    async def _append(self, partition: int, batch: Batch, durability: Durability) -> Any:
        packed = pack_batch(batch, self._settings.dedup_window_s * 1000)
        keys = self._append_keys[partition]
        if batch.fence:
            keys = [*keys, batch.fence.key]
        if durability == "memory":
            return await self._insist(
                "append", lambda: self._script(self._appending, keys, [packed])
            )
        barrier = self._keys.barrier(partition)
        return await self._insist(
            "append", lambda: self._append_durably(keys, packed, durability, barrier)
        )

    async def _append_durably(
        self, keys: list[str], packed: bytes, durability: Durability, barrier: str
    ) -> Any:
        """Append and wait on one connection, since WAIT and WAITAOF speak of its own writes.

        A duplicate writes nothing, yet its original may not be durable: hence the barrier.
        """
        replies = await self._append_and_ask(keys, packed, durability, barrier)
        if not self._is_confirmed(durability, replies[2]) and isinstance(replies[2], dict):
            # The server was started anew meanwhile, and syncs each second: ours is told again. It has
            # the events, so that another's refusal leaves them unconfirmed.
            with suppress(UnsupportedDurability):
                replies = await self._append_and_ask(keys, packed, durability, barrier)
        if not self._is_confirmed(durability, replies[2]):
            what = "to disk" if durability == "fsync" else "to a replica"
            raise LogUnavailable(
                f"the events were appended, but their way {what} was not confirmed in time.",
                remedy="Append them again (it is safe), or ask for durability='memory'.",
            )
        return replies[0]

    async def _append_and_ask(
        self, keys: list[str], packed: bytes, durability: Durability, barrier: str
    ) -> list[Any]:
        """Return the replies to the script, the barrier, and what confirms both."""
        confirm = await self._confirmation(durability)
        for command in ("EVALSHA", "EVAL"):
            source = self._script.digest if command == "EVALSHA" else self._script.source
            pipeline = self.client.pipeline(transaction=False)
            pipeline.execute_command(command, source, len(keys), *keys, packed)
            pipeline.execute_command("SET", barrier, "")
            pipeline.execute_command(*confirm)
            replies = await pipeline.execute(raise_on_error=False)
            if not isinstance(replies[0], NoScriptError):
                break
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def _confirmation(self, durability: Durability) -> tuple[str | int, ...]:
        timeout_ms = self._settings.longest_block_ms
        if durability == "replicated":
            return ("WAIT", 1, timeout_ms)
        if not self._server.is_appendonly:
            raise UnsupportedDurability(
                "the server keeps no append-only file, so nothing reaches its disk in time.",
                remedy="Run `CONFIG SET appendonly yes` and open the log again.",
            )
        if not self._syncs_always and await self._sync_policy() != ALWAYS:
            if self._server.has_waitaof:
                return ("WAITAOF", 1, 0, timeout_ms)
            if self._settings.url is not None:
                version = ".".join(map(str, self._server.version))
                raise UnsupportedDurability(
                    f"{self._server.name} {version} cannot be believed when it confirms an fsync.",
                    remedy="Run `CONFIG SET appendfsync always` and write it into its config file,"
                    " or use Redis >= 8.",
                )
            await self.client.config_set("appendfsync", ALWAYS)  # the embedded one is ours
        self._syncs_always = True
        return ASK_POLICY

    async def _sync_policy(self) -> str | None:
        """Return how all servers sync, None where they differ or one does not say."""
        policies = {
            (await node.config_get("appendfsync")).get("appendfsync")
            for node in await nodes_of(self.client)
        }
        return policies.pop() if len(policies) == 1 else None

    def _is_confirmed(self, durability: Durability, reply: Any) -> bool:
        if isinstance(reply, dict):  # at `always` the replies came after the sync
            self._syncs_always = reply.get("appendfsync") == ALWAYS
            return self._syncs_always
        return bool((reply[0] if durability == "fsync" else reply) >= 1)

    async def read(
        self, partition: int, after: EntryId, before: EntryId | None, limit: int
    ) -> list[RawEntry]:
        """Return up to `limit` entries after `after` and before `before`, both exclusive."""
        if before == START:
            return []  # the server knows no range that ends before its first id
        end = f"({before}" if before else "+"
        return raw_entries(
            await self._call(
                "XRANGE", self._keys.stream(partition), f"({after}", end, "COUNT", limit
            )
        )

    async def read_back(
        self, partition: int, after: EntryId, before: EntryId | None, limit: int
    ) -> list[RawEntry]:
        """Return the same range from its end, newest first."""
        if before == START:
            return []  # the server knows no range that ends before its first id
        end = f"({before}" if before else "+"
        return raw_entries(
            await self._call(
                "XREVRANGE", self._keys.stream(partition), end, f"({after}", "COUNT", limit
            )
        )

    async def wait(
        self, cursor: Mapping[int, EntryId], limit: int, timeout_ms: int
    ) -> list[tuple[int, RawEntry]]:
        """Return new entries after the cursor of each partition, or none after `timeout_ms`."""
        if self._arrivals is not None and len(cursor) > 1:
            arrivals = self._arrivals
            return await self._insist("xread", lambda: arrivals.wait(cursor, limit, timeout_ms))
        return await self._wait_in_one_call(cursor, limit, timeout_ms)

    async def _wait_in_one_call(
        self, cursor: Mapping[int, EntryId], limit: int, timeout_ms: int
    ) -> list[tuple[int, RawEntry]]:
        streams = {self._keys.stream(p).encode(): p for p in cursor}
        arguments: list[Any] = ["COUNT", limit]
        if timeout_ms:
            # Above the socket's time-out the client would give up before the server answers.
            arguments += ["BLOCK", min(timeout_ms, self._settings.longest_block_ms)]
        reply = await self._call(
            "XREAD", *arguments, "STREAMS", *streams, *map(str, cursor.values())
        )
        return [
            (streams[name], entry)
            for name, entries in reply or ()
            for entry in raw_entries(entries)
        ]

    async def heads(self) -> list[EntryId]:
        """Return the last entry id of every partition, START for one that never had any."""
        heads = await self._each_partition(lambda p: ("GET", self._keys.head(p)))
        return [read_head(self._keys.log, head) for head in heads]

    async def producer_positions(self, name: str) -> dict[int, int]:
        """Return the last position of a producer by partition."""
        stored = await self._each_partition(lambda p: ("HGET", self._keys.producers(p), name))
        return {p: int(value.split()[0]) for p, value in enumerate(stored) if value}

    async def ping(self) -> bool:
        """Return whether the server answers; never raises."""
        try:
            return not self._closed and bool(await self.client.ping())
        except (RedisError, OSError):
            return False

    def abandon(self) -> None:
        """Refuse all calls from now on: the loop that this ran in has ended, or is not ours."""
        self._closed = True

    async def close(self) -> None:
        """Close the connections; what is under way or comes later raises LogNotOpen."""
        self._closed = True
        if self._arrivals is not None:
            await self._arrivals.close()
        await self.client.aclose()

    async def _each_partition(self, command: Callable[[int], tuple[str, ...]]) -> list[Any]:
        async def ask() -> list[Any]:
            pipeline = self.client.pipeline(transaction=False)
            for partition in range(self._partition_count):
                pipeline.execute_command(*command(partition))
            return await pipeline.execute()

        return await self._insist("heads", ask)

    async def _call(self, *command: Any) -> Any:
        return await self._insist(
            str(command[0]).lower(), lambda: self.client.execute_command(*command)
        )

    async def _insist(self, function: str, call: Callable[[], Awaitable[T]]) -> T:
        """Return what `call` returns, tried again after lost connections and time-outs."""
        for attempt in range(self._settings.max_retries + 1):
            if self._closed:  # the client itself would connect again
                raise LogNotOpen("the log is closed.", remedy="Open it again.")
            try:
                reply = await call()
                if self._outage.is_on:
                    self._outage.answered()
                return reply
            except (RedisError, OSError, TimeoutError) as error:
                failure = self._translated(error)
                if not isinstance(failure, LogUnavailable):
                    raise failure from None
                if isinstance(failure, _FINAL):
                    break
            if attempt < self._settings.max_retries:
                await self._clock.sleep(RETRY_BASE_S * 2**attempt)
                await self._recover()
        if not self._closed:
            self._outage.failed(function, failure)
        raise failure from None

    def _translated(self, error: Exception) -> EventLogError:
        translated = translate(error, self._settings.url or EMBEDDED)
        if translated is not None:
            return translated
        return EventLogError(f"the server answered: {mask_url(str(error))}")
