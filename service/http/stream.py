"""One stream of server-sent events: the present state, then each entry once, in order.

A reader that comes back with the id of the last event it had goes on right after it. It catches up by
reading the log itself, at its own pace, and then hears what the hub hears. Where that is not possible
any more, because entries were trimmed or the log is another, it is sent a `resync` with fresh state.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from eventlog.entry import Entry
from eventlog.errors import EventLogError, HistoryGap
from eventlog.event import Event
from eventlog.ids import START, EntryId
from eventlog.log import EventLog
from service.http.endpoint import Shared
from service.http.hub import AGAIN_S, Heard, Reader, Wants, frame
from service.http.place import Place
from service.http.problem import problem_of
from service.http.refusal import Refusal

T = TypeVar("T")

RETRY_MS = 2000
"""When a browser that lost the stream comes back."""
PAGE_ENTRIES = 500
FRAMES_AT_ONCE = 500


class Subject(NamedTuple):
    """What a stream is about."""

    wants: Wants
    partitions: Sequence[int]
    state: Callable[[Place], Awaitable[Any]]
    """Returns what is told at the beginning, as of now: at that place or after it."""
    is_over: Callable[[], Awaitable[bool]]
    """Returns whether nothing more can follow what is in the log by now."""
    ends_with: Callable[[Event], bool]
    """Returns whether an event is the last one."""


class Stream:
    """Gives the chunks of one response."""

    def __init__(
        self, shared: Shared, subject: Subject, log_mark: str, place: Place | None
    ) -> None:
        self._shared = shared
        self._hub = shared.hub
        self._log: EventLog = shared.service.log
        self._subject = subject
        self._mark = log_mark
        self._partitions = tuple(subject.partitions)
        self._place = place
        self._was_level = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield bytes until the stream ends: the subject is over, the reader slow, the service stops."""
        yield b"retry: %d\n\n" % RETRY_MS
        try:
            async for chunk in self._until_over():
                yield chunk
        except EventLogError as error:
            yield b"event: problem\ndata: %s\n\n" % msgspec.json.encode(problem_of(error))

    async def _until_over(self) -> AsyncIterator[bytes]:
        while True:
            self._was_level = False
            reader = Reader(self._subject.wants)
            try:
                async for chunk in self._heard(reader):
                    yield chunk
            except HistoryGap as gap:
                yield await self._resync("trimmed", gap)
                continue
            finally:
                self._hub.leave(reader, self._partitions)
            if reader.fate != "lost":
                return
            # Its place is kept: what it missed is read, and where that is gone it is told so.
            await self._log.clock.sleep(AGAIN_S)

    async def _heard(self, reader: Reader) -> AsyncIterator[bytes]:
        if self._place is not None and (reason := await self._why_elsewhere(self._place)):
            yield await self._resync(reason)
        if self._place is not None:  # first what is long, of which nobody need queue what follows
            async for chunk in self._caught_up(self._place, await self._heads()):
                yield chunk
        joined = await self._hub.join(reader, self._partitions)
        if self._place is None:
            self._place = Place(self._mark, joined)
            state = await self._in_turn(self._subject.state(self._place))
            yield self._frame("state", state, self._place)
        place = self._place
        async for chunk in self._caught_up(place, joined):
            yield chunk
        if not place.has_ended and await self._in_turn(self._subject.is_over()):
            # In this order: the entry that ended it is in the log by now, before these heads.
            async for chunk in self._caught_up(place, await self._heads()):
                yield chunk
            if not place.has_ended:
                yield self._end(place)
        if not place.has_ended:
            async for chunk in self._live(reader, place):
                yield chunk

    async def _live(self, reader: Reader, place: Place) -> AsyncIterator[bytes]:
        """Yield what the hub hears, and heartbeats, until the reader is given up or the end has come."""
        while True:
            await reader.woken.wait()
            if reader.fate == "slow":
                self._shared.counting.dropped_stream_count += 1
                yield b"event: slow\ndata: {}\n\n"
            if reader.fate:
                return
            taken = reader.take()
            if reader.is_due and not taken:
                yield self._heartbeat(place)
            reader.is_due = False
            for start in range(0, len(taken), FRAMES_AT_ONCE):
                chunk = self._live_entries(taken[start : start + FRAMES_AT_ONCE], place)
                if chunk:
                    yield chunk
                if place.has_ended:
                    return

    async def _caught_up(self, place: Place, until: dict[int, EntryId]) -> AsyncIterator[bytes]:
        """Yield what is in the log after the place and up to there. Raises HistoryGap."""
        for partition, end in until.items():
            while place.positions[partition].n < end.n and not place.has_ended:
                reading = self._log.read(
                    partition=partition,
                    after=place.positions[partition],
                    before=EntryId(end.ms, end.n + 1),
                    limit=PAGE_ENTRIES,
                )
                page = await self._in_turn(reading)
                wanted = [each for each in page if self._subject.wants.takes(each.event)]
                chunk = self._entries(wanted, place)
                if not place.has_ended:
                    place.positions[partition] = page[-1].id if page else end
                if chunk:
                    yield chunk

    def _live_entries(self, taken: Sequence[Heard], place: Place) -> bytes:
        """Return the frames of what was heard, but for what the reader had before it joined."""
        if not self._is_level(taken[0], place):
            return self._entries([heard.entry for heard in taken], place)
        parts: list[bytes] = []
        partitions = self._partitions
        for heard in taken:
            place.positions[heard.entry.partition] = heard.entry.id
            parts.append(heard.framed(self._log, self._mark, partitions))
            if self._subject.ends_with(heard.entry.event):
                parts.append(self._end(place))
                break
        return b"".join(parts)

    def _is_level(self, heard: Heard, place: Place) -> bool:
        """Return whether the reader has nothing that comes after this in any partition.

        It may have, where it came with an id that the hub had not reached. Once it is level it stays
        so, and what is sent to it is the same as to the others.
        """
        if not self._was_level:
            entry = heard.entry
            self._was_level = place.positions[entry.partition].n < entry.id.n and all(
                place.positions[each] <= heard.positions.get(each, START)
                for each in self._partitions
            )
        return self._was_level

    def _entries(self, entries: Sequence[Entry], place: Place) -> bytes:
        """Return the frames of entries that the reader has not had, its place moved behind them."""
        parts: list[bytes] = []
        for entry in entries:
            if entry.id.n <= place.positions[entry.partition].n:
                continue
            place.positions[entry.partition] = entry.id
            parts.append(frame(self._log, entry, place))
            if self._subject.ends_with(entry.event):
                parts.append(self._end(place))
                break
        return b"".join(parts)

    def _end(self, place: Place) -> bytes:
        place.has_ended = True
        return self._frame("end", {}, place)

    def _heartbeat(self, place: Place) -> bytes:
        """Return a comment, with an id where the reader's place moved without an event for it."""
        before = str(place)
        for partition in self._partitions:
            position = self._hub.position(partition)
            if position is not None and position.n > place.positions[partition].n:
                place.positions[partition] = position
        after = str(place)
        return b": heartbeat\n\n" if after == before else f"id: {after}\n: heartbeat\n\n".encode()

    async def _why_elsewhere(self, place: Place) -> str | None:
        """Return why the place is none in this log, None where it is one."""
        if place.log_mark != self._mark:
            return "other_log"
        heads = await self._heads()
        if any(place.positions[p].n > heads[p].n for p in self._partitions):
            return "other_log"
        return None

    async def _heads(self) -> dict[int, EntryId]:
        heads = await self._in_turn(self._log.heads())
        return {partition: heads[partition] for partition in self._partitions}

    async def _in_turn(self, asking: Awaitable[T]) -> T:
        """Return what the log answers, asked when it is this reader's turn."""
        async with self._shared.stream_turns:
            return await asking

    async def _resync(self, reason: str, gap: HistoryGap | None = None) -> bytes:
        """Return what sends a reader on from the present."""
        place = self._place = Place(self._mark, await self._heads())
        told = {"reason": reason, "state": await self._in_turn(self._subject.state(place))}
        if gap is not None:
            told["detail"] = gap.message
        return self._frame("resync", told, place)

    @staticmethod
    def _frame(event: str, data: Any, place: Place) -> bytes:
        return b"id: %s\nevent: %s\ndata: %s\n\n" % (
            str(place).encode(),
            event.encode(),
            msgspec.json.encode(data, enc_hook=str),
        )


class EventStream(StreamingResponse):
    """A response that holds one of the places for streams while it lasts."""

    def __init__(self, shared: Shared, stream: Stream) -> None:
        super().__init__(
            stream.chunks(),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._shared = shared

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what there is until it ends or the client goes."""
        counting = self._shared.counting
        async with self._shared.stream_slots:
            counting.stream_count += 1
            try:
                await super().__call__(scope, receive, send)
            finally:
                counting.stream_count -= 1
                await self.body_iterator.aclose()  # type: ignore[attr-defined] # ours is a generator


def place_of_request(
    header: str | None, asked: str | None, partitions: Sequence[int]
) -> Place | None:
    """Return where a reader goes on, None where it begins. Raises InvalidCursor, Refusal."""
    text = header or asked
    if not text:
        return None
    place = Place.parse(text)
    if set(place.positions) != set(partitions):
        raise Refusal(
            "bad_request",
            "the last event id is of another stream.",
            remedy="Use it with the path and the parameters that gave it.",
        )
    return place
