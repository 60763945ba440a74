"""Renewing a read model: made anew from the log as it is, and nothing kept of what it was."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from eventlog.errors import BuildMissing
from eventlog.log import EventLog
from eventlog.past import Past
from projections.building.builder import Progress
from projections.building.rebuilding import Rebuilt, cancel, drop, rebuild
from projections.projection import Projection
from projections.storing.default_store import default_store


async def renew(
    log: EventLog,
    projection: Projection,
    *,
    past: Past | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Rebuilt:
    """Return when a build begun after this call serves and no other build is stored.

    A build in the making is given up, because it may have folded what is no longer in the log; what
    served before cannot be rolled back to. Raises as `rebuild`.
    """
    with suppress(BuildMissing):
        await cancel(log, projection.name)
    rebuilt = await rebuild(log, projection, past=past, on_progress=on_progress)
    with suppress(BuildMissing):
        await drop(log, projection.name)
    return rebuilt


async def stored_projections(log: EventLog) -> set[str]:
    """Return the names of the projections of which anything is stored."""
    store = default_store(log)
    return {
        name
        for partition in range(log.partition_count)
        for name in (await store.shelf(partition)).names()
    }
