"""Bulk appending, idempotent by the producer's own positions instead of event ids.

One check per batch, nothing stored per event, and no window: a source that was imported once adds
nothing years later. The idea is Kafka's idempotent producer; positions may be sparse here, so a
line number serves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from operator import lt
from typing import NamedTuple

from eventlog.batch import Appended, Batch, Conflict, Gap, LockLost, ProducerStamp
from eventlog.codec import Codec
from eventlog.errors import InvalidEvent, ProducerGap
from eventlog.event import Event
from eventlog.ids import new_event_id
from eventlog.partition import Partitions
from eventlog.settings import Durability
from eventlog.shares import cut, deal_events, entities_of
from eventlog.store import Store

MAX_POSITION = 2**53
"""The server's Lua counts in doubles."""


class _Chunk(NamedTuple):
    partition: int
    batch: Batch


class Producer:
    """A named source of events, each with a position that only grows.

    `positions` holds, by partition, the last position that was handed to the log. After an error
    the producer is spent: ask the log for a new one and send again from its positions.
    """

    def __init__(
        self,
        store: Store,
        codec: Codec,
        partitions: Partitions,
        name: str,
        positions: dict[int, int],
        durability: Durability,
    ) -> None:
        self.name = name
        self.positions = positions
        self._store = store
        self._codec = codec
        self._partitions = partitions
        self._durability = durability
        self._locks = [asyncio.Lock() for _ in range(partitions.count)]
        self._run = new_event_id()
        self._batches = 0

    async def append(self, items: Sequence[tuple[int, Event]]) -> int:
        """Return how many of the events were new to the log.

        Items are (position, event), positions growing from call to call; those the log has already
        are skipped. Calls may overlap, their order holds. Raises ProducerGap when a batch that came
        before is missing, InvalidEvent (then nothing of this call was written), LogUnavailable.
        Positions are integers from 1 to 2^53.
        """
        chunks = self._chunks(items)
        tasks = [asyncio.create_task(self._send(chunk)) for chunk in chunks]
        if not tasks:
            return 0
        try:
            return sum(await asyncio.gather(*tasks))
        finally:
            # One failed: the others end (as gaps or on their own) before the caller hears of it.
            await asyncio.wait(tasks)

    def _chunks(self, items: Sequence[tuple[int, Event]]) -> list[_Chunk]:
        """Return the new items encoded and cut into batches; all encode, or none is sent."""
        _check_positions([position for position, _ in items])
        fresh = self._fresh(items)
        positions = [position for position, _ in fresh]
        events = [event for _, event in fresh]
        texts = self._codec.encode_all(events)
        return [
            _Chunk(partition, self._batch(partition, piece, positions, events, texts))
            for partition, indexes in deal_events(events, self._partitions).items()
            for piece in cut(indexes, texts)
        ]

    def _fresh(self, items: Sequence[tuple[int, Event]]) -> Sequence[tuple[int, Event]]:
        """Return the items that the log does not have; the server decides again."""
        if not items or items[0][0] > max(self.positions.values(), default=0):
            return items
        last, partitions = self.positions, self._partitions
        return [item for item in items if item[0] > last.get(partitions[item[1].conversation], 0)]

    def _batch(
        self,
        partition: int,
        piece: list[int],
        positions: list[int],
        events: list[Event],
        texts: list[str],
    ) -> Batch:
        self._batches += 1
        token = f"{self._run}/{self._batches}"
        # `previous` is what the log must have when this batch arrives: a lost one is noticed.
        previous = self.positions.get(partition, 0)
        stamp = ProducerStamp(self.name, token, previous, [positions[i] for i in piece])
        self.positions[partition] = stamp.positions[-1]
        return Batch([texts[i] for i in piece], None, entities_of(piece, events), producer=stamp)

    async def _send(self, chunk: _Chunk) -> int:
        async with self._locks[chunk.partition]:
            outcome = await self._store.append(chunk.partition, chunk.batch, self._durability)
        match outcome:
            case Appended(added=added):
                return added
            case Gap(last_position):
                assert chunk.batch.producer
                raise ProducerGap(self.name, chunk.batch.producer.previous, last_position)
            case Conflict() | LockLost():
                raise AssertionError("a batch without conditions cannot be refused")


def _check_positions(positions: list[int]) -> None:
    if not positions or (
        positions[0] > 0
        and positions[-1] <= MAX_POSITION
        and all(map(lt, positions, positions[1:]))
    ):
        return
    raise InvalidEvent(
        f"a producer's positions start at 1 and grow: {positions[0]} … {positions[-1]} do not.",
        remedy="Number what you send from 1, in order; gaps are fine.",
    )
