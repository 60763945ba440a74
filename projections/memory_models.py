"""Read models in memory: for tests of your own program, for time travel and verification.

It takes the same decisions as the scripts, shown by the contract suite that runs on both.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from eventlog.ids import START, EntryId
from eventlog.log import EventLog
from projections.batch import (
    AlreadyApplied,
    CheckpointGap,
    Commit,
    CommitOutcome,
    Committed,
    LeaseLost,
    feed_item,
)
from projections.store import (
    DocumentsReply,
    DocumentsRequest,
    FeedReply,
    FeedRequest,
    PageItem,
    PageRequest,
    Tail,
)


@dataclass
class _Model:
    checkpoint: EntryId = START
    documents: dict[str, bytes] = field(default_factory=dict)
    indexes: dict[str, dict[str, float]] = field(default_factory=dict)
    feeds: dict[str, list[bytes]] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)


class MemoryModels:
    """Read models as dicts. With a log, reads see its tail; without one there is none."""

    def __init__(self, log: EventLog | None = None) -> None:
        self._log = log
        self._models: dict[tuple[int, str], _Model] = {}
        self.generations: dict[tuple[str, int], int] = {}
        """(group, partition) → the generation of its lease; a lower one is fenced."""

    def _model(self, partition: int, model: str) -> _Model:
        return self._models.setdefault((partition, model), _Model())

    async def checkpoints(self, partition: int, models: Sequence[str]) -> list[EntryId]:
        """Return the models' checkpoints, START for one that has none."""
        return [self._model(partition, model).checkpoint for model in models]

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
        misplaced = [
            (name, stored)
            for name, expected in commit.expected.items()
            if (stored := self._model(commit.partition, name).checkpoint) != expected
        ]
        passed = [name for name, stored in misplaced if stored >= commit.last]
        if len(passed) == len(commit.expected):
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
                model.feeds[name] = kept[-feed.limit :]
                model.totals[name] = model.totals.get(name, 0) + len(entries)
        for name in commit.expected:
            self._model(commit.partition, name).checkpoint = commit.last

    async def read_documents(self, partition: int, request: DocumentsRequest) -> DocumentsReply:
        """Return documents, counts and a page, with the tail."""
        model = self._model(partition, request.model)
        tail = await self._tail(partition, model, request.tail_limit)
        return DocumentsReply(
            tail,
            [model.documents.get(key) for key in request.keys],
            [_counts(model, facet) for facet in request.facets],
            _page(model, request.page) if request.page else [],
        )

    async def read_feed(self, partition: int, request: FeedRequest) -> FeedReply:
        """Return a page of a feed, with the tail."""
        model = self._model(partition, request.model)
        tail = await self._tail(partition, model, request.tail_limit)
        items = model.feeds.get(request.feed, [])
        total = model.totals.get(request.feed, 0)
        dropped = total - len(items)
        upto = min(request.before - 1, total) if request.before else total
        first = max(upto - request.limit, dropped) + 1
        page = items[first - dropped - 1 : max(upto - dropped, 0)]
        return FeedReply(tail, total, dropped + 1, first, page)

    def stored_documents(self, partition: int, model: str) -> dict[str, bytes]:
        """Return every document of a model as JSON, by key."""
        return dict(self._model(partition, model).documents)

    def stored_indexes(self, partition: int, model: str) -> dict[str, dict[str, float]]:
        """Return every index of a model: name → document key → score."""
        return {name: dict(s) for name, s in self._model(partition, model).indexes.items() if s}

    async def _tail(self, partition: int, model: _Model, limit: int) -> Tail:
        checkpoint = model.checkpoint
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
        PageItem(key.decode(), score, model.documents[key.decode()])
        for score, key in reversed(chosen)
    ]
