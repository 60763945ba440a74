"""One call's events on their way: encoded, dealt to their partitions, and their results put together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from eventlog.batch import Batch, Fence
from eventlog.codec import Codec
from eventlog.entity import ExpectedState
from eventlog.errors import InvalidEvent
from eventlog.event import Event
from eventlog.partition import Partitions
from eventlog.settings import Durability
from eventlog.shares import cut, deal_events, entities_of
from eventlog.writer import AppendResult, Lanes

ExpectedVersion = ExpectedState | Mapping[str, ExpectedState] | None
"""The version of the one entity that events advance, or versions by entity; FREE: nobody's."""


class Appender:
    """What `EventLog.append` does, whose docstring says what it promises."""

    def __init__(self, writer: Lanes, codec: Codec, partitions: Partitions) -> None:
        self._codec = codec
        self._partitions = partitions
        self._writer = writer

    async def append_one(
        self,
        event: Event,
        expected_version: ExpectedVersion,
        durability: Durability,
        fence: Fence | None = None,
    ) -> AppendResult:
        """Return where the event stands: the short way, without lists to deal and collect."""
        partition = self._partitions[event.conversation]
        if fence is not None:
            _check_fence(fence, {partition})
        batch = Batch(
            [self._codec.encode(event).decode()],
            [event.id],
            entities_of([0], [event]) if event.VERSIONED else [],
            _expectations([event], expected_version),
            fence=fence,
        )
        return (await self._writer.append(partition, batch, durability))[0]

    async def append_all(
        self,
        events: list[Event],
        expected_version: ExpectedVersion,
        durability: Durability,
        fence: Fence | None = None,
    ) -> list[AppendResult]:
        """Return where each event stands."""
        if fence is not None:
            _check_fence(fence, {self._partitions[event.conversation] for event in events})
        expected = _expectations(events, expected_version)
        texts = self._codec.encode_all(events)
        results: list[Any] = [None] * len(events)
        sends = []
        dealt = deal_events(events, self._partitions)
        for partition, indexes in dealt.items():
            first_of, repeated = _without_repeats(indexes, events)
            batches = [
                (piece, _batch(piece, events, texts, expected, fence))
                for piece in cut(first_of, texts)
            ]
            if (expected or fence) and (len(batches) > 1 or len(dealt) > 1):
                raise InvalidEvent(
                    "events with an expected version or a fence must fit into one step.",
                    remedy="Give them one conversation, and keep them under 500 and 4 MiB.",
                )
            sends.append(_send(self._writer, partition, batches, durability, repeated, results))
        for outcome in await asyncio.gather(*sends, return_exceptions=True):
            if outcome is not None:
                raise outcome
        return results

    async def close(self) -> None:
        """Return when everything queued has been answered; nothing more is taken."""
        await self._writer.close()


def _without_repeats(indexes: list[int], events: list[Event]) -> tuple[list[int], dict[int, int]]:
    """Return the indexes of distinct events, and each repeated one's index → the first's."""
    first_of: dict[str, int] = {}
    for index in indexes:
        first_of.setdefault(events[index].id, index)
    if len(first_of) == len(indexes):
        return indexes, {}
    repeated = {i: first_of[events[i].id] for i in indexes if first_of[events[i].id] != i}
    return list(first_of.values()), repeated


def _batch(
    piece: list[int],
    events: list[Event],
    texts: list[str],
    expected: list[tuple[str, ExpectedState]],
    fence: Fence | None,
) -> Batch:
    return Batch(
        [texts[i] for i in piece],
        [events[i].id for i in piece],
        entities_of(piece, events),
        expected,
        fence=fence,
    )


async def _send(
    writer: Lanes,
    partition: int,
    batches: list[tuple[list[int], Batch]],
    durability: Durability,
    repeated: dict[int, int],
    results: list[Any],
) -> None:
    """Write one partition's batches in order, up to the first that fails; fill in the results."""
    for piece, batch in batches:
        written = await writer.append(partition, batch, durability)
        for index, result in zip(piece, written, strict=True):
            results[index] = result
    for index, first in repeated.items():
        results[index] = results[first]._replace(duplicate=True)


def _check_fence(fence: Fence, partitions: set[int]) -> None:
    if not isinstance(fence, Fence):
        raise InvalidEvent(
            f"a fence that is a {type(fence).__name__}.", remedy="Give a lock's: fence=lock.fence."
        )
    if not partitions <= {fence.partition}:
        raise InvalidEvent(
            "the lock lies in another partition than the events.",
            remedy="Lock in the conversation that is written to.",
        )


def _expectations(
    events: list[Event], expected: ExpectedVersion
) -> list[tuple[str, ExpectedState]]:
    if expected is None:
        return []
    if not isinstance(expected, int | str):
        return list(expected.items())
    entities = {event.entity for event in events}
    entity = entities.pop() if len(entities) == 1 else None
    if entity is None:
        raise InvalidEvent(
            "expected_version needs events that all advance the same entity.",
            remedy="Say which versions are expected: {event.entity: version, ...}.",
        )
    return [(entity, expected)]
