"""What an entry takes in the server's memory."""

from __future__ import annotations

from eventlog.connection import in_our_words
from eventlog.log import EventLog

SAMPLES = 100
"""Nodes of the stream that the server looks at, of some 100 entries each: a tenth of a millisecond."""


async def mean_entry_bytes(log: EventLog, partition: int) -> float:
    """Return the mean over a partition's stream; 0 where it is empty."""
    stream = log.keys.stream(partition)
    pipeline = log.client.pipeline(transaction=False)
    pipeline.execute_command("MEMORY USAGE", stream, "SAMPLES", SAMPLES)
    pipeline.xlen(stream)
    with in_our_words(log.settings):
        used_bytes, entry_count = await pipeline.execute()
    return used_bytes / entry_count if entry_count else 0.0
