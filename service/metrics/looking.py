"""What is asked of server, archive and disk for one scrape. Reads only."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from analytics.archiver import PartitionStatus as ArchiveStatus
from analytics.retention import Plan
from consumers.group_status import GroupStatus
from consumers.groups import groups
from consumers.registration import RESERVED
from eventlog.connection import ServerInfo, in_our_words, parse_server
from eventlog.ids import EntryId
from eventlog.log import EventLog
from projections.projecting.projector import Projector
from projections.projecting.status import PartitionStatus as ProjectionStatus
from projections.views.activity import Activity
from projections.views.dead_letters import DeadLetters
from service.wiring import new_archiver, new_retention


class ServerFacts(NamedTuple):
    """What the server said, all of about one moment."""

    server: ServerInfo
    info: dict[str, Any]
    heads: list[EntryId]
    stream_counts: list[int]
    """Entries by partition."""
    groups: list[GroupStatus]
    """Consumer groups other than the product's own."""
    retrying: dict[str, int]
    """Group → entries with a failed attempt or a strike that are not settled."""
    projecting: list[ProjectionStatus]
    letters_by_status: dict[str, int]
    parked_by_reason: dict[str, int]
    events_by_type: dict[str, int]


class ArchiveFacts(NamedTuple):
    """What the archive has, and what becomes of the log because of it."""

    archiving: list[ArchiveStatus]
    plan: Plan


async def look_at_server(log: EventLog) -> ServerFacts:
    """Return what the server says now. Raises LogUnavailable and its kin."""
    with in_our_words(log.settings):
        info: dict[str, Any] = await log.client.info()
    heads = await log.heads()
    consuming = [each for each in await groups(log) if each.name not in RESERVED]
    # As stored: folding what is not projected yet would cost more the further a projector is behind.
    letters, activity = DeadLetters(log), Activity(log)
    return ServerFacts(
        server=parse_server(info),
        info=info,
        heads=heads,
        stream_counts=await _stream_counts(log),
        groups=consuming,
        retrying=await _retrying(log, [each.name for each in consuming]),
        projecting=await Projector(log).status(),
        letters_by_status=await letters.counts_by_status(consistency="stored"),
        parked_by_reason=await letters.counts_by_reason(consistency="stored"),
        events_by_type=await activity.by_type(consistency="stored"),
    )


async def look_at_archive(log: EventLog) -> ArchiveFacts:
    """Return how far the archive is. Raises ArchiveUnavailable, LogUnavailable."""
    archiving, plan = await asyncio.gather(new_archiver(log).status(), new_retention(log).plan())
    return ArchiveFacts(archiving, plan)


async def _stream_counts(log: EventLog) -> list[int]:
    pipeline = log.client.pipeline(transaction=False)
    for partition in range(log.partition_count):
        pipeline.execute_command("XLEN", log.keys.stream(partition))
    with in_our_words(log.settings):
        counts: list[int] = await pipeline.execute()
    return counts


async def _retrying(log: EventLog, names: list[str]) -> dict[str, int]:
    pipeline = log.client.pipeline(transaction=False)
    for name in names:
        for partition in range(log.partition_count):
            pipeline.execute_command("HLEN", log.keys.attempts(partition, name))
    with in_our_words(log.settings):
        counts: list[int] = await pipeline.execute()
    each = log.partition_count
    return {name: sum(counts[i * each : (i + 1) * each]) for i, name in enumerate(names)}
