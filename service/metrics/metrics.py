"""A log's numbers as Prometheus reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from eventlog.errors import EventLogError
from eventlog.log import EventLog
from service.metrics.families import APPEND_SECONDS, ARCHIVE_UP, UP, Family, families
from service.metrics.kept import Kept
from service.metrics.looking import look_at_archive, look_at_server
from service.metrics.samples import Found, Samples, samples_of

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

FRESH_S = 5.0
"""What the server said is told for so long: any number of scrapes costs one look in that time."""
ARCHIVE_FRESH_S = 30.0
"""The same of the archive, whose files have to be listed; in a bucket that costs money."""
TIMEOUT_S = 4.0
"""A look may take so long; Prometheus waits ten seconds for an answer unless told otherwise."""


class Metrics:
    """The numbers of an open log. Close it before the log.

    >>> text = await Metrics(log).render()  # to be sent as CONTENT_TYPE
    """

    def __init__(
        self,
        log: EventLog,
        *,
        fresh_s: float = FRESH_S,
        archive_fresh_s: float = ARCHIVE_FRESH_S,
        timeout_s: float = TIMEOUT_S,
        of_process: bool = True,
    ) -> None:
        """`of_process`: with the memory, the processor time and the open files of this process."""
        self._log = log
        self._server = Kept(
            "server", partial(look_at_server, log), log.clock, fresh_s=fresh_s, timeout_s=timeout_s
        )
        self._archive = Kept(
            "archive",
            partial(look_at_archive, log),
            log.clock,
            fresh_s=archive_fresh_s,
            timeout_s=timeout_s,
        )
        self._rendering = _Rendering()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._rendering)
        if of_process:
            ProcessCollector(registry=self._registry)

    async def render(self) -> str:
        """Return all metrics in the text format of Prometheus; never raises for want of the server.

        With the server away it says `eventlog_up 0` and what this process knows by itself, within
        the time-out of a look.
        """
        self._rendering.samples = samples_of(await self._find())
        return generate_latest(self._registry).decode()

    async def close(self) -> None:
        """End what is being looked at."""
        await self._server.close()
        await self._archive.close()

    async def _find(self) -> Found:
        server, archive, spooled = await asyncio.gather(
            self._server.get(), self._archive.get(), self._spool_counts()
        )
        return Found(
            measures=self._log.measures,
            spool_counts=spooled,
            server=server,
            # What was known of the archive says nothing of a log that is not there.
            archive=archive if server is not None else None,
            look_s={"server": self._server.look_s, "archive": self._archive.look_s},
            now_ms=self._log.clock.now_us() // 1000,
        )

    async def _spool_counts(self) -> dict[str, int]:
        try:
            return await self._log.spool_counts()
        except (EventLogError, OSError):  # the folder is gone: of which appends tell
            return {}


def render_away() -> str:
    """Return what is told of a log that could not be opened."""
    rendering, registry = _Rendering(), CollectorRegistry(auto_describe=False)
    rendering.samples.put(UP, 0)
    rendering.samples.put(ARCHIVE_UP, 0)
    registry.register(rendering)
    return generate_latest(registry).decode()


class _Rendering(Collector):
    """Hands the samples of the moment to the library that writes them."""

    def __init__(self) -> None:
        self.samples = Samples()

    def collect(self) -> Iterable[Metric]:
        """Return the metrics that have samples."""
        for family in families():
            if family is APPEND_SECONDS:
                buckets, total = self.samples.append_seconds
                if not buckets:
                    continue
                yield HistogramMetricFamily(
                    family.name, family.help, buckets=buckets, sum_value=total
                )
            elif values := self.samples.by_family.get(family):
                yield _metric(family, values)


def _metric(family: Family, values: dict[tuple[str, ...], float]) -> Metric:
    make = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    made = make(family.name, family.help, labels=family.labels)
    for labels, value in values.items():
        made.add_metric(labels, value)
    return made
