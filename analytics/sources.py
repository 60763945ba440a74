"""What SQL is answered from: the segments of the archive and the tail that begins where they end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa

from analytics.catalogue import Catalogue
from analytics.segment import Coverage
from analytics.storage import Storage
from analytics.tail import LiveTail
from eventlog.errors import HistoryGap
from eventlog.log import EventLog

_MAX_LISTINGS = 3


class Snapshot(NamedTuple):
    """Archive and log at one moment: together each entry once."""

    coverages: Mapping[int, Coverage]
    tail: pa.Table | None
    """None where there is no log."""


class Sources:
    """One archive, and one log where there is one."""

    def __init__(self, log: EventLog | None, storage: Storage) -> None:
        self._catalogue = Catalogue(storage)
        self._tail = LiveTail(log) if log is not None else None
        self._lock = asyncio.Lock()

    async def snapshot(self) -> Snapshot:
        """Return all that was appended before the call.

        Raises HistoryGap where entries are neither in the archive nor in the log.
        """
        async with self._lock:  # the tail is kept between snapshots
            listings = 0
            while True:
                coverages = await asyncio.to_thread(self._catalogue.scan)
                listings += 1
                try:
                    tail = await self._tail.refresh(coverages) if self._tail else None
                except HistoryGap:
                    # Archived and trimmed since it was listed; if not, it is truly gone.
                    if listings == _MAX_LISTINGS:
                        raise
                else:
                    return Snapshot(coverages, tail)
