"""Events out of a file, as `eventlog import` takes it: real chats and sessions instead of made-up ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from bench.query_events import write_line
from bridge.importers.importing import import_paths
from eventlog import DeadLetterParked, DeliveryFailed, EventLog
from eventlog.entry import RawEntry
from eventlog.errors import ImportFailed
from eventlog.ids import START

CHUNK_ENTRIES = 10_000
_MARK = b'"type":"delivery.failed"'


async def import_file(log: EventLog, source: Path) -> int:
    """Return how many events are in the log once the file was imported and its failures are parked.

    A worker parks what will never arrive, so that the log of whoever sends has dead letters; files
    of chats have none. Raises ImportFailed where nothing was in the file.
    """
    await import_paths(log, [source])
    for partition in range(log.partition_count):
        letters: list[DeadLetterParked] = []
        async for entries in _chunks(log, partition):
            failures = [log.codec.decode(e.raw) for e in entries if _MARK in e.raw]
            letters += [
                _letter(f) for f in failures if isinstance(f, DeliveryFailed) and f.permanent
            ]
        await log.append(letters)
    count = sum(head.n for head in await log.heads())
    if not count:
        raise ImportFailed(f"{source} holds nothing that could be imported.")
    return count


async def write_log(log: EventLog, lines: Path) -> None:
    """Write the log as JSON lines, partition by partition."""
    with lines.open("wb") as file:
        for partition in range(log.partition_count):
            async for entries in _chunks(log, partition):
                for entry in entries:
                    write_line(file, partition, entry.id.n, entry.id.ms * 1000, entry.raw)


async def _chunks(log: EventLog, partition: int) -> AsyncIterator[list[RawEntry]]:
    head = (await log.heads())[partition]
    after = START
    while after.n < head.n:
        entries = await log.read_raw(partition, after, CHUNK_ENTRIES, head)
        yield entries
        after = entries[-1].id


def _letter(failure: DeliveryFailed) -> DeadLetterParked:
    return DeadLetterParked(
        conversation=failure.conversation,
        occurred_at=failure.occurred_at,
        letter=f"delivery:{failure.id}",
        group="delivery",
        reason=failure.reason,
        attempts=failure.attempt,
        error=failure.error,
        causation_id=failure.delivery,
    )
