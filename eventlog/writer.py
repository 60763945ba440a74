"""Appends of many tasks, coalesced: each partition has a lane with one batch under way.

While a batch travels, what arrives queues up and leaves as the next batch; an idle lane sends at
once, so coalescing costs no latency. Within a lane order is the order of calls.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from functools import partial
from itertools import repeat
from typing import NamedTuple, Protocol

from eventlog.batch import Appended, Batch, Conflict, Gap, LockLost, Outcome, Spooled
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


Answer = asyncio.Future[list[AppendResult]]
"""What a call awaits."""


def spooled_result(partition: int) -> AppendResult:
    """Return what an event gets that went to the spool."""
    return AppendResult(partition, START, None, duplicate=False)


class Sink(Protocol):
    """Where the lanes' batches go: a store, or a store with a spool before it."""

    async def append(
        self, partition: int, batch: Batch, durability: Durability
    ) -> Outcome | Spooled:
        """Return what became of the batch, which is safe to send again."""
        ...


class Lanes(Protocol):
    """Where calls' events go: `Writer`, or the spool of a log that was never reached."""

    def append(
        self, partition: int, batch: Batch, durability: Durability
    ) -> Awaitable[list[AppendResult]]:
        """Return what to await: the results of the batch's events, in order. The batch is given away."""
        ...

    async def close(self) -> None:
        """Take no more and return when everything queued has been answered."""
        ...


class Writer:
    """The lanes of a log."""

    def __init__(self, store: Sink, partition_count: int) -> None:
        self._lanes = [_Lane(store, partition) for partition in range(partition_count)]
        self._closed = False

    def append(
        self, partition: int, batch: Batch, durability: Durability
    ) -> asyncio.Future[list[AppendResult]]:
        """Return what to await: the results of the batch's events, in order.

        The batch, which has ids, is the lane's from now on. Raises LogNotOpen; awaiting raises
        VersionConflict, LogUnavailable. A cancelled caller leaves the outcome open; sending the same
        events again is safe.
        """
        if self._closed:
            raise LogNotOpen("the log is closed.", remedy="Open it before you append.")
        return self._lanes[partition].submit(batch, durability)

    async def close(self) -> None:
        """Take no more and return when everything queued has been answered."""
        self._closed = True
        await asyncio.gather(*(lane.drained() for lane in self._lanes))


class _Shared:
    """A batch that calls share while it waits for its turn, and who they are."""

    __slots__ = ("_characters", "_ids", "_is_conditional", "batch", "callers", "durability")

    def __init__(self, batch: Batch, durability: Durability, done: Answer) -> None:
        self.batch = batch
        self.durability = durability
        self.callers = [(len(batch.events), done)]
        """Where each call's events end, and its answer."""
        self._is_conditional = batch.is_conditional
        self._ids = set(batch.ids or ())
        self._characters = sum(map(len, batch.events))

    def takes(self, batch: Batch, durability: Durability, done: Answer) -> bool:
        """Return whether another call's events go along; they are in it then.

        Two events with one id never share a batch (the second is then found to be a duplicate), and
        a condition is checked alone, so that its failure is nobody else's.
        """
        mine, ids = self.batch, batch.ids or ()
        start = len(mine.events)
        end = start + len(batch.events)
        characters = self._characters + sum(map(len, batch.events))
        if (
            end > MAX_BATCH_EVENTS
            or characters > MAX_BATCH_CHARACTERS
            or self._is_conditional
            or batch.is_conditional
            or durability != self.durability
            or not self._ids.isdisjoint(ids)
        ):
            return False
        mine.events.extend(batch.events)
        mine.ids.extend(ids)  # type: ignore[union-attr] # a list: an append has ids
        for each in batch.entities:
            mine.entities.append(each._replace(place=start + each.place))
        self.callers.append((end, done))
        self._ids.update(ids)
        self._characters = characters
        return True


class _Lane:
    """One partition's queue."""

    def __init__(self, store: Sink, partition: int) -> None:
        self._store = store
        self._partition = partition
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Shared] = deque()
        self._task: asyncio.Task[None] | None = None

    def submit(self, batch: Batch, durability: Durability) -> Answer:
        done: Answer = self._loop.create_future()
        queue = self._queue
        if not (queue and queue[-1].takes(batch, durability, done)):
            queue.append(_Shared(batch, durability, done))
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._drain())
        return done

    async def drained(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _drain(self) -> None:
        try:
            while self._queue:
                await self._send(self._queue.popleft())
                if self._queue:
                    await asyncio.sleep(0)  # so that callers who were answered come along again
        except BaseException as error:
            # A cancelled lane (the loop is shutting down) must not leave its callers waiting.
            while self._queue:
                _fail(self._queue.popleft(), LogNotOpen(f"the append was abandoned: {error!r}."))
            raise

    async def _send(self, shared: _Shared) -> None:
        try:
            outcome = await self._store.append(self._partition, shared.batch, shared.durability)
        except EventLogError as error:
            _fail(shared, error)
            return
        except Exception as error:  # noqa: BLE001 - a bug: of this batch alone, and for its callers to see
            _fail(shared, error)
            return
        except BaseException:
            self._queue.appendleft(shared)
            raise
        match outcome:
            case Appended():
                _answer(shared, _results(self._partition, outcome, len(shared.batch.events)))
            case Spooled():
                _answer(shared, [spooled_result(self._partition)] * len(shared.batch.events))
            case Conflict(entity, actual_version):
                expected_version = dict(shared.batch.expected)[entity]
                _fail(shared, VersionConflict(entity, expected_version, actual_version))
            case LockLost():
                _fail(
                    shared,
                    Fenced(
                        "the lock went to another holder; nothing was appended.",
                        remedy="Leave the work to it.",
                    ),
                )
            case Gap():
                raise AssertionError("a batch without producer cannot have a gap")


def _answer(shared: _Shared, results: list[AppendResult]) -> None:
    start = 0
    for end, done in shared.callers:
        if not done.done():
            done.set_result(results[start:end])
        start = end


def _results(partition: int, outcome: Appended, event_count: int) -> list[AppendResult]:
    if outcome.duplicates:
        return results_of(partition, outcome, event_count)
    # The usual case, without a step of Python per event.
    ns = range(outcome.first_n, outcome.first_n + outcome.added)
    ids = map(_new_entry_id, zip(repeat(outcome.ms), ns))
    results = list(map(_new_result, zip(repeat(partition), ids, repeat(None), repeat(False))))
    for index, version in outcome.versions.items():
        results[index] = results[index]._replace(version=version)
    return results


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


def _fail(shared: _Shared, error: Exception) -> None:
    for _, done in shared.callers:
        if not done.done():
            done.set_exception(error)
