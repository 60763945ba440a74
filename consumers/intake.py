"""Delivery into a partition's order, as fast as there is room for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from consumers.group_partition import GroupPartition
from consumers.ordering import Order
from consumers.settlement import Settlement
from consumers.work import Work
from eventlog.entry import RawEntry
from eventlog.ids import EntryId
from eventlog.logs import get_logger
from eventlog.tasks import end, end_calls

WINDOW_ENTRIES = 1500
"""Entries of a partition that a process has in hand: what bounds its memory."""

FETCH_ENTRIES = 500
"""Entries delivered in one step."""

FETCH_BYTES = 8 * 1024 * 1024
"""About what is delivered in one step, where entries are large."""

MAX_WAITING_ENTRIES = 100_000
"""Entries of a partition that may wait in lines before nothing more is delivered: each takes the
server about 150 bytes beside itself."""

SPILL_AFTER_S = 0.1
"""When nothing was settled for so long while room is wanted, conversations give up to their lines
what they have beyond a number, which is halved each time: so a few with much to do, and slow at it, do
not keep the others from being fetched."""

SPILL_BEYOND_ENTRIES = 64

_log = get_logger("worker")


class Intake:
    """Fetches entries, and notes those that are not handled here or belong to lines."""

    def __init__(
        self, work: Work, place: GroupPartition, order: Order, on_arrival: Callable[[], None]
    ) -> None:
        self._work = work
        self._place = place
        self._order = order
        self._on_arrival = on_arrival
        self._partition = place.lease.partition
        self._room = asyncio.Event()
        self._passed: list[EntryId] = []
        self._deferred: list[tuple[str, EntryId]] = []
        self._mean_bytes = 1024.0
        self._is_paused = False

    async def run(self) -> None:
        """Fetch until cancelled. Raises Fenced, HistoryGap."""
        while True:
            await self._until_room()
            limit = max(1, min(FETCH_ENTRIES, int(FETCH_BYTES / self._mean_bytes)))
            entries = await self._work.insist(self._partition, partial(self._place.fetch, limit))
            if entries:
                self._arrive(entries)
            else:
                await self._news()

    def settle_into(self, settlement: Settlement) -> None:
        """Have what nobody handles acknowledged, and what belongs to lines put there."""
        for entry_id in self._passed:
            settlement.pass_over(entry_id)
            self._place.hand.pop(entry_id, None)
        self._passed.clear()
        for conversation, entry_id in self._deferred:
            settlement.line_up(conversation, back=[entry_id])
            self._place.hand.pop(entry_id, None)
        self._deferred.clear()

    def made_room(self) -> None:
        """Something was settled."""
        self._room.set()

    def _arrive(self, entries: list[RawEntry]) -> None:
        size = sum(len(entry.raw) for entry in entries) / len(entries)
        self._mean_bytes += (size - self._mean_bytes) / 4
        for raw in entries:
            item = self._work.item(self._partition, raw)
            if item.handler is None:
                self._passed.append(item.id)
            elif not self._order.arrive(item):
                self._deferred.append((item.conversation, item.id))
        self._on_arrival()

    # --- room ----------------------------------------------------------------------------------

    async def _until_room(self) -> None:
        kept_count = SPILL_BEYOND_ENTRIES
        while (
            len(self._place.hand) > WINDOW_ENTRIES - FETCH_ENTRIES or self._has_too_many_waiting()
        ):
            self._room.clear()
            if not await self._room_within(SPILL_AFTER_S):
                for conversation, entries in self._order.spill(kept_count).items():
                    self._deferred += [(conversation, entry_id) for entry_id in entries]
                kept_count = max(1, kept_count // 2)
                self._on_arrival()

    async def _room_within(self, duration_s: float) -> bool:
        """Return whether anything was settled within that time."""
        pause = asyncio.create_task(self._work.log.clock.sleep(duration_s))
        settled = asyncio.create_task(self._room.wait())
        try:
            await asyncio.wait({pause, settled}, return_when=asyncio.FIRST_COMPLETED)
            return settled.done()
        finally:
            await end(pause, settled)

    def _has_too_many_waiting(self) -> bool:
        is_paused = self._order.waiting_count >= MAX_WAITING_ENTRIES
        if is_paused and not self._is_paused:
            _log.warning(
                "fetching_paused",
                group=self._work.group,
                partition=self._partition,
                waiting=self._order.waiting_count,
                blocked=len(self._order.lines),
            )
        self._is_paused = is_paused
        return is_paused

    # --- news ----------------------------------------------------------------------------------

    async def _news(self) -> None:
        """Return when something was appended, or after a second."""
        waiting = asyncio.create_task(self._work.insist(self._partition, self._place.news))
        try:
            await asyncio.wait({waiting})  # ends at once when cancelled, whatever the call does
            waiting.result()
        finally:
            await end_calls(waiting)
