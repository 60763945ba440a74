"""One tail per partition, however many readers: each entry is read and encoded once.

A partition is followed from its first reader on until its last one has gone. Each reader has a queue
of bounded length; one that does not keep up is dropped from it, and others never wait for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextvars import Context
from typing import Any, Literal, NamedTuple

from eventlog.connection import in_our_words
from eventlog.entry import Entry
from eventlog.errors import EventLogError, HistoryGap
from eventlog.event import Event
from eventlog.ids import EntryId
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.tail import Tail
from eventlog.tasks import end_calls
from service.http.entries import entry_json
from service.http.place import Place, mark_of
from service.http.refusal import Refusal

QUEUE_ENTRIES = 2000
"""That wait for one reader: four pages of a tail."""
MOST_FOLLOWED = 128
"""Partitions. Each holds one of the log's 256 connections while it waits."""
HEARTBEAT_S = 15.0
"""So often a reader that nothing is for is sent a comment: proxies and readers see that it lives."""
MARK_FRESH_S = 1.0
AGAIN_S = 0.5
"""Until an unreachable log is asked again."""

Fate = Literal["", "slow", "lost", "stopped"]
"""Why a reader hears nothing more: it did not keep up, entries were trimmed unseen, the end of all."""

_log = get_logger("http")


class Wants(NamedTuple):
    """Which entries a reader is for."""

    kind: Literal["session", "conversation", "all"]
    name: str = ""
    types: frozenset[str] = frozenset()
    """Only these; empty: all."""

    @property
    def key(self) -> tuple[str, str]:
        """Under which it is looked up."""
        return self.kind, self.name

    def takes(self, event: Event) -> bool:
        """Return whether an event is for it."""
        if self.kind == "session":
            return event.session == self.name
        if self.kind == "conversation":
            return event.conversation == self.name
        return not self.types or event.type in self.types


class Heard:
    """An entry on its way to readers."""

    __slots__ = ("_framed", "entry", "positions")

    def __init__(self, entry: Entry, positions: Mapping[int, EntryId]) -> None:
        self.entry = entry
        self.positions = positions
        """Up to where all readers have been given all entries, this one being the last of them."""
        self._framed: dict[tuple[int, ...], bytes] = {}

    def framed(self, log: EventLog, log_mark: str, partitions: tuple[int, ...]) -> bytes:
        """Return it as the lines of an event, for readers of these partitions; made once for all."""
        framed = self._framed.get(partitions)
        if framed is None:
            place = Place(log_mark, {each: self.positions[each] for each in partitions})
            framed = self._framed[partitions] = frame(log, self.entry, place)
        return framed


def frame(log: EventLog, entry: Entry, place: Place) -> bytes:
    """Return an entry as the lines of an event, after which a reader is at that place."""
    data = bytes(entry_json(log, entry))
    return b"id: %s\nevent: entry\ndata: %s\n\n" % (str(place).encode(), data)


class Reader:
    """One stream's side: what it has not taken yet."""

    def __init__(self, wants: Wants, room: int = QUEUE_ENTRIES) -> None:
        self.wants = wants
        self.woken = asyncio.Event()
        self.fate: Fate = ""
        self.is_due = False
        """Whether nothing came for so long that its stream should show that it lives."""
        self._room = room
        self._queue: deque[Heard] = deque()

    def put(self, heard: Heard) -> None:
        """Queue an entry; where there is no room the reader is slow."""
        if len(self._queue) >= self._room:
            self.give_up("slow")
            return
        self._queue.append(heard)
        self.woken.set()

    def give_up(self, fate: Fate) -> None:
        """Hear nothing more, and say why."""
        if not self.fate:
            self.fate = fate
            self._queue.clear()
            self.woken.set()

    def beat(self) -> None:
        """Wake it where nothing is queued."""
        if not self._queue:
            self.is_due = True
            self.woken.set()

    def take(self) -> list[Heard]:
        """Return what is queued."""
        self.woken.clear()
        taken = list(self._queue)
        self._queue.clear()
        return taken


class Feed:
    """One partition, followed while anybody listens."""

    def __init__(self, log: EventLog, partition: int, positions: dict[int, EntryId]) -> None:
        """`positions` are those of all feeds, where this one keeps its own up to date."""
        self.partition = partition
        self._positions = positions
        self.position: EntryId | None = None
        """The last entry that readers were given; None while nobody listens."""
        self._log = log
        self._readers: dict[tuple[str, str], set[Reader]] = {}
        self._task: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    async def join(self, reader: Reader) -> EntryId:
        """Let the reader hear all that follows the returned position. Raises LogUnavailable."""
        async with self._starting:
            if self.position is None:
                tail = await self._log.tail(None, partition=self.partition)
                self.position = self._positions[self.partition] = tail.cursor[self.partition]
                # It outlives the request that begins it, and is not of it.
                self._task = asyncio.create_task(self._follow(tail), context=Context())
        self._readers.setdefault(reader.wants.key, set()).add(reader)
        return self.position

    def leave(self, reader: Reader) -> asyncio.Task[None] | None:
        """Forget the reader; return the task to be ended where it was the last."""
        same = self._readers.get(reader.wants.key, set())
        same.discard(reader)
        if not same:
            self._readers.pop(reader.wants.key, None)
        return None if self._readers else self.abandon()

    def abandon(self) -> asyncio.Task[None] | None:
        """Follow nothing any more; return the task to be ended, if there is one."""
        task, self._task = self._task, None
        self.position = None
        self._readers.clear()
        return task

    def readers(self) -> Iterator[Reader]:
        """Yield all that listen."""
        for readers in self._readers.values():
            yield from readers

    def give_up(self, fate: Fate) -> None:
        """Give up all readers."""
        for reader in self.readers():
            reader.give_up(fate)

    async def _follow(self, tail: Tail) -> None:
        try:
            while True:
                try:
                    entry = await anext(tail)
                except HistoryGap:
                    break
                except EventLogError as error:
                    _log.warning("stream_waits", partition=self.partition, error=str(error))
                    await self._log.clock.sleep(AGAIN_S)
                    continue
                assert self.position is not None
                if entry.id.n != self.position.n + 1:
                    break
                self.position = self._positions[self.partition] = entry.id
                self._hand_out(entry)
        except Exception:  # noqa: BLE001 - readers would wait for ever
            _log.exception("stream_failed", partition=self.partition)
        self._begin_again()

    def _hand_out(self, entry: Entry) -> None:
        event = entry.event
        heard = Heard(entry, dict(self._positions))
        concerned = [("all", ""), ("conversation", event.conversation)]
        if event.session is not None:
            concerned.append(("session", event.session))
        for key in concerned:
            for reader in self._readers.get(key, ()):
                if reader.wants.takes(event):
                    reader.put(heard)

    def _begin_again(self) -> None:
        """Tell all readers that they missed entries; whoever joins next begins at the present."""
        _log.warning("stream_gap", partition=self.partition)
        self.give_up("lost")
        self._readers.clear()
        self._task, self.position = None, None


class Hub:
    """The feeds of all partitions, followed as needed."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._feeds: dict[int, Feed] = {}
        self._positions: dict[int, EntryId] = {}
        self._next_beat: asyncio.TimerHandle | None = None
        self._mark = ""
        self._marked_s = float("-inf")
        self._marking = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()
        self.is_closed = False

    @property
    def followed_count(self) -> int:
        """Partitions that are followed now."""
        return sum(feed.position is not None for feed in self._feeds.values())

    async def log_mark(self) -> str:
        """Return what tells the log from others, asked once a second at most. Raises LogUnavailable."""
        async with self._marking:
            now_s = self._log.clock.monotonic_s()
            if now_s - self._marked_s > MARK_FRESH_S:
                with in_our_words(self._log.settings):
                    epoch: Any = await self._log.client.hget(self._log.keys.meta(), "epoch")
                self._mark, self._marked_s = mark_of((epoch or b"").decode()), now_s
        return self._mark

    async def join(self, reader: Reader, partitions: Iterable[int]) -> dict[int, EntryId]:
        """Let the reader hear what follows the returned positions. Raises LogUnavailable, Refusal."""
        joined: dict[int, EntryId] = {}
        try:
            for partition in partitions:
                feed = self._feed(partition)
                if feed.position is None and self.followed_count >= MOST_FOLLOWED:
                    raise Refusal(
                        "overloaded",
                        f"{MOST_FOLLOWED} partitions are followed here, no more can be.",
                        remedy="Name fewer with `partition`, or run more processes.",
                        headers={"Retry-After": "5"},
                    )
                joined[partition] = await feed.join(reader)
        except BaseException:
            self.leave(reader, joined)
            raise
        if self.is_closed:
            reader.give_up("stopped")
        elif self._next_beat is None:
            self._beat_later()
        return joined

    def _feed(self, partition: int) -> Feed:
        if partition not in self._feeds:
            self._feeds[partition] = Feed(self._log, partition, self._positions)
        return self._feeds[partition]

    def _beat_later(self) -> None:
        self._next_beat = asyncio.get_running_loop().call_later(HEARTBEAT_S, self._beat)

    def _beat(self) -> None:
        """Wake readers that nothing came for: one timer for all of them."""
        readers = {reader for feed in self._feeds.values() for reader in feed.readers()}
        for reader in readers:
            reader.beat()
        self._next_beat = None
        if readers:
            self._beat_later()

    def position(self, partition: int) -> EntryId | None:
        """Return what readers of the partition have been given up to; None where nobody listens."""
        return self._feeds[partition].position if partition in self._feeds else None

    def leave(self, reader: Reader, partitions: Iterable[int]) -> None:
        """Forget the reader; what nobody listens to any more is not followed."""
        for partition in partitions:
            feed = self._feeds.get(partition)
            task = None if feed is None else feed.leave(reader)
            if task is not None and task is not asyncio.current_task():
                ending = asyncio.create_task(end_calls(task))
                self._ending.add(ending)
                ending.add_done_callback(self._ending.discard)

    def stop(self) -> None:
        """End all streams: no reader hears anything more."""
        self.is_closed = True
        if self._next_beat is not None:
            self._next_beat.cancel()
        for feed in self._feeds.values():
            feed.give_up("stopped")

    async def close(self) -> None:
        """Follow nothing any more."""
        self.stop()
        tasks = [task for feed in self._feeds.values() if (task := feed.abandon()) is not None]
        await end_calls(*tasks)
        await asyncio.gather(*self._ending)
