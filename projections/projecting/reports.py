"""What the owners of partitions say of their work, for whoever asks from another process."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from eventlog.connection import in_our_words
from eventlog.errors import OutOfMemory
from eventlog.log import EventLog


class Report(NamedTuple):
    """How the projecting of a partition goes."""

    rate_per_s: float
    error: str | None


class Reports:
    """One report per partition, which its owner renews with its lease and which lapses like it."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def write(self, reports: Mapping[int, Report]) -> None:
        """Renew reports, all in one round trip. A server that is full is not told."""
        if not reports:
            return
        pipeline = self._log.client.pipeline(transaction=False)
        for partition, report in reports.items():
            key = self._log.keys.report(partition)
            rate_per_s, error = f"{report.rate_per_s:.1f}", report.error or ""
            pipeline.execute_command("HSET", key, "rate_per_s", rate_per_s, "error", error)
            pipeline.pexpire(key, self._log.settings.lease_ttl_ms)
        with suppress(OutOfMemory), in_our_words(self._log.settings):
            await pipeline.execute()

    async def read(self, partition: int) -> Report | None:
        """Return the last report, None where it has lapsed."""
        with in_our_words(self._log.settings):
            command = "HMGET", self._log.keys.report(partition), "rate_per_s", "error"
            rate, error = await self._log.client.execute_command(*command)
        return None if rate is None else Report(float(rate), error.decode() or None)
