"""Events for the queries: a busy bridge whose sessions are spoken to, in a log and as JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import msgspec

from bench.events import CHAT_COUNT, CHUNK_EVENTS, endless_bridge_events
from eventlog import Event, EventLog, MessageReceived, MessageSent

SEED = 7
WAIT_US = 700_000
"""How long each question waits for its answer."""


def endless_events() -> Iterator[Event]:
    """Yield what `endless_bridge_events` does, with a question before each answer of a session."""
    for event in endless_bridge_events(SEED, CHAT_COUNT):
        if isinstance(event, MessageSent) and event.session is not None:
            yield MessageReceived(
                conversation=event.conversation,
                session=event.session,
                id=f"{event.id}:q",
                occurred_at=event.occurred_at - WAIT_US,
                sender="u001",
                text="and then?",
            )
        yield event


async def record(log: EventLog, lines: Path, event_count: int) -> None:
    """Append that many events, and write them as JSON lines in the same order."""
    producer = await log.producer("bench")
    events = islice(endless_events(), event_count)
    sequences = [0] * log.partition_count
    done = 0
    with lines.open("wb") as file:
        while chunk := list(islice(events, CHUNK_EVENTS)):
            await producer.append([(done + i + 1, event) for i, event in enumerate(chunk)])
            write_lines(log, file, chunk, sequences)
            done += len(chunk)


def write_lines(log: EventLog, file: BinaryIO, events: list[Event], sequences: list[int]) -> None:
    """Write the events as they are in the log, with their places; `sequences` goes on."""
    for event in events:
        partition = log.partition_of(event.conversation)
        sequences[partition] += 1
        raw = log.codec.encode(event)
        write_line(file, partition, sequences[partition], event.occurred_at, raw)


def write_line(file: BinaryIO, partition: int, n: int, appended_at_us: int, raw: bytes) -> None:
    """Write an entry's JSON with its place as one line."""
    place = {"partition": partition, "sequence": n, "appended_at": appended_at_us}
    file.write(msgspec.json.encode(place)[:-1] + b"," + raw[1:] + b"\n")
