"""Verify: is a read model what the log says? The fold is made anew and both are asked the same.

It works while projectors do: each answer of the stored model says at which entry it stands, and the
fold is taken on to just there before it answers. So nothing has to hold still, and each document,
list, count and feed is compared as of one moment. What left Redis is compared like what is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any, Literal, NamedTuple

import msgspec

from eventlog.entry import Entry
from eventlog.errors import BuildMissing, EventLogError
from eventlog.ids import START, EntryId
from eventlog.log import EventLog
from eventlog.past import NoPast, Past
from projections.building.touched import Touched, entries_that_touched
from projections.folding.replay import Moment, Replay
from projections.projection import DocumentProjection, FeedProjection, Projection
from projections.reading.cold import ColdReader, just_after
from projections.storing.batch import feed_item
from projections.storing.default_store import default_store
from projections.storing.departures import ended
from projections.storing.memory_models import MemoryModels
from projections.storing.store import (
    After,
    DocumentsRequest,
    FeedReply,
    FeedRequest,
    ModelStore,
    PageRequest,
)

KEYS_AT_ONCE = 500
_ENCODER = msgspec.json.Encoder(order="deterministic")

Kind = Literal["document", "index", "count", "feed"]


class Difference(NamedTuple):
    """Where the stored model and the fold part, first by kind and then by name."""

    kind: Kind
    name: str
    """The document's key, or the index, facet or feed."""
    key: str
    """The document or feed it is about."""
    stored: str | None
    folded: str | None
    touched: Touched
    """The entries that had to do with the key."""


class Verified(NamedTuple):
    """One partition's outcome."""

    model: str
    partition: int
    position: EntryId
    """How far the stored model was at the end."""
    name_count: int
    """Documents, lists and feeds that were compared."""
    stored_digest: str
    folded_digest: str
    """Of everything compared, in order. Models that stand at one position have the same digest."""
    difference: Difference | None

    @property
    def agrees(self) -> bool:
        """Whether the stored model is the fold of the log."""
        return self.difference is None


class _Pair(NamedTuple):
    """What both said to one question."""

    kind: Kind
    name: str
    key: str
    stored: Any
    folded: Any


async def verify(
    log: EventLog,
    projection: Projection,
    *,
    past: Past | None = None,
    store: ModelStore | None = None,
) -> AsyncIterator[Verified]:
    """Yield the outcome of each partition. Holds one partition's model in memory at a time.

    Raises BuildMissing where nothing is stored of the projection's version, HistoryGap where the log
    cannot be folded from its start.
    """
    store = store or default_store(log)
    for partition in range(log.partition_count):
        yield await _Verification(log, projection, store, past, partition).run()


class _Verification:
    def __init__(
        self,
        log: EventLog,
        projection: Projection,
        store: ModelStore,
        past: Past | None,
        partition: int,
    ) -> None:
        self._log = log
        self._projection = projection
        self._store = store
        self._past = past
        self._partition = partition
        self._models = MemoryModels()
        self._replay = Replay(log, projection, self._models, partition, past)
        self._followed_n = 0

    async def run(self) -> Verified:
        projection, partition = self._projection, self._partition
        shelf = await self._store.shelf(partition)
        build = shelf.readable(projection.name, projection.version)
        if build is None and (await self._log.heads())[partition] > START:
            raise BuildMissing(
                f"nothing is stored of {projection.model} in partition {partition}.",
                remedy="Project first (`eventlog up`), or `eventlog projections rebuild`.",
            )
        await self._replay.start()
        stored_hash, folded_hash = hashlib.sha256(), hashlib.sha256()
        difference, count = None, 0
        async for pair in self._pairs():
            count += 1
            stored, folded = _ENCODER.encode(pair.stored), _ENCODER.encode(pair.folded)
            for text, digest in ((stored, stored_hash), (folded, folded_hash)):
                digest.update(f"{pair.kind} {pair.name} {pair.key} {len(text)} ".encode() + text)
            if stored != folded and difference is None:
                touched = await entries_that_touched(
                    self._log, projection, partition, pair.key, self._past
                )
                difference = Difference(
                    pair.kind,
                    pair.name,
                    pair.key,
                    _shown(pair.stored),
                    _shown(pair.folded),
                    touched,
                )
        position = (await self._store.shelf(partition)).checkpoint(build) if build else START
        return Verified(
            projection.model,
            partition,
            position,
            count,
            stored_hash.hexdigest()[:16],
            folded_hash.hexdigest()[:16],
            difference,
        )

    async def _pairs(self) -> AsyncIterator[_Pair]:
        # A first answer brings the fold to where the stored model stands.
        await self._documents([])
        shelf = await self._store.shelf(self._partition)
        build = shelf.readable(self._projection.name, self._projection.version)
        if build is None:
            return
        stored = await self._store.names(self._partition, build)
        folded = await self._models.names(self._partition, self._replay.build)
        documents = sorted(stored.documents | folded.documents)
        for start in range(0, len(documents), KEYS_AT_ONCE):
            for pair in await self._documents(documents[start : start + KEYS_AT_ONCE]):
                yield pair
        for index in sorted(stored.indexes | folded.indexes):
            async for pair in self._index(index):
                yield pair
        for pair in await self._counts():
            yield pair
        for feed in sorted(stored.feeds | folded.feeds):
            yield await self._feed(feed)

    async def _documents(self, keys: list[str]) -> list[_Pair]:
        request = self._asking(keys=keys)
        stored = await self._store.read_documents(self._partition, request)
        await self._follow(stored.tail.checkpoint)
        folded = await self._models.read_documents(self._partition, request)
        return [
            _Pair("document", key, key, _document(a), _document(b))
            for key, a, b in zip(keys, stored.documents, folded.documents, strict=True)
        ]

    async def _index(self, index: str) -> AsyncIterator[_Pair]:
        after: After | None = None
        while True:
            request = self._asking(page=PageRequest(index, KEYS_AT_ONCE, after))
            stored = await self._store.read_documents(self._partition, request)
            await self._follow(stored.tail.checkpoint)
            folded = await self._models.read_documents(self._partition, request)
            ours = [(float(item.score), item.key) for item in stored.page]
            theirs = [(float(item.score), item.key) for item in folded.page]
            differing = set(ours) ^ set(theirs)
            key = max(differing)[1] if differing else (ours[0][1] if ours else "")
            yield _Pair("index", index, key, ours, theirs)
            if differing or len(ours) < KEYS_AT_ONCE:
                return
            after = After(*ours[-1])

    async def _counts(self) -> list[_Pair]:
        if not isinstance(self._projection, DocumentProjection) or not self._projection.facets:
            return []
        request = self._asking(facets=self._projection.facets)
        stored = await self._store.read_documents(self._partition, request)
        await self._follow(stored.tail.checkpoint)
        folded = await self._models.read_documents(self._partition, request)
        return [
            _Pair("count", facet, "", a, b)
            for facet, a, b in zip(
                self._projection.facets, stored.facets, folded.facets, strict=True
            )
        ]

    async def _feed(self, feed: str) -> _Pair:
        name, version = self._projection.name, self._projection.version
        request = FeedRequest(name, version, feed, limit=1_000_000)
        stored = await self._store.read_feed(self._partition, request)
        await self._follow(stored.tail.checkpoint)
        folded = await self._models.read_feed(self._partition, request)
        older = await self._that_left(feed, stored, len(folded.items) - len(stored.items))
        answers = (
            (reply.total, [item.decode(errors="replace") for item in items])
            for reply, items in ((stored, older + stored.items), (folded, folded.items))
        )
        return _Pair("feed", feed, feed, *answers)

    async def _that_left(self, feed: str, stored: FeedReply, count: int) -> list[bytes]:
        """Return the last `count` items before those that are stored, where they left Redis."""
        projection, partition = self._projection, self._partition
        build = (await self._store.shelf(partition)).readable(projection.name, projection.version)
        if count <= 0 or build is None or not isinstance(projection, FeedProjection):
            return []
        known = await self._store.departed(partition, build.model, [feed])
        if feed not in known:
            return []
        if stored.items:
            before = EntryId.parse(stored.items[0].partition(b" ")[0])
        else:
            before = just_after(ended(known[feed])[1])
        reader = ColdReader(self._log, self._past or NoPast(), projection)
        found: list[Entry] = []
        while len(found) < count:
            cold = await reader.older(feed, before, count - len(found))
            found, before = [*cold.entries, *found], cold.edge
            if cold.is_all:
                break
        return [feed_item(entry) for entry in found]

    def _asking(self, **what: Any) -> DocumentsRequest:
        return DocumentsRequest(self._projection.name, self._projection.version, **what)

    async def _follow(self, checkpoint: EntryId) -> None:
        """Take the fold to where the stored model stood when it answered."""
        if checkpoint.n == self._followed_n:
            return
        if checkpoint.n < self._followed_n:
            raise EventLogError(
                f"{self._projection.model} went back while it was verified.",
                remedy="It was rolled back or rebuilt: verify again.",
            )
        await self._replay.advance(Moment(sequences={self._partition: checkpoint.n}))
        self._followed_n = checkpoint.n


def _document(raw: bytes | None) -> Any:
    return None if raw is None else msgspec.json.decode(raw)


def _shown(value: Any) -> str | None:
    return None if value is None else _ENCODER.encode(value).decode()
