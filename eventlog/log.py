"""The log: open it, append to it, read it, follow it."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable, Sequence
from types import TracebackType
from typing import Any, Literal, Self, overload

from redis.asyncio import Redis

from eventlog.appender import Appender, ExpectedVersion
from eventlog.clock import SYSTEM_CLOCK, Clock
from eventlog.codec import Codec
from eventlog.connection import check_server, connect
from eventlog.cursor import Cursor
from eventlog.embedded import EmbeddedServer
from eventlog.entry import Entry, RawEntry
from eventlog.errors import InvalidCursor, InvalidEvent, LogNotOpen
from eventlog.event import Event
from eventlog.ids import START, EntryId
from eventlog.keys import Keys
from eventlog.logs import get_logger
from eventlog.memory_store import MemoryStore
from eventlog.metadata import DEFAULT_PARTITION_COUNT, open_metadata
from eventlog.partition import Partitions
from eventlog.producer import Producer
from eventlog.redis_store import RedisStore
from eventlog.settings import Durability, Settings, change_settings, load_settings
from eventlog.store import Store
from eventlog.tail import Tail, decode_entry
from eventlog.upcast import Upcasters
from eventlog.writer import AppendResult

READ_PAGE_ENTRIES = 1000

_log = get_logger("log")


class EventLog:
    """An append-only log of events in partitions.

    >>> async with EventLog.open() as log:
    ...     await log.append(MessageReceived(conversation="telegram:42", text="hello"))
    ...     entries = await log.read(conversation="telegram:42")

    `await EventLog.open(...)` works as well; call `close` then. Every method may raise
    LogUnavailable; a call that did may be repeated, since appends are idempotent.
    """

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        clock: Clock = SYSTEM_CLOCK,
        *,
        in_memory: bool = False,
    ) -> None:
        self.settings = settings
        self.codec = codec
        self.clock = clock
        self.keys = Keys(settings.key_prefix)
        self._partitions = Partitions(0)
        self._in_memory = in_memory
        self._embedded: EmbeddedServer | None = None
        self._client: Redis | None = None
        self._server_url: str | None = None
        self._opened: tuple[Store, Appender] | None = None

    @classmethod
    def open(
        cls,
        url: str | None = None,
        *,
        settings: Settings | None = None,
        types: Iterable[type[Event]] = (),
        upcasters: Upcasters | None = None,
        clock: Clock = SYSTEM_CLOCK,
        **overrides: Any,
    ) -> Self:
        """Return the log at `url`, to be entered with `async with` or awaited.

        Without a url, and with none in environment or file, a private server runs in the user's
        data directory. `overrides` are settings by name. `types` and `upcasters` are yours, beside
        the built-in vocabulary. Raises ConfigurationError, AuthenticationFailed, LogUnavailable.
        """
        if settings is None:
            settings = load_settings(url=url, **overrides)
        else:
            settings = change_settings(settings, url=url, **overrides)
        codec = Codec(types, upcasters=upcasters, max_event_bytes=settings.max_event_bytes)
        return cls(settings, codec, clock)

    @classmethod
    def in_memory(
        cls,
        *,
        types: Iterable[type[Event]] = (),
        upcasters: Upcasters | None = None,
        clock: Clock = SYSTEM_CLOCK,
        **overrides: Any,
    ) -> Self:
        """Return a log that forgets everything when it is closed: for tests of your own program."""
        settings = change_settings(Settings(), **overrides)
        codec = Codec(types, upcasters=upcasters, max_event_bytes=settings.max_event_bytes)
        return cls(settings, codec, clock, in_memory=True)

    # --- opening and closing -------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._opened is not None:
            _log.warning("already_open", key_prefix=self.settings.key_prefix)
            return self
        try:
            store = await self._open_store()
        except BaseException:
            await self._let_go()
            raise
        self._opened = store, Appender(store, self.codec, self._partitions)
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _open_store(self) -> Store:
        if self._in_memory:
            self._partitions = Partitions(self.settings.partition_count or DEFAULT_PARTITION_COUNT)
            return MemoryStore(self.partition_count, self.clock, self.settings.dedup_window_s)
        url = self.settings.url
        if url is None:
            self._embedded = EmbeddedServer(self.settings)
            url = await asyncio.to_thread(self._embedded.start)
        self._server_url = url
        self._client = await connect(self.settings, url)
        server = await check_server(self._client)
        metadata = await open_metadata(self._client, self.keys, self.settings, self.clock)
        self._partitions = Partitions(metadata.partition_count)
        return RedisStore(
            self._client,
            self.keys,
            server,
            self.settings,
            self.partition_count,
            self.clock,
            self._recover,
        )

    async def _recover(self) -> None:
        """Bring the embedded server back where it died; a server of your own is yours to mend."""
        if self._embedded is not None:
            await asyncio.to_thread(self._embedded.start)

    async def close(self) -> None:
        """Answer what is queued, end tails and producers, let go of the server; idempotent."""
        opened, self._opened = self._opened, None
        try:
            if opened is not None:
                store, appender = opened
                await appender.close()
                await store.close()
        finally:
            await self._let_go()

    async def _let_go(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
        embedded, self._embedded = self._embedded, None
        if embedded is not None:
            await asyncio.to_thread(embedded.release)

    @property
    def partition_count(self) -> int:
        """How many partitions the log has; 0 before it is open."""
        return self._partitions.count

    @property
    def is_in_memory(self) -> bool:
        """Whether the log is one of `in_memory`, without a server."""
        return self._in_memory

    @property
    def client(self) -> Redis:
        """The connection to the server, for the layers above. Raises LogNotOpen."""
        if self._client is None:
            raise _not_open("the log is not open on a server.")
        return self._client

    @property
    def server_url(self) -> str:
        """Where the server is, the embedded one too. It may hold a password. Raises LogNotOpen."""
        if self._client is None or self._server_url is None:
            raise _not_open("the log is not open on a server.")
        return self._server_url

    @property
    def _store(self) -> Store:
        return self._parts[0]

    @property
    def _parts(self) -> tuple[Store, Appender]:
        if self._opened is None:
            raise _not_open("the log is not open.")
        return self._opened

    async def ping(self) -> bool:
        """Return whether the server answers; False, never an error, where it does not."""
        return self._opened is not None and await self._store.ping()

    # --- appending -----------------------------------------------------------------------------

    @overload
    async def append(
        self,
        events: Event,
        *,
        expected_version: ExpectedVersion = None,
        durability: Durability | None = None,
    ) -> AppendResult: ...

    @overload
    async def append(
        self,
        events: Sequence[Event],
        *,
        expected_version: ExpectedVersion = None,
        durability: Durability | None = None,
    ) -> list[AppendResult]: ...

    async def append(
        self,
        events: Event | Sequence[Event],
        *,
        expected_version: ExpectedVersion = None,
        durability: Durability | None = None,
    ) -> AppendResult | list[AppendResult]:
        """Return where the event, or each event of the list, stands in the log.

        An id seen within the dedup window is not recorded again: the result is the original's.
        Of a list, what falls into one partition is written whole or not at all (up to 500 events;
        more go in several such steps, in order), and one bad event anywhere writes nothing.
        `expected_version` is that of the entity of the events, which must all have the same, or a
        mapping `{event.entity: version}`, 0 standing for one that nothing was said of yet.
        `durability`: `memory` when the server has it, `fsync` when its disk has, `replicated` when
        a replica has. Raises InvalidEvent and its kin, VersionConflict, LogUnavailable.
        """
        appender, level = self._parts[1], durability or self.settings.durability
        if isinstance(events, Event):
            return await appender.append_one(events, expected_version, level)
        return await appender.append_all(list(events), expected_version, level)

    async def producer(self, name: str, *, durability: Durability | None = None) -> Producer:
        """Return the bulk producer of that name, standing where the log has it."""
        if not name or len(name) > 512 or any(c.isspace() for c in name):
            raise InvalidEvent(
                f"{name!r} is no producer name: 1 to 512 characters, no white space."
            )
        positions = await self._store.producer_positions(name)
        level = durability or self.settings.durability
        return Producer(self._store, self.codec, self._partitions, name, positions, level)

    # --- reading -------------------------------------------------------------------------------

    def partition_of(self, conversation: str) -> int:
        """Return the partition that a conversation lives in. Raises LogNotOpen."""
        if not self.partition_count:
            raise _not_open("the log has not been opened.")
        return self._partitions[conversation]

    async def read(
        self,
        *,
        conversation: str | None = None,
        partition: int | None = None,
        after: EntryId | None = None,
        before: EntryId | None = None,
        limit: int = 100,
        reverse: bool = False,
    ) -> list[Entry]:
        """Return up to `limit` entries of one conversation or partition, in order.

        `after` and `before` are exclusive; `reverse` gives the newest first. One conversation is
        picked out of its partition: for recent messages the history view is faster.
        """
        store = self._store
        if (conversation is None) == (partition is None):
            raise InvalidEvent("read takes either a conversation or a partition.")
        if partition is None:
            assert conversation is not None
            partition = self.partition_of(conversation)
        if not 0 <= partition < self.partition_count:
            raise InvalidEvent(f"there is no partition {partition}.")
        found: list[Entry] = []
        page_size = limit if conversation is None else READ_PAGE_ENTRIES
        low, high = after or START, before
        while len(found) < limit:
            reader = store.read_back if reverse else store.read
            page = await reader(partition, low, high, page_size)
            for raw_entry in page:
                entry = decode_entry(self.codec, partition, raw_entry)
                if conversation is None or entry.event.conversation == conversation:
                    found.append(entry)
            if len(page) < page_size:
                break
            if reverse:
                high = page[-1].id
            else:
                low = page[-1].id
        return found[:limit]

    async def read_raw(
        self, partition: int, after: EntryId, limit: int, until: EntryId | None = None
    ) -> list[RawEntry]:
        """Return up to `limit` undecoded entries after `after` and up to and with `until`."""
        before = None if until is None else EntryId(until.ms, until.n + 1)
        return await self._store.read(partition, after, before, limit)

    async def heads(self) -> list[EntryId]:
        """Return the last entry id of every partition, START for one that never had any."""
        return await self._store.heads()

    async def tail(
        self,
        after: Cursor | str | Literal["start"] | None = None,
        *,
        partition: int | None = None,
    ) -> Tail:
        """Return an endless async iterator over the entries after a cursor.

        `after` is a Cursor or its text, `"start"` for everything, None for what comes from now on.
        With `partition` only that one is followed, and the cursor has it alone. Raises
        InvalidCursor for a text or a cursor that this log did not give out.

        >>> async for entry in await log.tail():
        ...     print(entry.event.type)
        """
        store = self._store
        followed = range(self.partition_count) if partition is None else (partition,)
        if after is None:
            heads = await store.heads()
            cursor = Cursor((p, heads[p]) for p in followed)
        elif after == "start":
            cursor = Cursor((p, START) for p in followed)
        else:
            cursor = _parsed(after) if isinstance(after, str) else Cursor(after)
            if partition is not None and isinstance(after, str) and len(cursor) == 1:
                cursor = Cursor({partition: cursor[0]})
        if cursor.keys() != set(followed):
            raise InvalidCursor(
                f"the cursor has {len(cursor)} partitions, the log {self.partition_count}, of which "
                f"{len(followed)} are followed.",
                remedy="It belongs to another log, or to another way to follow it.",
            )
        return Tail(store, self.codec, cursor)


def _parsed(cursor: str) -> Cursor:
    try:
        return Cursor.parse(cursor)
    except ValueError:
        raise InvalidCursor(
            f"{cursor!r} is no cursor.", remedy="Keep `str(tail.cursor)` and give it back as it is."
        ) from None


def _not_open(message: str) -> LogNotOpen:
    return LogNotOpen(message, remedy="Use `async with EventLog.open() as log`.")
