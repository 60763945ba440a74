"""The log: open it, append to it, read it, follow it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator, Iterable, Sequence
from types import TracebackType
from typing import Any, Literal, Self, overload

import msgspec
from redis.asyncio import Redis

from eventlog.appender import ExpectedVersion
from eventlog.batch import Fence
from eventlog.clock import SYSTEM_CLOCK, Clock
from eventlog.codec import Codec
from eventlog.correlation import with_correlation
from eventlog.cursor import Cursor
from eventlog.embedded import EmbeddedServer
from eventlog.entry import Entry, RawEntry
from eventlog.errors import (
    EventLogError,
    InvalidCursor,
    InvalidEvent,
    LogNotOpen,
    WrongEventLoop,
)
from eventlog.event import Event
from eventlog.foothold import Foothold, Means
from eventlog.ids import START, EntryId
from eventlog.injected import AnyClient, url_of
from eventlog.keys import Keys
from eventlog.logs import get_logger
from eventlog.producer import Producer
from eventlog.settings import Durability, Settings, change_settings, load_settings
from eventlog.store import Store
from eventlog.tail import Tail, check_follows, decode_entry
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
        restoring: str | None = None,
    ) -> None:
        self.settings = settings
        self.codec = codec
        self.clock = clock
        self.keys = Keys(settings.key_prefix)
        self._in_memory = in_memory
        self._restoring = restoring
        self.on_move: list[Callable[[], None]] = []
        """Called when the log goes on in another event loop or in a forked child: for those who have
        tasks of their own to begin there."""
        self._embedded: EmbeddedServer | None = None
        self._foothold: Foothold | None = None

    @classmethod
    def open(
        cls,
        url: str | None = None,
        *,
        settings: Settings | None = None,
        types: Iterable[type[Event]] = (),
        upcasters: Upcasters | None = None,
        clock: Clock = SYSTEM_CLOCK,
        client: AnyClient | None = None,
        restoring: str | None = None,
        **overrides: Any,
    ) -> Self:
        """Return the log at `url`, to be entered with `async with` or awaited.

        Without a url, and with none in environment or file, a private server runs in the user's
        data directory. `client` is a redis-py client of yours in place of a url, async or not: the
        log connects as that does, and neither uses nor closes it. `overrides` are settings by name.
        `types` and `upcasters` are yours, beside the built-in vocabulary. Where the server is away
        and `spool_dir` is set, the log opens without it, takes appends, and reaches it by itself.
        `restoring` is the token of a restore that is not complete yet: others are refused meanwhile.
        Raises ConfigurationError, AuthenticationFailed, LogUnavailable and its kin.
        """
        if client is not None:
            url = url_of(client, instead_of=url)
        if settings is None:
            settings = load_settings(url=url, **overrides)
        else:
            settings = change_settings(settings, url=url, **overrides)
        if client is not None:  # whose credentials are in its url, if it has any
            settings = msgspec.structs.replace(settings, password=None)
        codec = Codec(types, upcasters=upcasters, max_event_bytes=settings.max_event_bytes)
        return cls(settings, codec, clock, restoring=restoring)

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
        if self._foothold is not None and not self._foothold.is_here:
            self._here()  # in a new event loop, or in a forked child
            return self
        if self._foothold is not None:
            _log.warning("already_open", key_prefix=self.settings.key_prefix)
            return self
        if not self._in_memory and self.settings.url is None:
            self._embedded = EmbeddedServer(self.settings)
        means = Means(
            self.settings, self.codec, self.clock, self.keys, self._embedded, self._restoring
        )
        try:
            if self._in_memory:
                self._foothold = Foothold.in_memory(means)
            else:
                self._foothold = await Foothold.take(means)
        except BaseException:
            await self._release_embedded()
            raise
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

    async def close(self) -> None:
        """Answer what is queued, end tails and producers, let go of the server; idempotent.

        What is still in the spool while the server is away stays there for whoever opens the log
        next; a warning says how much. Raises WrongEventLoop where another loop is using the log.
        """
        foothold, self._foothold = self._foothold, None
        try:
            if foothold is not None and foothold.is_here:
                await foothold.close()
            elif foothold is not None:
                foothold.leave()
        except WrongEventLoop:
            self._foothold = foothold
            raise
        finally:
            if self._foothold is None:
                await self._release_embedded()

    async def _release_embedded(self) -> None:
        embedded, self._embedded = self._embedded, None
        if embedded is None:
            return
        try:
            await asyncio.to_thread(embedded.release)
        except RuntimeError:  # the interpreter is ending, and starts no thread any more
            embedded.release()

    def _here(self) -> Foothold:
        """Return what the log holds in this loop and process. Raises LogNotOpen and its kin."""
        if self._foothold is None:
            raise _not_open("the log is not open.")
        if not self._foothold.is_here:
            self._foothold = self._foothold.move()
            for follow in self.on_move:
                follow()
        return self._foothold

    @property
    def partition_count(self) -> int:
        """How many partitions the log has; 0 before it is open.

        Raises LogUnavailable where it was opened without its server: only that knows.
        """
        if self._foothold is None:
            return 0
        if not self.was_reached:
            raise self._foothold.why_away()
        return self._foothold.partitions.count

    @property
    def was_reached(self) -> bool:
        """Whether the log is open and its server was there once since; as a rule from `open` on."""
        return self._foothold is not None and bool(self._foothold.partitions.count)

    @property
    def is_degraded(self) -> bool:
        """Whether the log does less than it should for want of the server.

        True from the first call that found the server away (or the opening that did) until one that
        did not, and as long as the spool is not drained: appends are then answered from there.
        """
        with contextlib.suppress(EventLogError):
            self._here()  # in a new event loop what was in the spool is drained there
        return self._foothold is not None and self._foothold.is_degraded

    async def spool_counts(self) -> dict[str, int]:
        """Return spool file → events that wait in it, of this log, whichever process wrote it.

        Opening the log drains those of processes that have ended; {} where `spool_dir` is not set.
        """
        return await self._here().spool_counts()

    async def reached(self) -> None:
        """Return when the server has been reached since the log was opened; at once, as a rule."""
        await self._here().reached()

    @property
    def is_in_memory(self) -> bool:
        """Whether the log is one of `in_memory`, without a server."""
        return self._in_memory

    @property
    def client(self) -> Redis:
        """The connection to the server, for the layers above. Raises LogNotOpen."""
        return self._on_server()[1]

    @property
    def server_url(self) -> str:
        """Where the server is, the embedded one too. It may hold a password. Raises LogNotOpen."""
        return self._on_server()[0]

    def _on_server(self) -> tuple[str, Redis]:
        foothold = self._here()
        if self._in_memory:
            raise _not_open("the log is not open on a server.")
        if foothold.found is None or foothold.client is None:
            raise foothold.why_away()
        return foothold.found.url, foothold.client

    @property
    def _store(self) -> Store:
        return self._here().store

    async def ping(self) -> bool:
        """Return whether the server answers; False, never an error, where it does not."""
        try:
            return await self._store.ping()
        except EventLogError:
            return False

    # --- appending -----------------------------------------------------------------------------

    @overload
    async def append(
        self,
        events: Event,
        *,
        expected_version: ExpectedVersion = None,
        durability: Durability | None = None,
        fence: Fence | None = None,
    ) -> AppendResult: ...

    @overload
    async def append(
        self,
        events: Sequence[Event],
        *,
        expected_version: ExpectedVersion = None,
        durability: Durability | None = None,
        fence: Fence | None = None,
    ) -> list[AppendResult]: ...

    async def append(
        self,
        events: Event | Sequence[Event],
        *,
        expected_version: ExpectedVersion = None,
        durability: Durability | None = None,
        fence: Fence | None = None,
    ) -> AppendResult | list[AppendResult]:
        """Return where the event, or each event of the list, stands in the log.

        An id seen within the dedup window is not recorded again: the result is the original's.
        Of a list, what falls into one partition is written whole or not at all (up to 500 events;
        more go in several such steps, in order), and one bad event anywhere writes nothing.
        `expected_version` is that of the entity of the events, which must all have the same, or a
        mapping `{event.entity: version}`, 0 standing for one that nothing was said of yet and FREE
        for one that nobody holds (`eventlog.entity`). With the `fence` of a lock it is written only while nobody else has taken that lock.
        `durability`: `memory` when the server has it, `fsync` when its disk has, `replicated` when
        a replica has. Raises InvalidEvent and its kin, VersionConflict, Fenced, LogUnavailable.
        """
        appender, level = self._here().appender, durability or self.settings.durability
        if isinstance(events, Event):
            event = with_correlation(events)
            return await appender.append_one(event, expected_version, level, fence)
        together = [with_correlation(each) for each in events]
        return await appender.append_all(together, expected_version, level, fence)

    async def producer(self, name: str, *, durability: Durability | None = None) -> Producer:
        """Return the bulk producer of that name, standing where the log has it."""
        if not name or len(name) > 512 or any(c.isspace() for c in name):
            raise InvalidEvent(
                f"{name!r} is no producer name: 1 to 512 characters, no white space."
            )
        positions = await self._store.producer_positions(name)
        level = durability or self.settings.durability
        return Producer(self._store, self.codec, self._here().partitions, name, positions, level)

    # --- reading -------------------------------------------------------------------------------

    def partition_of(self, conversation: str) -> int:
        """Return the partition that a conversation lives in. Raises LogNotOpen."""
        if self._foothold is None:
            raise _not_open("the log has not been opened.")
        if not self.was_reached:
            raise self._foothold.why_away()
        return self._foothold.partitions[conversation]

    async def read(
        self,
        *,
        conversation: str | None = None,
        partition: int | None = None,
        after: EntryId | None = None,
        before: EntryId | None = None,
        limit: int = 100,
        reverse: bool = False,
        allows_gap: bool = False,
    ) -> list[Entry]:
        """Return up to `limit` entries of one conversation or partition, in order.

        `after` and `before` are exclusive; `reverse` gives the newest first. One conversation is
        picked out of its partition: for recent messages the history view is faster. Raises
        HistoryGap where entries of the partition right after `after` were trimmed, unless a gap is
        allowed: then what there is.
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
        lowest_n: int | None = None  # of what was read
        while len(found) < limit:
            reader = store.read_back if reverse else store.read
            page = await reader(partition, low, high, page_size)
            if page and (reverse or lowest_n is None):
                lowest_n = page[-1 if reverse else 0].id.n
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
        is_cut_short = reverse and len(found) >= limit
        if after is not None and not allows_gap and not is_cut_short and limit > 0:
            if lowest_n is None:
                lowest_n = await self._following_n(partition, after, before)
            check_follows(partition, after, lowest_n)
        return found[:limit]

    async def _following_n(self, partition: int, after: EntryId, before: EntryId | None) -> int:
        """Return the sequence of the first entry between the two, where there is none that of the end."""
        head = (await self._store.heads())[partition]
        # What came after that look is there as well, and taken for no gap.
        page = await self._store.read(partition, after, before, 1)
        if page:
            return page[0].id.n
        return head.n + 1 if before is None else min(head.n + 1, before.n)

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
        store, count = self._store, self.partition_count
        followed = range(count) if partition is None else (partition,)
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
                f"the cursor has {len(cursor)} partitions, the log {count}, of which "
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
