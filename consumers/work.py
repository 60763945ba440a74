"""What the partitions of a worker have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from consumers.attempt import Attempts
from consumers.handler import Handlers
from consumers.ordering import Item
from consumers.patience import insist
from consumers.slots import Slots
from consumers.special import Origins, handler_of
from eventlog.entry import RawEntry
from eventlog.errors import EventLogError, UndecodablePayload
from eventlog.log import EventLog
from eventlog.tail import decode_entry

T = TypeVar("T")


class Work(NamedTuple):
    """A worker, as its partitions see it."""

    log: EventLog
    group: str
    handlers: Handlers
    slots: Slots
    partition_concurrency: int
    """Handlers that run at once in a partition."""
    origins: Origins
    attempts: Callable[[int], Attempts]
    is_fresh: Callable[[], bool]
    """Whether the leases were renewed within their time, so that nobody else can have them."""
    next_number: Callable[[], int]
    """Numbers settlements; never twice the same while the process lives."""
    stop_timeout_s: float
    max_strikes: int
    on_settled: Callable[[int, int], None]
    """Told the partition, and how many entries a settlement acknowledged."""
    on_fault: Callable[[int, EventLogError], None]
    """Told the partition, and why its work does not go on for now."""

    def now_ms(self) -> int:
        """Return the time by which this process waits; it never goes back, and means nothing elsewhere."""
        return int(self.log.clock.monotonic_s() * 1000)

    def item(self, partition: int, raw: RawEntry) -> Item:
        """Return an entry with what handles it."""
        try:
            event = self.log.codec.decode(raw.raw)
        except UndecodablePayload:
            event = decode_entry(self.log.codec, partition, raw).event
        return Item(raw.id, event, handler_of(event, self.group, self.handlers))

    async def insist(self, partition: int, call: Callable[[], Awaitable[T]]) -> T:
        """Return what `call` returns, asked again for as long as the server is away."""
        return await insist(self.log, call, lambda error: self.on_fault(partition, error))
