"""What an open log holds in one event loop of one process: its client, its store, its lanes.

Sockets and tasks belong to a loop, and neither survives a fork. A log that is used in another loop,
or in a child, therefore takes a new foothold; what was found out about the log is carried over.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import NamedTuple

from redis.asyncio import Redis

from eventlog.appender import Appender
from eventlog.away import AwayStore, SpoolOnly, like
from eventlog.clients import new_client
from eventlog.clock import Clock
from eventlog.codec import Codec
from eventlog.connection import EMBEDDED, ServerInfo, connect
from eventlog.embedded import EmbeddedServer
from eventlog.errors import AuthenticationFailed, LogUnavailable, WrongEventLoop
from eventlog.keys import Keys
from eventlog.logs import get_logger
from eventlog.measures import Measures
from eventlog.memory_store import MemoryStore
from eventlog.metadata import DEFAULT_PARTITION_COUNT, Metadata, open_metadata
from eventlog.outage import Outage
from eventlog.partition import Partitions
from eventlog.redis_store import RedisStore
from eventlog.settings import Settings, address_of
from eventlog.sockets import drop_sockets
from eventlog.spool import Spool, spool_folder
from eventlog.spool_file import SpoolHeader, waiting_counts
from eventlog.spooler import Spooler
from eventlog.store import Store
from eventlog.writer import Sink, Writer

_log = get_logger("log")

CLUSTER_CALM_S = 1.0
"""Without a failure on any node: then the cluster is taken to be back."""

INHERITED: list[object] = []
"""What a forked child got from its parent: never used, and never collected, which would act on it."""


class Means(NamedTuple):
    """What a log was opened with."""

    settings: Settings
    codec: Codec
    clock: Clock
    keys: Keys
    measures: Measures
    embedded: EmbeddedServer | None
    """None where the settings name a server."""
    restoring: str | None = None
    """The token of the restore that opens it."""

    async def recover(self) -> None:
        """Bring the embedded server back where it died; a server of your own is yours to mend."""
        if self.embedded is not None:
            await asyncio.to_thread(self.embedded.start)


class Found(NamedTuple):
    """What was found out when the server was reached."""

    url: str
    server: ServerInfo
    metadata: Metadata


async def find(means: Means) -> tuple[Found, Redis]:
    """Return what the server and its log are, with a client. Raises as `EventLog.open` says."""
    url = means.settings.url
    if url is None:
        assert means.embedded is not None
        url = await asyncio.to_thread(means.embedded.start)
    url, client, server = await connect(means.settings, url)
    try:
        metadata = await open_metadata(
            client, means.keys, means.settings, means.clock, means.restoring
        )
    except BaseException:
        await client.aclose()
        raise
    return Found(url, server, metadata), client


class Foothold:
    """Made in the running loop; `move` returns the next one."""

    def __init__(self, means: Means) -> None:
        self.means = means
        self.outage = Outage(means.clock, has_spool=means.settings.spool_dir is not None)
        self.loop = asyncio.get_running_loop()
        self.pid = os.getpid()
        self.found: Found | None = None
        self.client: Redis | None = None
        self.partitions = Partitions(0)
        self._error = LogUnavailable("the log was not reached yet.")
        self.store: Store = AwayStore(self._error)
        self.appender = Appender(Writer(self.store, 0), means.codec, self.partitions)
        self._memory: MemoryStore | None = None
        self._redis: RedisStore | None = None
        self._spooler: Spooler | None = None
        self._reached = asyncio.Event()

    # --- taking hold

    @classmethod
    def in_memory(cls, means: Means, store: MemoryStore | None = None) -> Foothold:
        """Return one without a server, over the entries of a former one if there was."""
        made = cls(means)
        count = means.settings.partition_count or DEFAULT_PARTITION_COUNT
        made.partitions = Partitions(count)
        window_s = means.settings.dedup_window_s
        made._memory = made.store = store or MemoryStore(count, means.clock, window_s)
        made._append_to(made._memory)
        return made

    @classmethod
    async def take(cls, means: Means) -> Foothold:
        """Return one on the server; with a spool also where that is away. Raises as `open` does.

        What dead processes left in the spool is in the log before this returns.
        """
        made = cls(means)
        spool_dir = means.settings.spool_dir
        try:
            found, client = await find(means)
        except LogUnavailable as error:
            if spool_dir is None or isinstance(error, AuthenticationFailed):
                raise
            _log.warning("redis_init_failed", error=str(error))
            made.outage.failed("open", error)
            made.stand_away(error)
            return made
        try:
            made.stand(found, client)
            if made._spooler is not None:
                await made._spooler.caught_up()
        except BaseException:
            await made.close()
            raise
        return made

    def move(self) -> Foothold:
        """Return a foothold in the running loop and process, this one being over.

        Raises WrongEventLoop where its loop still runs, LogUnavailable in a forked child whose
        embedded server does not come.
        """
        is_inherited = self.pid != os.getpid()
        self.leave()
        if self._memory is not None:
            self._memory.move()
            return self.in_memory(self.means, self._memory)
        made = type(self)(self.means)
        if self.found is None:
            made.stand_away(self._error)
            return made
        found = self.found
        if is_inherited and self.means.embedded is not None:
            found = found._replace(url=self.means.embedded.start())  # a user of its own
        made.stand(found, new_client(self.means.settings, found.url))
        return made

    def stand(self, found: Found, client: Redis) -> None:
        """Work on the server, behind the spool where there is one."""
        inner = self._on_server(found, client)
        if self.means.settings.spool_dir is not None:
            count = found.metadata.partition_count
            self._spooler = Spooler(
                inner,
                self._spool(),
                self.outage,
                count,
                attempt_s=self.means.settings.command_timeout_s,
            )
        self._append_to(self._spooler or inner)

    def stand_away(self, error: LogUnavailable) -> None:
        """Spool, until the background task reaches the server."""
        self._error = error
        self.store = AwayStore(error)
        self._spooler = Spooler(
            self.store,
            self._spool(),
            self.outage,
            0,
            self._reach,
            attempt_s=self.means.settings.command_timeout_s,
        )
        self.appender = Appender(SpoolOnly(self._spooler), self.means.codec, Partitions(1))

    async def _reach(self) -> tuple[Store, int]:
        try:
            found, client = await find(self.means)
        except LogUnavailable as error:
            self.outage.failed("open", error)
            raise
        assert self._spooler is not None
        inner = self._on_server(found, client)
        self._append_to(self._spooler)
        self.outage.answered()
        return inner, found.metadata.partition_count

    def _on_server(self, found: Found, client: Redis) -> RedisStore:
        means, count = self.means, found.metadata.partition_count
        self.found, self.client, self.partitions = found, client, Partitions(count)
        if found.server.is_cluster:
            self.outage.calm_s = CLUSTER_CALM_S
        self.store = self._redis = RedisStore(
            client,
            means.keys,
            found.server,
            means.settings,
            count,
            means.clock,
            means.recover,
            self.outage,
            means.measures.appends,
        )
        return self._redis

    def _append_to(self, sink: Sink) -> None:
        writer = Writer(sink, self.partitions.count)
        self.appender = Appender(writer, self.means.codec, self.partitions)
        self._reached.set()

    def _spool(self) -> Spool:
        return Spool(self.means.settings, self._spool_header())

    def _spool_header(self) -> SpoolHeader:
        settings = self.means.settings
        where = address_of(settings.url) if settings.url else f"{EMBEDDED} {settings.data_path}"
        epoch = self.found.metadata.epoch if self.found else ""
        return SpoolHeader(settings.key_prefix, where, epoch)

    # --- standing

    @property
    def is_here(self) -> bool:
        """Whether it is of this process, and of the running loop if one runs."""
        return self.pid == os.getpid() and self.loop is (_running_loop() or self.loop)

    @property
    def is_degraded(self) -> bool:
        """Whether the server is known to be away, or the spool is not drained."""
        return self.outage.is_on or (self._spooler is not None and self._spooler.is_behind)

    def why_away(self) -> LogUnavailable:
        """Return what the opening met that found no server."""
        return like(self._error)

    async def spool_counts(self) -> dict[str, int]:
        """Return spool file → events that wait in it, of this log, whichever process has it."""
        settings = self.means.settings
        if settings.spool_dir is None:
            return {}
        header = self._spool_header()
        return await asyncio.to_thread(waiting_counts, spool_folder(settings), header)

    async def reached(self) -> None:
        """Return when the server has been reached at least once."""
        await self._reached.wait()

    # --- letting go

    async def close(self) -> None:
        """Answer what is queued, drain what can be, let go of the server.

        Cancelled, it skips the step it is at and still takes those after it.
        """
        async with contextlib.AsyncExitStack() as last_to_first:
            last_to_first.push_async_callback(self._close_client)
            last_to_first.push_async_callback(self._close_store)
            if self._spooler is not None:
                last_to_first.push_async_callback(self._spooler.close)
            last_to_first.push_async_callback(self.appender.close)

    # Looked up when it comes to them: the spooler may have reached the server while it was closed.

    async def _close_store(self) -> None:
        await self.store.close()

    async def _close_client(self) -> None:
        if self.client is not None:
            await self.client.aclose()

    def leave(self) -> None:
        """Let go without the loop, which is over or the parent's; the spool stays on the disk.

        Raises WrongEventLoop where the loop still runs.
        """
        is_inherited = self.pid != os.getpid()
        if not is_inherited and self.loop.is_running():
            raise WrongEventLoop(
                "the log is in use in another event loop, which is still running.",
                remedy="Open one log per event loop, or share a BlockingEventLog between threads.",
            )
        if is_inherited:
            INHERITED.append(self)
            if self.means.embedded is not None:
                self.means.embedded.forget_parent()
        if self._redis is not None:
            self._redis.abandon()
        if self.client is not None:
            drop_sockets(self.client, is_inherited=is_inherited)
        if self._spooler is not None and not is_inherited:
            self._spooler.abandon()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
