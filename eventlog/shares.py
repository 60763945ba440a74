"""One call's events, dealt to their partitions and cut to the size of a script call. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from eventlog.batch import Batch
from eventlog.entity import Advance, ExpectedState
from eventlog.event import Event
from eventlog.partition import Partitions

MAX_BATCH_EVENTS = 500
"""Events per script call: beyond it the server's other clients wait longer for no more speed."""
MAX_BATCH_CHARACTERS = 4 * 1024 * 1024
"""Text per script call, for the same reason."""


def deal_events(events: Sequence[Event], partitions: Partitions) -> dict[int, list[int]]:
    """Return the indexes of the events by partition, each in order."""
    dealt: defaultdict[int, list[int]] = defaultdict(list)
    for index, event in enumerate(events):
        dealt[partitions[event.conversation]].append(index)
    return dealt


def cut(indexes: list[int], texts: Sequence[str]) -> Iterator[list[int]]:
    """Yield the indexes in pieces whose texts fit into one script call; one alone always does."""
    for start in range(0, len(indexes), MAX_BATCH_EVENTS):
        piece = indexes[start : start + MAX_BATCH_EVENTS]
        if sum(len(texts[index]) for index in piece) <= MAX_BATCH_CHARACTERS:
            yield piece
        else:
            yield from _cut_by_characters(piece, texts)


def _cut_by_characters(indexes: list[int], texts: Sequence[str]) -> Iterator[list[int]]:
    piece: list[int] = []
    characters = 0
    for index in indexes:
        if piece and characters + len(texts[index]) > MAX_BATCH_CHARACTERS:
            yield piece
            piece, characters = [], 0
        piece.append(index)
        characters += len(texts[index])
    yield piece


def batch_of(
    events: Sequence[Event], texts: list[str], expected: Sequence[tuple[str, ExpectedState]]
) -> Batch:
    """Return events of one partition, no id twice, as one step."""
    ids = [event.id for event in events]
    return Batch(texts, ids, entities_of(list(range(len(events))), events), expected)


def entities_of(indexes: list[int], events: Sequence[Event]) -> list[Advance]:
    """Return what advances, by place in the piece, for the events that advance a version."""
    return [
        Advance(place, entity, events[index].entity_mark)
        for place, index in enumerate(indexes)
        if events[index].VERSIONED and (entity := events[index].entity)
    ]
