"""Appends of many tasks, coalesced: each partition has a lane with one batch under way.

While a batch travels, what arrives queues up and leaves as the next batch; an idle lane sends at
once, so coalescing costs no latency. Within a lane order is the order of calls.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from typing import NamedTuple, Protocol

from eventlog.batch import Appended, Batch, Conflict, Fence, Gap, LockLost, Outcome, Spooled
from eventlog.entity import Advance, ExpectedState
from eventlog.errors import EventLogError, Fenced, LogNotOpen, VersionConflict
from eventlog.ids import START, EntryId
from eventlog.settings import Durability
from eventlog.shares import MAX_BATCH_CHARACTERS, MAX_BATCH_EVENTS


class AppendResult(NamedTuple):
    """Where an event stands; for a duplicate, where the original does.

    `version` is that of the event's entity after it, None for types that have no entity.
    """

    partition: int
    id: EntryId
    version: int | None
    duplicate: bool

    @property
    def sequence(self) -> int:
        """The gapless integer within the partition, from 1."""
        return self.id.n

    @property
    def is_spooled(self) -> bool:
        """Whether the event waits on this machine's disk, without a place in the log as yet.

        Its id is START then; `partition` is -1 where the log was never reached.
        """
        return self.id == START


def spooled_result(partition: int) -> AppendResult:
    """Return what an event gets that went to the spool."""
    return AppendResult(partition, START, None, duplicate=False)


@dataclass(slots=True, eq=False)
class Request:
    """Events of one caller for one partition, written whole or not at all."""

    events: list[str]
    ids: list[str]
    entities: list[Advance]
    durability: Durability
    expected: list[tuple[str, ExpectedState]] = field(default_factory=list)
    """Entities and the versions they must have."""
    fence: Fence | None = None
    done: asyncio.Future[list[AppendResult]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    @property
    def character_count(self) -> int:
        """Length of the events' texts."""
        return sum(map(len, self.events))

    @property
    def is_conditional(self) -> bool:
        """Whether it goes alone: see Batch."""
        return self.batch().is_conditional

    def batch(self) -> Batch:
        """Return the request as a batch of its own."""
        return Batch(self.events, self.ids, self.entities, self.expected, fence=self.fence)


class Sink(Protocol):
    """Where the lanes' batches go: a store, or a store with a spool before it."""

    async def append(
        self, partition: int, batch: Batch, durability: Durability
    ) -> Outcome | Spooled:
        """Return what became of the batch, which is safe to send again."""
        ...


class Lanes(Protocol):
    """Where requests go: `Writer`, or the spool of a log that was never reached."""

    async def append(self, partition: int, request: Request) -> list[AppendResult]:
        """Return the results of the request's events, in order."""
        ...

    async def close(self) -> None:
        """Take no more and return when everything queued has been answered."""
        ...


class Writer:
    """The lanes of a log."""

    def __init__(self, store: Sink, partition_count: int) -> None:
        self._lanes = [_Lane(store, partition) for partition in range(partition_count)]
        self._closed = False

    async def append(self, partition: int, request: Request) -> list[AppendResult]:
        """Return the results of the request's events, in order.

        Raises VersionConflict, LogUnavailable. A cancelled caller leaves the outcome open; sending
        the same events again is safe.
        """
        if self._closed:
            raise LogNotOpen("the log is closed.", remedy="Open it before you append.")
        self._lanes[partition].submit(request)
        return await request.done

    async def close(self) -> None:
        """Take no more and return when everything queued has been answered."""
        self._closed = True
        await asyncio.gather(*(lane.drained() for lane in self._lanes))


class _Lane:
    """One partition's queue."""

    def __init__(self, store: Sink, partition: int) -> None:
        self._store = store
        self._partition = partition
        self._queue: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None

    def submit(self, request: Request) -> None:
        self._queue.append(request)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())

    async def drained(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _drain(self) -> None:
        while self._queue:
            await self._send(self._take())

    def _take(self) -> list[Request]:
        """Return the next requests that can share a batch; at least one.

        Two events with one id never share it (the second is then found to be a duplicate), and a
        condition is checked alone, so that its failure is nobody else's.
        """
        group = [self._queue.popleft()]
        if group[0].is_conditional:
            return group
        ids = set(group[0].ids)
        events, characters = len(group[0].events), group[0].character_count
        while self._queue:
            following = self._queue[0]
            events += len(following.events)
            characters += following.character_count
            if (
                events > MAX_BATCH_EVENTS
                or characters > MAX_BATCH_CHARACTERS
                or following.is_conditional
                or following.durability != group[0].durability
                or not ids.isdisjoint(following.ids)
            ):
                break
            ids.update(following.ids)
            group.append(self._queue.popleft())
        return group

    async def _send(self, group: list[Request]) -> None:
        try:
            outcome = await self._store.append(self._partition, _merge(group), group[0].durability)
        except EventLogError as error:
            _fail(group, error)
            return
        except Exception as error:  # noqa: BLE001 - a bug: of this batch alone, and for its callers to see
            _fail(group, error)
            return
        except BaseException as error:
            # A cancelled lane (the loop is shutting down) must not leave its callers waiting.
            _fail([*group, *self._queue], LogNotOpen(f"the append was abandoned: {error!r}."))
            self._queue.clear()
            raise
        match outcome:
            case Appended():
                _answer(group, self._partition, outcome)
            case Spooled():
                _answer_spooled(group, self._partition)
            case Conflict(entity, actual_version):
                expected_version = dict(group[0].expected)[entity]
                _fail(group, VersionConflict(entity, expected_version, actual_version))
            case LockLost():
                _fail(
                    group,
                    Fenced(
                        "the lock went to another holder; nothing was appended.",
                        remedy="Leave the work to it.",
                    ),
                )
            case Gap():
                raise AssertionError("a batch without producer cannot have a gap")


def _merge(group: list[Request]) -> Batch:
    if len(group) == 1:
        return group[0].batch()
    batch = Batch([], [], [])
    for request in group:
        start = len(batch.events)
        batch.events.extend(request.events)
        batch.ids.extend(request.ids)  # type: ignore[union-attr] # a list, four lines up
        batch.entities.extend(each._replace(place=start + each.place) for each in request.entities)
    return batch


def _answer_spooled(group: list[Request], partition: int) -> None:
    for request in group:
        if not request.done.done():
            request.done.set_result([spooled_result(partition) for _ in request.events])


def _answer(group: list[Request], partition: int, outcome: Appended) -> None:
    if outcome.duplicates:
        count = sum(len(request.events) for request in group)
        results = results_of(partition, outcome, count)
    else:
        # The usual case, without a step of Python per event.
        ns = range(outcome.first_n, outcome.first_n + outcome.added)
        ids = map(_new_entry_id, zip(repeat(outcome.ms), ns))
        results = list(map(_new_result, zip(repeat(partition), ids, repeat(None), repeat(False))))
        for index, version in outcome.versions.items():
            results[index] = results[index]._replace(version=version)
    start = 0
    for request in group:
        end = start + len(request.events)
        if not request.done.done():
            request.done.set_result(results[start:end])
        start = end


_new_entry_id = partial(tuple.__new__, EntryId)
_new_result = partial(tuple.__new__, AppendResult)


def results_of(partition: int, outcome: Appended, event_count: int) -> list[AppendResult]:
    """Return the results of a batch of so many events that were checked by id, in order."""
    results = []
    n = outcome.first_n
    for index in range(event_count):
        duplicate = index in outcome.duplicates
        if duplicate:
            entry_id = outcome.duplicates[index]
            assert entry_id is not None  # a batch with ids always knows the original
        else:
            entry_id, n = EntryId(outcome.ms, n), n + 1
        version = outcome.versions.get(index)
        results.append(AppendResult(partition, entry_id, version, duplicate))
    return results


def _fail(group: list[Request], error: Exception) -> None:
    for request in group:
        if not request.done.done():
            request.done.set_exception(error)
