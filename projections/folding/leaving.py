"""Leaving: what has ended or gone idle leaves the read models in Redis, once it is archived.

The owner of a partition looks through its builds now and then, a page at a time between batches. What
leaves is written down beside the archive first (`storing/departed_file.py`), then taken out of Redis in
one step that holds if lease and checkpoint are what they were when it was read: so nothing can have
changed meanwhile, and whoever is killed in between leaves behind what still counts as being there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from eventlog.entry import RawEntry
from eventlog.errors import ConfigurationError, HistoryGap
from eventlog.ids import START, EntryId
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.past import Past
from projections.folding.fold import DocumentSlot, FeedSlot
from projections.folding.pipeline import Pipeline
from projections.folding.target import Target
from projections.projection import DocumentProjection
from projections.storing.batch import Leave, Step
from projections.storing.departed_file import Leaving as Row
from projections.storing.departures import TOMBSTONE, Ended
from projections.storing.redis_models import RedisModels
from projections.storing.store import ModelStore

PAGE_COUNT = 500
"""Documents or feeds looked at in one step, which takes a few milliseconds."""

LONGEST_PAUSE_S = 3600.0
PAUSES_PER_HOT_TIME = 100
"""Whatever may go, goes within a hundredth of the time that it stays at least, or within an hour."""

MOST_TOUCHED = 200_000
"""Documents per build of which it is known where they changed last; beyond them it is assumed just now."""

Slot = DocumentSlot[Any] | FeedSlot

_log = get_logger("projector")


def leaving_of(
    log: EventLog, store: ModelStore, past: Past | None, pipeline: Pipeline
) -> Leaving | None:
    """Return what lets a pipeline's builds go of what is idle; None where nothing can leave."""
    if past is None or not log.settings.leaves_after_s or not isinstance(store, RedisModels):
        return None
    return Leaving(log, store, past, pipeline)


class Leaving:
    """Passes over the builds of one pipeline, step by step. Nothing else may use that meanwhile."""

    def __init__(self, log: EventLog, store: RedisModels, past: Past, pipeline: Pipeline) -> None:
        self._log = log
        self._store = store
        self._past = past
        self._pipeline = pipeline
        self._begun_at = pipeline.position
        self._archived = START
        self._left_over: list[tuple[Target, Slot]] = []
        """Builds that this pass has still to look at."""
        self._cursor = 0
        self._due_s = float("-inf")
        pipeline.notes_touched = True

    @property
    def is_busy(self) -> bool:
        """Whether there is a step to be taken now."""
        return bool(self._left_over) or self._log.clock.monotonic_s() >= self._due_s

    async def step(self) -> None:
        """Look at one page of one build, where it is time, and let go of what may leave.

        A file, an archive or a document that cannot be used is told of, and tried again later. Raises
        LogUnavailable and what a commit raises.
        """
        if not self.is_busy:
            return
        try:
            if not self._left_over:
                await self._begin()
            else:
                await self._look()
        except (HistoryGap, ConfigurationError) as error:
            _log.warning("leaving_failed", partition=self._pipeline.partition, error=str(error))
            self._end()

    async def whole_pass(self) -> None:
        """Look at everything once, now."""
        self._end()
        self._due_s = float("-inf")
        await self.step()
        while self._left_over:
            await self.step()

    async def _begin(self) -> None:
        position = await self._past.position(self._pipeline.partition)
        if position != START:
            await self._pipeline.know_departures()
            self._archived = position
            self._left_over = list(self._pipeline.built)
            for _, slot in self._left_over:
                self._forget_touched(slot)
        if not self._left_over:
            self._end()

    def _end(self) -> None:
        self._left_over, self._cursor = [], 0
        pause_s = min(LONGEST_PAUSE_S, self._log.settings.leaves_after_s / PAUSES_PER_HOT_TIME)
        self._due_s = self._log.clock.monotonic_s() + pause_s

    async def _look(self) -> None:
        target, slot = self._left_over[0]
        await self._pipeline.flush()
        partition, model = self._pipeline.partition, target.build.model
        # Read before the documents are: whoever lets them go meanwhile moves it on. A file that has
        # fewer than Redis knows of was lost, and must not be begun anew.
        number = await self._store.departure_number(partition, model, slot.departures)
        step = Step(target.build, target.role, self._pipeline.position)
        leave = Leave(partition, self._pipeline.lease, step, number + 1)
        if isinstance(slot, DocumentSlot):
            found = await self._store.some_documents(partition, model, self._cursor, PAGE_COUNT)
            documents = await self._that_stay_alone(slot, self._idle_documents(slot, found[1]))
            leave = leave._replace(documents=documents, facets=slot.projection.facets)
        else:
            feeds = await self._store.some_feeds(partition, model, self._cursor, PAGE_COUNT)
            found = feeds[0], {}
            leave = leave._replace(feeds=self._idle_feeds(feeds[1]))
        if leave.documents or leave.feeds:
            if not await self._store.leave(leave):
                self._end()
                return
            slot.leave([row.key for row in (*leave.documents, *leave.feeds)], leave.number)
        self._cursor = found[0]
        if self._cursor == 0:
            del self._left_over[0]
            if not self._left_over:
                self._end()

    @property
    def _idle_before_us(self) -> int:
        return self._log.clock.now_us() - self._log.settings.leaves_after_s * 1_000_000

    def _idle_documents(
        self, slot: DocumentSlot[Any], stored: dict[str, bytes]
    ) -> list[tuple[Row, Any]]:
        """Return those that may go by themselves, each with its state."""
        found: list[tuple[Row, Any]] = []
        before_us = self._idle_before_us
        for key, raw in stored.items():
            if raw == TOMBSTONE:
                found.append((Row(key, None), None))
                continue
            if slot.touched.get(key, self._begun_at.n) > self._archived.n:
                continue
            state = slot.decode(raw)
            since_us = _idle_since(slot.projection, state)
            if since_us is not None and since_us <= before_us:
                indexed = tuple(slot.projection.index(key, state))
                if all(math.isfinite(score) for _, score in indexed):
                    found.append((Row(key, raw, indexed), state))
        return found

    async def _that_stay_alone(
        self, slot: DocumentSlot[Any], idle: Sequence[tuple[Row, Any]]
    ) -> list[Row]:
        """Return those that no other document keeps here."""
        keepers = {
            row.key: keeper
            for row, state in idle
            if state is not None and (keeper := slot.projection.stays_with(state)) is not None
        }
        models = {target.projection.name: target.build.model for target, _ in self._pipeline.built}
        kept: set[str] = set()
        for name in {keeper[0] for keeper in keepers.values()} & models.keys():
            pairs = [(key, keeper[1]) for key, keeper in keepers.items() if keeper[0] == name]
            are_there = await self._store.are_there(
                self._pipeline.partition, models[name], [each for _, each in pairs]
            )
            kept |= {key for (key, _), is_there in zip(pairs, are_there, strict=True) if is_there}
        return [row for row, _ in idle if row.key not in kept]

    def _idle_feeds(self, stored: dict[str, tuple[int, bytes]]) -> list[Row]:
        found = []
        before_us = self._idle_before_us
        for name, (total, item) in stored.items():
            last, _, raw = item.partition(b" ")
            entry = RawEntry(EntryId.parse(last), raw)
            if entry.id.n <= self._archived.n and self._occurred_at(entry) <= before_us:
                body = msgspec.json.encode(Ended(total, str(entry.id)))
                found.append(Row(name, body, is_feed=True))
        return found

    def _occurred_at(self, entry: RawEntry) -> int:
        try:
            return self._log.codec.decode(entry.raw).occurred_at
        except Exception:  # noqa: BLE001 - an upcaster is anybody's code
            return entry.id.ms * 1000

    def _forget_touched(self, slot: Slot) -> None:
        if isinstance(slot, FeedSlot):
            return
        n = self._archived.n
        slot.touched = {key: last for key, last in slot.touched.items() if last > n}
        if len(slot.touched) > MOST_TOUCHED:
            slot.touched.clear()
            self._begun_at = self._pipeline.position


def _idle_since(projection: DocumentProjection[Any], state: Any) -> int | None:
    try:
        return projection.idle_since(state)
    except Exception:  # noqa: BLE001 - a projection is anybody's code: what it fails on stays
        return None
