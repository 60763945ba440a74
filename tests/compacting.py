"""Logs whose entries lie on days that are over, and archives of them compacted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from analytics import compacted_file, compaction_plan
from analytics.archiver import Archiver, Rolling
from analytics.compaction import Compactor, Report
from analytics.segment import DAY_MS, Segment
from analytics.storage import DirectoryStorage, Storage
from eventlog.event import Event
from eventlog.log import EventLog

DAYS = 3
"""Days that are over on which there is something."""


async def put_on_days(
    log: EventLog, events: Sequence[Event | bytes], *, ago: float = DAYS + 1, days: float = DAYS
) -> None:
    """Have entries stand in the log as if appended evenly over `days`, beginning `ago` days ago.

    Days are UTC's, whole ones that ended last midnight. Bytes, which are no event, go to partition 0.
    """
    midnight_ms = log.clock.now_us() // 1000 // DAY_MS * DAY_MS
    heads = {partition: head.n for partition, head in enumerate(await log.heads())}
    pipe = log.client.pipeline(transaction=False)
    for index, event in enumerate(events):
        if isinstance(event, bytes):
            partition, raw = 0, event
        else:
            partition, raw = log.partition_of(event.conversation), log.codec.encode(event)
        heads[partition] += 1
        ms = midnight_ms + int(DAY_MS * (days * index / len(events) - ago))
        entry_id = f"{ms}-{heads[partition]}"
        pipe.xadd(log.keys.stream(partition), {"e": raw}, id=entry_id)
        pipe.set(log.keys.head(partition), entry_id)
    await pipe.execute()


async def archive(log: EventLog, storage: Storage, max_rows: int = 50) -> list[Segment]:
    async with Archiver(log, storage, rolling=Rolling(max_rows=max_rows)) as archiver:
        return await archiver.run_once()


async def compact(log: EventLog, storage: Storage, *, grace_s: float = -1, **how: object) -> Report:
    """Compact what is due, and delete at once what it takes the place of."""
    return await Compactor(log, storage, grace_s=grace_s, **how).run_once()  # type: ignore[arg-type]


def with_short_files(patch: pytest.MonkeyPatch, *, rows: int = 70, group_rows: int = 9) -> None:
    """Let compacted files and their row groups be short, so that there are many."""
    patch.setattr(compaction_plan, "MAX_ROWS", rows)
    patch.setattr(compacted_file, "ROW_GROUP_ROWS", group_rows)


def storage_in(folder: Path) -> DirectoryStorage:
    return DirectoryStorage(folder / "archive")


def shuffled(rnd: random.Random, events: Sequence[Event], *wrecks: bytes) -> list[Event | bytes]:
    """Return the events with wrecks among them."""
    mixed: list[Event | bytes] = list(events)
    for wreck in wrecks:
        mixed.insert(rnd.randrange(len(mixed)), wreck)
    return mixed
