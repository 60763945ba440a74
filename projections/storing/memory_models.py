"""Read models in memory: for tests of your own program, for time travel and verification.

It takes the same decisions as the scripts, shown by the contract suite that runs on both.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from eventlog.entity import ExpectedState
from eventlog.errors import VersionConflict
from eventlog.event import Event
from eventlog.ids import START, EntryId
from eventlog.log import EventLog
from eventlog.writer import AppendResult
from projections.storing.batch import (
    AlreadyApplied,
    CheckpointGap,
    Commit,
    CommitOutcome,
    Committed,
    LeaseLost,
    Superseded,
    feed_item,
)
from projections.storing.build import Build, Role, Shelf, role_field
from projections.storing.store import (
    DocumentsReply,
    DocumentsRequest,
    FeedReply,
    FeedRequest,
    LinkedReply,
    LinkedRequest,
    Names,
    PageItem,
    PageRequest,
    Tail,
)


@dataclass
class _Model:
    documents: dict[str, bytes] = field(default_factory=dict)
    indexes: dict[str, dict[str, float]] = field(default_factory=dict)
    feeds: dict[str, list[bytes]] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)


class MemoryModels:
    """Read models as dicts. With a log, reads see its tail; without one there is none."""

    def __init__(self, log: EventLog | None = None) -> None:
        self._log = log
        self._models: dict[tuple[int, str], _Model] = {}
        self._shelves: defaultdict[int, dict[str, str]] = defaultdict(dict)
        self.generations: dict[tuple[str, int], int] = {}
        """(group, partition) → the generation of its lease; a lower one is fenced."""

    def _model(self, partition: int, model: str) -> _Model:
        return self._models.setdefault((partition, model), _Model())

    # --- the shelf -------------------------------------------------------------------------------

    async def shelf(self, partition: int) -> Shelf:
        """Return the partition's builds and their checkpoints."""
        return Shelf(self._shelves[partition])

    async def look_up(self, models: Sequence[tuple[str, int]]) -> None:
        """Do nothing: no read is far away."""

    async def claim(self, partition: int, builds: Sequence[Build]) -> None:
        """Let builds serve from the start of the log, if the shelf is empty."""
        fields = self._shelves[partition]
        if not fields:
            for build in builds:
                fields |= {role_field(build.name, "serving"): build.mark, build.model: str(START)}

    async def begin(self, partition: int, build: Build) -> Build:
        """Return the build of the projection that is in the making: this one, if none was."""
        fields = self._shelves[partition]
        mark = fields.setdefault(role_field(build.name, "building"), build.mark)
        begun = Build.of_mark(build.name, mark)
        fields.setdefault(begun.model, str(START))
        return begun

    async def swap(self, builds: Mapping[int, Build]) -> None:
        """Let the build in the making serve in each partition named, all in one step."""
        for partition, build in builds.items():
            self._swap(self._shelves[partition], build)

    @staticmethod
    def _swap(fields: dict[str, str], build: Build) -> None:
        serving, previous, building = (
            role_field(build.name, role) for role in ("serving", "previous", "building")
        )
        if fields.get(building) != build.mark:
            return
        served, before = fields.pop(serving, None), fields.pop(previous, None)
        del fields[building]
        fields[serving] = build.mark
        if before and before != build.mark:
            fields.pop(Build.of_mark(build.name, before).model, None)
        if served:
            fields[previous] = served

    async def put_away(self, partition: int, build: Build, role: Role) -> None:
        """Take a build off the shelf if it is there in that role."""
        fields, name = self._shelves[partition], role_field(build.name, role)
        if fields.get(name) != build.mark:
            return
        del fields[name]
        if build not in Shelf(fields).builds.values():
            fields.pop(build.model, None)

    async def sweep(self, name: str) -> int:
        """Delete what is stored of a projection's builds that are on no shelf; return how many."""
        doomed = [
            (partition, model)
            for partition, model in self._models
            if model.partition("@")[0] == name
            and model not in {b.model for b in Shelf(self._shelves[partition]).builds.values()}
        ]
        for place in doomed:
            del self._models[place]
        return len(doomed)

    # --- documents and feeds ---------------------------------------------------------------------

    async def documents(
        self, partition: int, wanted: Sequence[tuple[str, Sequence[str]]]
    ) -> list[list[bytes | None]]:
        """Return stored documents by (model, keys), None where there is none."""
        return [
            [self._model(partition, model).documents.get(key) for key in keys]
            for model, keys in wanted
        ]

    async def commit(self, commit: Commit) -> CommitOutcome:
        """Return what became of the batch."""
        lease = commit.lease
        if self.generations.get((lease.group, lease.partition), 0) > lease.generation:
            return LeaseLost()
        fields = self._shelves[commit.partition]
        shelf = Shelf(fields)
        misplaced: list[tuple[str, EntryId]] = []
        for build, role, checkpoint in commit.steps:
            if fields.get(role_field(build.name, role)) != build.mark:
                return Superseded(build.model)
            if (stored := shelf.checkpoint(build)) != checkpoint:
                misplaced.append((build.model, stored))
        passed = [model for model, stored in misplaced if stored >= commit.last]
        if len(passed) == len(commit.steps):
            return AlreadyApplied()
        if misplaced:
            return CheckpointGap(*misplaced[0])
        self._write(commit)
        return Committed()

    def _write(self, commit: Commit) -> None:
        for change in commit.documents:
            model = self._model(commit.partition, change.model)
            model.documents |= {key: state.encode() for key, state in change.written.items()}
            for key in change.deleted:
                model.documents.pop(key, None)
            for name, left in change.unindexed.items():
                for key in left:
                    model.indexes.get(name, {}).pop(key, None)
            for name, scores in change.indexed.items():
                model.indexes.setdefault(name, {}).update(scores)
        for feed in commit.feeds:
            model = self._model(commit.partition, feed.model)
            for name, entries in feed.items.items():
                kept = model.feeds.get(name, []) + [feed_item(entry) for entry in entries]
                total = model.totals[name] = model.totals.get(name, 0) + len(entries)
                model.feeds[name] = kept[len(kept) - total + feed.dropped(total) :]
        for step in commit.steps:
            self._shelves[commit.partition][step.build.model] = str(commit.last)

    async def read_documents(self, partition: int, request: DocumentsRequest) -> DocumentsReply:
        """Return documents, counts and a page, with the tail."""
        model, checkpoint = self._readable(partition, request.name, request.version)
        tail = await self._tail(partition, checkpoint, request.tail_limit)
        return DocumentsReply(
            tail,
            [model.documents.get(key) for key in request.keys],
            [_counts(model, facet) for facet in request.facets],
            _page(model, request.page) if request.page else [],
        )

    async def read_linked(self, partition: int, request: LinkedRequest) -> LinkedReply:
        """Return a document and those it points to, with the tail."""
        model, checkpoint = self._readable(partition, request.name, request.version)
        other, linked_checkpoint = self._readable(
            partition, request.linked_name, request.linked_version
        )
        lower = min(checkpoint, linked_checkpoint, key=lambda each: each.n)
        tail = await self._tail(partition, lower, request.tail_limit)
        document = model.documents.get(request.key)
        target = msgspec.json.decode(document).get(request.field) if document else None
        linked = {} if target is None else {target: other.documents.get(target)}
        return LinkedReply(tail, checkpoint, document, linked_checkpoint, linked)

    async def take_or_read(
        self,
        partition: int,
        events: Sequence[Event],
        expected: Mapping[str, ExpectedState],
        request: LinkedRequest,
    ) -> list[AppendResult] | LinkedReply:
        """Return the events' results, or the reply."""
        assert self._log is not None
        try:
            return await self._log.append(events, expected_version=expected)
        except VersionConflict:
            return await self.read_linked(partition, request)

    async def read_feed(self, partition: int, request: FeedRequest) -> FeedReply:
        """Return a page of a feed, with the tail."""
        model, checkpoint = self._readable(partition, request.name, request.version)
        tail = await self._tail(partition, checkpoint, request.tail_limit)
        items = model.feeds.get(request.feed, [])
        total = model.totals.get(request.feed, 0)
        dropped = total - len(items)
        upto = min(request.before - 1, total) if request.before else total
        first = max(upto - request.limit, dropped) + 1
        page = items[first - dropped - 1 : max(upto - dropped, 0)]
        return FeedReply(tail, total, dropped + 1, first, page)

    async def names(self, partition: int, build: Build) -> Names:
        """Return what is stored of a build, by name."""
        model = self._model(partition, build.model)
        indexes = {name for name, scores in model.indexes.items() if scores}
        return Names(set(model.documents), indexes, set(model.feeds))

    def stored_documents(self, partition: int, model: str) -> dict[str, bytes]:
        """Return every document of a model as JSON, by key."""
        return dict(self._model(partition, model).documents)

    def stored_feeds(self, partition: int, model: str) -> dict[str, list[bytes]]:
        """Return every feed of a model, each item `ms-n`, a space, the event's JSON."""
        return dict(self._model(partition, model).feeds)

    def stored_indexes(self, partition: int, model: str) -> dict[str, dict[str, float]]:
        """Return every index of a model: name → document key → score."""
        return {name: dict(s) for name, s in self._model(partition, model).indexes.items() if s}

    def _readable(self, partition: int, name: str, version: int) -> tuple[_Model, EntryId]:
        shelf = Shelf(self._shelves[partition])
        build = shelf.readable(name, version)
        if build is None:
            return _Model(), START
        return self._model(partition, build.model), shelf.checkpoint(build)

    async def _tail(self, partition: int, checkpoint: EntryId, limit: int) -> Tail:
        if self._log is None or limit == 0:
            return Tail(checkpoint, checkpoint, [])
        head = (await self._log.heads())[partition]
        return Tail(checkpoint, head, await self._log.read_raw(partition, checkpoint, limit, head))


def _counts(model: _Model, facet: str) -> dict[str, int]:
    prefix = f"{facet}:"
    return {
        name.removeprefix(prefix): len(scores)
        for name, scores in model.indexes.items()
        if name.startswith(prefix) and scores
    }


def _page(model: _Model, page: PageRequest) -> list[PageItem]:
    # As the server orders them: by score, and by the bytes of the key where scores are equal.
    ranked = sorted(
        (score, key.encode()) for key, score in model.indexes.get(page.name, {}).items()
    )
    end = len(ranked)
    if page.after is not None:
        end = bisect_left(ranked, (page.after.score, page.after.key.encode()))
    chosen = [
        item for item in ranked[max(0, end - page.limit) : end] if item[0] >= page.lowest_score
    ]
    return [
        PageItem(key.decode(), score, model.documents.get(key.decode()))
        for score, key in reversed(chosen)
    ]
