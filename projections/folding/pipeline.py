"""The pipeline of one partition: folds a batch while the one before is being committed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from eventlog.errors import (
    ConfigurationError,
    EventLogError,
    Fenced,
    HistoryGap,
    ProjectionStopped,
)
from eventlog.ids import EntryId
from eventlog.lease import Lease
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.past import Stretch
from eventlog.tasks import end_calls
from eventlog.vocabulary import DeadLetterParked
from projections.folding.fold import DocumentSlot, FeedSlot, Folder, FoldFailed, Poison, Slot
from projections.folding.letters import is_own_letter, letter_of
from projections.folding.target import Target
from projections.storing.batch import (
    AlreadyApplied,
    CheckpointGap,
    Commit,
    Committed,
    DocumentChanges,
    EntriesGone,
    FeedChanges,
    GroupGone,
    LeaseLost,
    Step,
    Superseded,
)
from projections.storing.departed_file import Departed
from projections.storing.departures import ended
from projections.storing.store import ModelStore

BATCH_ENTRIES = 500
"""Entries per commit: 1,000 measured slower, as fold and commit then overlap less."""
BATCH_BYTES = 4 * 1024 * 1024
"""What a batch may weigh, going by the batch before it: bounds memory when events are large."""

T = TypeVar("T")

_log = get_logger("projector")


class BeginAnew(Exception):
    """A build is not, or not only, this pipeline's any more: look at the shelf and begin anew.

    Another one was swapped in; or somebody else wrote to it, be it a call of our own that was given
    up and reached the server late. What was fetched since may be ahead of the checkpoint.
    """


Parks = Callable[[DeadLetterParked], Awaitable[bool]]
"""Whether the letter of a poison entry is to be recorded."""


async def always(_letter: DeadLetterParked) -> bool:
    """Return True: each entry is folded once, so each letter is new."""
    return True


async def never(_letter: DeadLetterParked) -> bool:
    """Return False: a fold in memory leaves nothing behind."""
    return False


class Pipeline:
    """Takes batches in order; `position` is the last entry folded.

    At most one commit is under way. After any exception the pipeline is spent: its cached documents
    may be ahead of what is stored.
    """

    def __init__(
        self,
        log: EventLog,
        store: ModelStore,
        targets: Sequence[Target],
        lease: Lease,
        position: EntryId,
        on_commit: Callable[[EntryId, int], None] = lambda _position, _count: None,
        *,
        moves_group: bool = True,
        parks: Parks = always,
        batch_entries: int = BATCH_ENTRIES,
    ) -> None:
        self.position = position
        self.lease = lease
        self.notes_touched = False
        """Whether each slot notes where its documents changed last."""
        self.batch_limit = batch_entries // 8  # until the first batch shows how large entries are
        self._log = log
        self._store = store
        self._targets = tuple(targets)
        self._knows_departures = False
        self._folder = Folder(targets, lease.partition, log.codec.decode, log.settings)
        self._on_commit = on_commit
        self._moves_group = moves_group
        self._parks = parks
        self._batch_entries = batch_entries
        self._committing: asyncio.Task[None] | None = None

    @property
    def partition(self) -> int:
        """The partition it folds."""
        return self.lease.partition

    @property
    def built(self) -> Iterator[tuple[Target, Slot]]:
        """What it folds, and the work on each."""
        return zip(self._targets, self._folder.slots, strict=True)

    async def put(self, batch: Stretch, *, in_stream: bool = True) -> None:
        """Fold a batch and start its commit, once that of the batch before has succeeded.

        The batch is what follows `position`: of the stream every entry, of the archive those that
        matter. Raises HistoryGap where an entry is missing; ProjectionStopped, Fenced,
        BeginAnew, LogUnavailable.
        """
        raws = batch.entries
        if in_stream and (not raws or raws[0].id.n != self.position.n + 1):
            upto = raws[0].id.n - 1 if raws else batch.end.n
            raise HistoryGap(
                f"partition {self.lease.partition}: entries {self.position.n + 1} to {upto} are "
                f"no longer in the log, and {', '.join(self._names())} lack them.",
                remedy="Rebuild from the archive: `eventlog projections rebuild`.",
            )
        poisons = self._folder.deal(raws)
        if self.notes_touched:
            for slot in self._folder.slots:
                if isinstance(slot, DocumentSlot):
                    slot.touched.update(dict.fromkeys(slot.work, batch.end.n))
        documents, feeds, failed = await self._fold()
        for slot in failed:
            changes, more = slot.fold_with_care()
            documents.append(changes)
            poisons += more
        self._stop_at(poisons)
        if poisons:
            await self._park(poisons)
        commit = Commit(
            partition=self.lease.partition,
            lease=self.lease,
            steps=tuple(
                Step(t.build, t.role, self.position, slot.departures) for t, slot in self.built
            ),
            first=raws[0].id if raws else batch.end,
            last=batch.end,
            in_stream=in_stream,
            moves_group=self._moves_group,
            documents=documents,
            feeds=feeds,
        )
        await self.flush()
        self._committing = asyncio.create_task(self._commit(commit, batch.end.n - self.position.n))
        self.position = batch.end
        sampled = raws[::8]
        entry_bytes = sum(len(raw.raw) for raw in sampled) // max(1, len(sampled)) + 1
        self.batch_limit = max(1, min(self._batch_entries, BATCH_BYTES // entry_bytes))

    def _names(self) -> list[str]:
        return [target.projection.model for target in self._targets]

    def _stop_at(self, poisons: Sequence[Poison]) -> None:
        for poison in poisons:
            if poison.projection is not None and poison.projection.on_poison == "stop":
                raise ProjectionStopped(
                    poison.projection.model,
                    f"at entry {self.lease.partition}/{poison.raw.id}: {poison.error}",
                    remedy="Mend its `apply` and start again, or let it park such entries "
                    '(`on_poison = "park"`).',
                )

    async def flush(self) -> None:
        """Return when everything folded is committed."""
        if self._committing is not None:
            await self._committing
            self._committing = None

    async def until(self, reading: asyncio.Task[T]) -> T:
        """Return what `reading` brings, raising at once should the commit fail meanwhile."""
        while not reading.done():
            waiting = {reading, self._committing} if self._committing else {reading}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self._committing is not None and self._committing.done():
                await self.flush()
        return reading.result()

    async def abandon(self) -> None:
        """Give up the commit under way, if any; it was applied or it was not."""
        await end_calls(self._committing)

    async def _fold(
        self,
    ) -> tuple[list[DocumentChanges], list[FeedChanges], list[DocumentSlot[Any]]]:
        """Return the changes of the batch dealt out, and the slots to be folded with care."""
        slots = [slot for slot in self._folder.slots if slot.work]
        await self._warm(slots)
        documents: list[DocumentChanges] = []
        feeds: list[FeedChanges] = []
        failed: list[DocumentSlot[Any]] = []
        for slot in slots:
            if isinstance(slot, FeedSlot):
                feeds.append(slot.fold())
                continue
            try:
                documents.append(slot.fold())
            except FoldFailed:
                failed.append(slot)
        if failed:
            # The documents are fetched again, so they must hold every batch before this one.
            await self.flush()
            await self._warm(failed)
        return documents, feeds, failed

    async def _warm(self, slots: Sequence[Slot]) -> None:
        await self.know_departures()
        for slot in slots:
            if isinstance(slot, FeedSlot) and (names := slot.unmet()):
                left = await self._store.departed(self.partition, slot.model, names)
                slot.left = {name: ended(row)[0] for name, row in left.items()}
        cold = [
            (slot, keys)
            for slot in slots
            if isinstance(slot, DocumentSlot) and (keys := slot.cold_keys())
        ]
        if cold:
            wanted = [(slot.model, keys) for slot, keys in cold]
            stored = await self._store.documents(self.lease.partition, wanted)
            for (slot, keys), documents in zip(cold, stored, strict=True):
                left = {}
                if slot.departures:
                    missing = [k for k, raw in zip(keys, documents, strict=True) if raw is None]
                    left = await self._departed(slot, missing)
                try:
                    slot.warm(keys, documents, left)
                except ConfigurationError as error:  # it alone cannot go on
                    model = slot.projection.model
                    why = f"in partition {self.lease.partition}: {error.message.rstrip('.')}"
                    raise ProjectionStopped(model, why, remedy=error.remedy) from None

    async def know_departures(self) -> None:
        """Find out, once, of which builds anything ever left: under this lease nobody else lets go.

        Raises HistoryGap where what left cannot be found.
        """
        if self._knows_departures:
            return
        models = [slot.model for slot in self._folder.slots]
        numbers = await self._store.departures(self.partition, models)
        for slot, number in zip(self._folder.slots, numbers, strict=True):
            slot.departures = number
        self._knows_departures = True

    async def _departed(
        self, slot: DocumentSlot[Any], missing: Sequence[str]
    ) -> Mapping[str, Departed]:
        if not missing:
            return {}
        return await self._store.departed(self.partition, slot.model, missing)

    async def _forget_returned(self, commit: Commit) -> None:
        """Say which documents are back, which saves readers of lists from looking at them twice."""
        numbers = {step.build.model: step.departures for step in commit.steps}
        for change in commit.documents:
            if change.back:
                place = commit.partition, change.model
                try:
                    await self._store.returned(*place, change.back, numbers[change.model])
                except HistoryGap as error:
                    _log.warning("returns_not_noted", model=change.model, error=str(error))

    async def _park(self, poisons: Sequence[Poison]) -> None:
        """Record poison entries in the log, before the commit that leaves them behind."""
        letters = []
        for poison in poisons:
            _log.warning(
                "poison_entry",
                projection=poison.projection.model if poison.projection else None,
                partition=self.lease.partition,
                entry=str(poison.raw.id),
                error=poison.error,
            )
            letter = letter_of(poison, self.lease.partition, self._log.clock)
            if not is_own_letter(poison.event) and await self._parks(letter):
                letters.append(letter)
        if letters:
            await self._log.append([*letters])

    async def _commit(self, commit: Commit, count: int) -> None:
        outcome = await self._store.commit(commit)
        match outcome:
            case Committed():
                self._on_commit(commit.last, count)
                await self._forget_returned(commit)
            case AlreadyApplied():
                # Each batch is sent once, so it was not this pipeline that applied it.
                raise BeginAnew(f"entries up to {commit.last} were folded by another")
            case EntriesGone():
                raise HistoryGap(
                    f"partition {commit.partition}: entries between {commit.first} and "
                    f"{commit.last} were trimmed while they were being folded.",
                    remedy="Rebuild from the archive: `eventlog projections rebuild`.",
                )
            case LeaseLost():
                raise Fenced(
                    f"the lease on partition {commit.partition} went to another owner.",
                    remedy="Nothing of the batch was applied; the other owner applies it.",
                )
            case Superseded(model):
                raise BeginAnew(f"{model} is no longer in its role, or documents left it")
            case GroupGone():
                raise EventLogError(
                    f"group {commit.lease.group!r} is gone from partition {commit.partition}.",
                    remedy="It is made again at the checkpoint when the projector starts anew.",
                )
            case CheckpointGap(model, stored):
                raise BeginAnew(f"{model} stands at {stored}")
