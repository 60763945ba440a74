"""The import of one unit: batches on their way to the log, known events left out.

The unit is a bulk producer named after what identifies it, and an event's position derives from its
record's place. A batch is parsed while the ones before it travel.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Iterator

from bridge.importers.fingerprint import fingerprint
from bridge.importers.items import Imported, Rejected, Unit
from bridge.importers.rejections import Rejections
from bridge.importers.report import FileReport, ImportReport, RejectedLine
from bridge.importers.source import Source
from eventlog.errors import ImportFailed, InvalidEvent, ProducerGap
from eventlog.event import Event
from eventlog.log import EventLog
from eventlog.producer import Producer

BATCH_EVENTS = 2000
BATCH_BYTES = 8 * 1024 * 1024
"""Source read per batch, so that memory stays flat however large the events are."""
FLIGHT_COUNT = 2
"""Batches under way while the next is parsed."""

EVENTS_PER_RECORD = 4096
"""An event's position is its record's times this, plus its index in the record from 1."""

_WHITE_SPACE = re.compile(r"\s+")
_MAX_NAME_CHARACTERS = 400


class UnitImport:
    """One unit under way; `begin` it, `take` and `reject` its records, `finish` it."""

    def __init__(
        self, log: EventLog, source: Source, label: str, producer: Producer, rejections: Rejections
    ) -> None:
        self.file = FileReport(source.format_name)
        self._label = label
        self._lines_of = source.label
        """What a refused line's number counts in."""
        self._lines: list[RejectedLine] = []
        self._log = log
        self._source = source
        self._producer = producer
        self._rejections = rejections
        self._known = dict(producer.positions)
        """Partition → the last position there when this import began."""
        self._last_known = max(self._known.values(), default=0)
        self._flights: deque[asyncio.Task[int]] = deque()
        self._clear()

    @classmethod
    async def begin(cls, log: EventLog, source: Source, unit: Unit) -> UnitImport:
        """Return the import of the unit, standing where the log has it. Raises LogUnavailable."""
        producers = [await log.producer(_fit(name)) for name in unit.names]
        producer = next((known for known in producers if known.positions), producers[0])
        label = f"{source.label}#{unit.label}" if unit.label else source.label
        made = cls(log, source, label, producer, await Rejections.load(log, producer.name))
        if unit.has_lines:
            made._lines_of = label
        return made

    def _clear(self) -> None:
        self._records: list[Imported] = []
        self._corrected: list[Imported] = []
        self._event_count = 0
        self._first_byte = self._source.text_bytes

    def take(self, record: Imported) -> bool:
        """Put the record into the batch; return whether that is full, to be sent."""
        if len(record.events) >= EVENTS_PER_RECORD:
            reason = (
                f"a record of {len(record.events):,} parts; fewer than {EVENTS_PER_RECORD:,} fit"
            )
            self.reject(Rejected(record.position, record.line, reason))
            return False
        is_corrected = record.position in self._rejections.positions
        (self._corrected if is_corrected else self._records).append(record)
        self._event_count += len(record.events)
        return (
            self._event_count >= BATCH_EVENTS
            or len(self._records) >= BATCH_EVENTS
            or self._source.text_bytes - self._first_byte >= BATCH_BYTES
        )

    def reject(self, item: Rejected) -> RejectedLine:
        """Return the refused record as reported, having counted and remembered it."""
        line = RejectedLine(self._lines_of, item.line, item.reason)
        self.file.rejected_count += 1
        self._lines.append(line)
        if item.position * EVENTS_PER_RECORD >= self._last_known:
            # Below it the record was good once: it is in the log, and must not come again.
            self._rejections.add(item.position)
        return line

    async def send(self) -> None:
        """Send the batch, once fewer than `FLIGHT_COUNT` are under way."""
        while len(self._flights) >= FLIGHT_COUNT:
            await self._await_oldest()
        records, corrected = self._records, self._corrected
        self._clear()
        # Before what follows a refused record is appended, it must be known as refused.
        await self._rejections.save()
        flight = await self._start(records)
        if flight is None:
            records = [record for record in records if self._is_valid(record)]
            await self._rejections.save()
            flight = await self._start(records)
            assert flight is not None
        self._flights.append(flight)
        for record in records:
            self.file.count(record.kinds)
        for record in corrected:
            await self._append_corrected(record)

    async def finish(self) -> None:
        """Send what is left and return when all of the unit is in the log."""
        await self.send()
        while self._flights:
            await self._await_oldest()

    async def land(self) -> None:
        """Return when nothing is under way any more, however it ended."""
        await asyncio.gather(*self._flights, return_exceptions=True)

    def report_to(self, report: ImportReport) -> None:
        """Add what came of the unit."""
        report.merge(ImportReport({self._label: self.file}, self._lines))
        self.file, self._lines = FileReport(self.file.format_name), []

    async def _start(self, records: list[Imported]) -> asyncio.Task[int] | None:
        """Return the append under way, or None where an event is invalid and nothing was sent."""
        new, skipped_count = self._new_events(records)
        flight = asyncio.create_task(self._producer.append(new))
        # An append encodes before it waits for anything: after one turn a bad event has shown.
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self._flights.append(flight)  # for `land` to wait for
            raise
        if flight.done() and isinstance(flight.exception(), InvalidEvent):
            return None
        self.file.duplicates_skipped += skipped_count
        return flight

    async def _await_oldest(self) -> None:
        flight = self._flights[0]
        try:
            self.file.events_added += await flight
        except ProducerGap:
            raise ImportFailed(
                f"{self._source.path} is being imported by another process as well.",
                remedy="Let it end, then import again; nothing is added twice.",
            ) from None
        self._flights.popleft()

    def _new_events(self, records: list[Imported]) -> tuple[list[tuple[int, Event]], int]:
        """Return the events that the log has not, with positions, and how many it has."""
        if not self._known:
            return list(_positioned(records)), 0
        new: list[tuple[int, Event]] = []
        skipped_count = 0
        for position, event in _positioned(records):
            if position <= self._last_known and self._is_known(position, event):
                skipped_count += 1
            else:
                new.append((position, event))
        return new, skipped_count

    def _is_known(self, position: int, event: Event) -> bool:
        return position <= self._known.get(self._log.partition_of(event.conversation), 0)

    def _is_valid(self, record: Imported) -> bool:
        """Return whether the log takes the record; reject it if not."""
        try:
            for event in record.events:
                self._log.codec.encode(event)
        except InvalidEvent as error:
            self.reject(Rejected(record.position, record.line, str(error)))
            return False
        return True

    async def _append_corrected(self, record: Imported) -> None:
        """Append a record that an earlier import refused, under a name of its own."""
        if not self._is_valid(record):
            return
        producer = await self._log.producer(f"{self._producer.name}#{record.position}")
        added = await producer.append(list(enumerate(record.events, 1)))
        self.file.events_added += added
        self.file.duplicates_skipped += len(record.events) - added
        self.file.count(record.kinds)


def _positioned(records: list[Imported]) -> Iterator[tuple[int, Event]]:
    for record in records:
        yield from enumerate(record.events, record.position * EVENTS_PER_RECORD + 1)


def _fit(name: str) -> str:
    """Return the name as the log takes it: without white space, of bounded length."""
    fit = _WHITE_SPACE.sub("_", name)
    if fit == name and len(name) <= _MAX_NAME_CHARACTERS:
        return name
    return f"{fit[:_MAX_NAME_CHARACTERS]}:{fingerprint(name.encode('utf-8', 'surrogateescape'))}"
