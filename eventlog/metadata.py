"""What is fixed when a log is created, and checked whenever it is opened."""

from __future__ import annotations

from typing import Any, NamedTuple

from redis.asyncio import Redis

from eventlog.clock import Clock
from eventlog.connection import in_our_words
from eventlog.errors import ConfigurationError, LogRestoring, PartitionMismatch
from eventlog.ids import new_event_id
from eventlog.keys import Keys
from eventlog.restoring import FIELD as RESTORING
from eventlog.restoring import decode_marker
from eventlog.settings import Settings

FORMAT = 1
"""Layout of keys and entries; grows only with a change that older programs must not touch."""
DEFAULT_PARTITION_COUNT = 8


class Metadata(NamedTuple):
    """The log's own facts. `epoch` is drawn at creation: another one is another log."""

    partition_count: int
    epoch: str
    created_ms: int


async def open_metadata(
    client: Redis, keys: Keys, settings: Settings, clock: Clock, restoring: str | None = None
) -> Metadata:
    """Return the log's metadata, creating it on first sight; the first creator wins.

    Raises PartitionMismatch, ConfigurationError for a log of a newer format, LogRestoring for one that
    is being restored by another than the token `restoring` names.
    """
    wanted = {
        "format": FORMAT,
        "partition_count": settings.partition_count or DEFAULT_PARTITION_COUNT,
        "epoch": new_event_id(),
        "created_ms": clock.now_us() // 1000,
    }
    with in_our_words(settings):
        # Read first: a full server, which takes no write, can still be read and trimmed.
        found: Any = await client.hgetall(keys.meta())
        if len(found) < len(wanted):
            pipeline = client.pipeline(transaction=True)
            for field, value in wanted.items():
                pipeline.hsetnx(keys.meta(), field, str(value))
            pipeline.hgetall(keys.meta())
            found = (await pipeline.execute())[-1]
        stored = {k.decode(): v.decode() for k, v in found.items()}
    if int(stored["format"]) > FORMAT:
        raise ConfigurationError(
            f"log {keys.log!r} has format {stored['format']}; this program knows {FORMAT}.",
            remedy="Upgrade eventlog.",
        )
    if RESTORING in stored and decode_marker(stored[RESTORING]).token != restoring:
        raise LogRestoring.of(keys.log)
    count = int(stored["partition_count"])
    if settings.partition_count not in (None, count):
        raise PartitionMismatch(
            f"log {keys.log!r} was created with {count} partitions, not {settings.partition_count}.",
            remedy="Leave partition_count out, or choose another key_prefix for a new log.",
        )
    return Metadata(count, stored["epoch"], int(stored["created_ms"]))
