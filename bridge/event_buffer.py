"""Bridge events without waiting: a bounded buffer that any thread fills and one task empties."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from bridge.event_drops import TELL_EVERY_S, EventDrops
from bridge.plain_data import plain_data
from eventlog.errors import EventLogError, InvalidEvent
from eventlog.event import Event
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.shares import MAX_BATCH_EVENTS
from eventlog.tasks import end
from eventlog.vocabulary import BridgeEvent
from projections.views.sessions import Session

CHATLESS = "bridge"
"""The conversation of events that belong to no chat and no project."""

FLUSH_TIMEOUT_S = 5.0
"""What waits when the buffer is closed has so long to be appended."""

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 2.0
"""Between two attempts to append while the server is away."""

MAX_BATCH_BYTES = 1024 * 1024

_log = get_logger("bridge")


class EventBuffer:
    """Takes bridge events at once and appends them in the background, in the order they came.

    It holds up to `event_buffer_count` events and `event_buffer_bytes` (settings), those on their way
    included. While the server is away they wait. What cannot be recorded is dropped: counted in
    `dropped_count`, and told by the warning `bridge_events_dropped` with its reason.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._drops = EventDrops(log.clock)
        # Re-entrant, as a finalizer or a signal handler may put one in the middle of another.
        self._lock = threading.RLock()
        self._waiting: deque[bytes] = deque()
        self._batch: list[bytes] = []
        """What is being appended."""
        self._held_bytes = 0
        self._refusal: str | None = "not_open"
        """Why nothing is taken; None while it is."""
        self._process_id = os.getpid()
        self._is_woken = False
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def dropped_count(self) -> int:
        """Events that were not recorded since the buffer was made."""
        return self._drops.count

    @property
    def held_count(self) -> int:
        """Events that wait or are on their way."""
        return len(self._waiting) + len(self._batch)

    def start(self) -> None:
        """Take events from now on, to be appended in this event loop; one that does so goes on."""
        is_inherited = self._process_id != os.getpid()
        if self._task is not None and not is_inherited:
            if not self._task.done() and not self._task.get_loop().is_closed():
                return
            self._give_up("loop_ended")
        # A forked process leaves what it inherited to its parent, which appends it.
        self._lock, self._process_id = threading.RLock(), os.getpid()
        self._waiting, self._batch, self._held_bytes = deque(), [], 0
        self._loop, self._wake, self._is_woken = asyncio.get_running_loop(), asyncio.Event(), False
        self._task = asyncio.create_task(self._run(), name="event buffer")
        self._refusal = None

    async def close(self, timeout_s: float = FLUSH_TIMEOUT_S) -> None:
        """Take no more and return when all is appended or time is up; idempotent.

        From another event loop than the one it was started in it works while that one runs.
        """
        task, self._task = self._task, None
        if task is None or self._process_id != os.getpid():
            return
        with self._lock:
            self._refusal = "closed"
        loop = task.get_loop()
        if loop is asyncio.get_running_loop():
            await self._flush(task, timeout_s)
        elif loop.is_running():
            flushing = asyncio.run_coroutine_threadsafe(self._flush(task, timeout_s), loop)
            await asyncio.wrap_future(flushing)
        else:
            self._give_up("loop_ended")

    async def _flush(self, task: asyncio.Task[None], timeout_s: float) -> None:
        try:
            await end(task)
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._drain()
        finally:
            self._give_up("closed_before_appended")

    def put(
        self,
        event_type: str,
        data: Mapping[str, Any] | None = None,
        *,
        conversation: str | None = None,
        project: str | None = None,
        session: Session | str | None = None,
        occurred_at: int | None = None,
        causation_id: str | None = None,
        correlation_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        """Return at once; the event is recorded soon. From sync and async code and any thread.

        `data` is what JSON can hold: dataclasses, times, sets, tuples and UUIDs become what JSON has
        for them; bytes and NaN are refused. Without `conversation` it is that of the `session`, else
        `project:` and the project, else `bridge`. `occurred_at` is µs UTC, by default now. With an
        `idempotency_key` of yours an event put again is recorded once.

        Never raises: an event that cannot be recorded, because of its data, a full buffer or a
        bridge that is not open, is dropped, counted and told by the warning `bridge_events_dropped`.
        """
        try:
            named: dict[str, Any] = {} if idempotency_key is None else {"id": idempotency_key}
            if isinstance(session, Session):
                conversation = conversation or session.conversation
                project, session = project or session.project, session.id
            event = BridgeEvent(
                **named,
                conversation=conversation or (f"project:{project}" if project else CHATLESS),
                session=session,
                occurred_at=self._log.clock.now_us() if occurred_at is None else occurred_at,
                causation_id=causation_id,
                correlation_id=correlation_id,
                event_type=event_type,
                project=project,
                data=plain_data(data),
            )
            refusal = self._take(self._log.codec.encode(event))
        except Exception as error:  # noqa: BLE001 - what the caller gave must not stop the caller
            code = error.code if isinstance(error, EventLogError) else InvalidEvent.code
            self._drops.add(code, event_type=event_type, error=error)
        else:
            if refusal is not None:
                self._drops.add(refusal, event_type=event_type)

    # --- taking --------------------------------------------------------------------------------

    def _take(self, raw: bytes) -> str | None:
        """Keep an encoded event and return None, or return why not."""
        if self._process_id != os.getpid():
            return "forked"  # without the lock, which a thread of the parent may hold for ever
        settings = self._log.settings
        with self._lock:
            if self._refusal is not None:
                return self._refusal
            if (
                self.held_count >= settings.event_buffer_count
                or self._held_bytes + len(raw) > settings.event_buffer_bytes
            ):
                return "full"
            self._waiting.append(raw)
            self._held_bytes += len(raw)
            is_woken, self._is_woken = self._is_woken, True
        if not is_woken:
            assert self._loop is not None
            try:
                self._loop.call_soon_threadsafe(self._wake.set)
            except RuntimeError:  # the loop was closed before the buffer
                self._give_up("loop_ended")
        return None

    def _give_up(self, reason: str) -> None:
        """Drop what is held, take no more, and tell of all that was dropped."""
        with self._lock:
            self._refusal = "closed"
            count = self.held_count
            self._waiting.clear()
            self._batch, self._held_bytes = [], 0
        if count:
            self._drops.add(reason, count)
        self._drops.tell(at_once=True)

    # --- appending -----------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(TELL_EVERY_S):
                        await self._wake.wait()
                self._wake.clear()
                self._drops.tell()
                await self._drain()
        except asyncio.CancelledError:
            if self._refusal is None:  # the loop is shut down, and `close` was not called
                self._give_up("loop_ended")
            raise

    async def _drain(self) -> None:
        """Append what waits, batch by batch, and return when nothing does."""
        while batch := self._next_batch():
            await self._append([self._log.codec.decode(raw) for raw in batch])
            with self._lock:
                self._held_bytes -= sum(map(len, self._batch))
                self._batch = []

    def _next_batch(self) -> list[bytes]:
        """Return what is to be appended next; what was not appended before comes again."""
        with self._lock:
            size_bytes = sum(map(len, self._batch))
            while (
                self._waiting
                and len(self._batch) < MAX_BATCH_EVENTS
                and (not self._batch or size_bytes + len(self._waiting[0]) <= MAX_BATCH_BYTES)
            ):
                raw = self._waiting.popleft()
                size_bytes += len(raw)
                self._batch.append(raw)
            self._is_woken = bool(self._batch)
            return self._batch

    async def _append(self, events: Sequence[Event]) -> None:
        """Append the events, each with its id, as often as it takes."""
        delay_s = FIRST_DELAY_S
        while True:
            try:
                await self._log.append(events)
            except InvalidEvent as error:
                if len(events) > 1:
                    for event in events:
                        await self._append([event])
                else:
                    self._drops.add(error.code, error=error)
                return
            except Exception as error:  # noqa: BLE001 - the server is away, as a rule; the task goes on
                if delay_s == FIRST_DELAY_S:
                    _log.warning("bridge_events_wait", count=self.held_count, error=str(error))
            else:
                return
            self._drops.tell()
            await self._log.clock.sleep(delay_s)
            delay_s = min(2 * delay_s, LONGEST_DELAY_S)
