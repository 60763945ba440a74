"""Live reads: what is stored, plus the log's tail folded over it.

A projector may lag or be down: a reader still sees every event that was in the log when it asked,
its own writes above all. It costs a fold of the tail, in memory and without side effects, and one
round trip when there is no tail. Consistency "stored" leaves the tail out.

Stored state and checkpoint are read in one step, so that it is known which entries are in them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Generic, Literal, NamedTuple, TypeVar

import msgspec

from eventlog.entry import Entry
from eventlog.errors import InvalidQuery
from eventlog.ids import START, EntryId
from eventlog.log import EventLog
from projections.folding.fold import apply_with_care, decode_document
from projections.projection import DocumentProjection
from projections.reading.paging import Page, check_limit, decode_cursor, encode_cursor
from projections.reading.tail import TAIL_PAGE_ENTRIES, follow, tail_pages
from projections.storing.default_store import default_store
from projections.storing.store import (
    After,
    DocumentsReply,
    DocumentsRequest,
    ModelStore,
    PageRequest,
    Tail,
)

S = TypeVar("S")

Consistency = Literal["live", "stored"]

ALL_PAGE_DOCUMENTS = 500


class _Place(NamedTuple):
    """Where a page over all partitions ended."""

    score: float
    key: str
    partition: int


class _WentBack(Exception):
    """What is stored stands before where it stood a moment ago: it is another build."""


class Found(NamedTuple, Generic[S]):
    """A document of a page."""

    key: str
    score: float
    partition: int
    document: S


class LiveDocuments(Generic[S]):
    """Reads the documents of one projection."""

    def __init__(
        self, log: EventLog, projection: DocumentProjection[S], store: ModelStore | None = None
    ) -> None:
        self._log = log
        self._projection = projection
        self._store: ModelStore = store or default_store(log)
        self._decode_document = msgspec.json.Decoder(projection.state_type).decode

    async def get(self, partition: int, key: str, consistency: Consistency = "live") -> S | None:
        """Return the document, or None."""
        return (await self.get_many(partition, [key], consistency))[0]

    async def get_many(
        self, partition: int, keys: Sequence[str], consistency: Consistency = "live"
    ) -> list[S | None]:
        """Return the documents of distinct keys of one partition, all of one moment."""
        reply = await self._read(partition, consistency, keys=keys)
        states = {key: self._decode(raw) for key, raw in zip(keys, reply.documents, strict=True)}
        async for key, entry in follow(self._log, self._projection, partition, reply.tail):
            if key in states:
                states[key] = self._apply(key, states[key], entry)
        return list(states.values())

    async def find(self, key: str, consistency: Consistency = "live") -> list[S]:
        """Return the documents of that key in whatever partition; all are asked at once."""
        partitions = range(self._log.partition_count)
        states = await asyncio.gather(*(self.get(p, key, consistency) for p in partitions))
        return [state for state in states if state is not None]

    async def counts(self, facet: str, consistency: Consistency = "live") -> dict[str, int]:
        """Return how many documents each value of a facet has, over all partitions."""
        reads = (
            self._read_partition(p, consistency, None, facet)
            for p in range(self._log.partition_count)
        )
        total: Counter[str] = Counter()
        for _, counts in await asyncio.gather(*reads):
            total.update(counts)
        return {value: count for value, count in total.items() if count}

    async def page(
        self,
        index: str,
        limit: int,
        cursor: str | None = None,
        consistency: Consistency = "live",
        *,
        lowest_score: float = float("-inf"),
        below_score: float = float("inf"),
    ) -> Page[S]:
        """Return up to `limit` documents of an index, highest score first, over all partitions.

        Only scores from `lowest_score` up to, not with, `below_score`. Raises InvalidCursor, and
        InvalidQuery for a limit below 1.
        """
        check_limit(limit)
        place = None if cursor is None else decode_cursor(cursor, _Place)
        if below_score < (float("inf") if place is None else place.score):
            # Below the end with any key there is: no key sorts under the empty one.
            place = _Place(below_score, "", self._log.partition_count)
        # One more than asked for tells whether there is a next page.
        request = PageRequest(index, limit + 1, lowest_score=lowest_score)
        found = await self._merged(request, place, consistency)
        following = None
        if len(found) > limit:
            last = found[limit - 1]
            following = encode_cursor(_Place(last.score, last.key, last.partition))
        return Page([item.document for item in found[:limit]], following)

    async def _merged(
        self, request: PageRequest, place: _Place | None, consistency: Consistency
    ) -> list[Found[S]]:
        """Return the first of all partitions, at most the request's limit, in order.

        Every partition is asked for somewhat more than its share. One whose last item made it into
        the page may have more that belongs there: it is asked again, for all it might have.
        """
        partition_count = self._log.partition_count
        share = min(request.limit, 2 * -(-request.limit // partition_count) + 1)
        asked: dict[int, int] = {}
        runs: dict[int, list[Found[S]]] = {}
        short = set(range(partition_count))
        while short:
            asked |= {p: request.limit if p in asked else share for p in short}
            reads = (
                self._read_partition(
                    p, consistency, request._replace(limit=asked[p], after=_after(place, p))
                )
                for p in short
            )
            for p, (run, _) in zip(short, await asyncio.gather(*reads), strict=True):
                runs[p] = run
            found = [item for run in runs.values() for item in run]
            found.sort(key=_order, reverse=True)
            del found[request.limit :]
            short = {
                p
                for p, run in runs.items()
                if len(run) == asked[p] < request.limit
                and (len(found) < request.limit or _order(run[-1]) > _order(found[-1]))
            }
        return found

    async def all(self, index: str, consistency: Consistency = "live") -> AsyncIterator[S]:
        """Yield every document of an index, page by page."""
        cursor = None
        while True:
            page = await self.page(index, ALL_PAGE_DOCUMENTS, cursor, consistency)
            for document in page.items:
                yield document
            cursor = page.cursor
            if cursor is None:
                return

    async def partition_page(
        self,
        partition: int,
        index: str,
        limit: int,
        scores: tuple[float, float],
        consistency: Consistency = "live",
    ) -> list[S]:
        """Return up to `limit` documents of one partition, highest score first.

        `scores` is the lowest, inclusive, and the end, exclusive.
        """
        # Below the end with any key there is: no key sorts under the empty one.
        request = PageRequest(index, limit, After(scores[1], ""), scores[0])
        found, _ = await self._read_partition(partition, consistency, request)
        return [item.document for item in found]

    async def _read(
        self,
        partition: int,
        consistency: Consistency,
        *,
        keys: Sequence[str] = (),
        facet: str | None = None,
        page: PageRequest | None = None,
        not_before: EntryId = START,
    ) -> DocumentsReply:
        """Return what is stored; raises _WentBack where it is less than an earlier step had."""
        tail_limit = TAIL_PAGE_ENTRIES if consistency == "live" else 0
        facets = [] if facet is None else [facet]
        request = DocumentsRequest(
            self._projection.name, self._projection.version, tail_limit, keys, facets, page
        )
        reply = await self._store.read_documents(partition, request)
        if reply.tail.checkpoint < not_before:
            raise _WentBack
        if consistency == "stored":
            reply = reply._replace(tail=reply.tail._replace(head=reply.tail.checkpoint))
        return reply

    async def _read_partition(
        self,
        partition: int,
        consistency: Consistency,
        page: PageRequest | None,
        facet: str | None = None,
    ) -> tuple[list[Found[S]], dict[str, int]]:
        """Return a page and a facet's counts, the tail's changes laid over what is stored."""
        while True:
            try:
                return await self._read_at_once(partition, consistency, page, facet)
            except _WentBack:  # another build was swapped in between two steps
                continue

    async def _read_at_once(
        self,
        partition: int,
        consistency: Consistency,
        page: PageRequest | None,
        facet: str | None,
    ) -> tuple[list[Found[S]], dict[str, int]]:
        reply = await self._read(partition, consistency, facet=facet, page=page)
        head = reply.tail.head
        changed = await self._changed(partition, reply.tail)
        if changed:
            # Each changed document may drop out of the stored page, hence the margin.
            wider = page and page._replace(limit=page.limit + len(changed))
            reply = await self._read(
                partition,
                "stored",
                keys=list(changed),
                facet=facet,
                page=wider,
                not_before=reply.tail.checkpoint,
            )
        found = [
            Found(item.key, item.score, partition, self._decode_stored(item.document))
            for item in reply.page
            if item.key not in changed and item.document is not None
        ]
        counts = Counter(reply.facets[0] if facet else {})
        for (key, folded), raw in zip(changed.items(), reply.documents, strict=True):
            stored = self._decode(raw)
            # A projector may have passed us meanwhile: then what it stored is at least as new.
            current = stored if reply.tail.checkpoint >= head else folded
            before, now = self._indexed(key, stored), self._indexed(key, current)
            if facet:
                counts.subtract(_values(before, facet))
                counts.update(_values(now, facet))
            if page and current is not None and _belongs(page, key, now.get(page.name)):
                found.append(Found(key, now[page.name], partition, current))
        found.sort(key=_order, reverse=True)
        return found[: page.limit if page else 0], dict(counts)

    async def _changed(self, partition: int, tail: Tail) -> dict[str, S | None]:
        """Return the documents that the tail touches, folded up to its head."""
        states: dict[str, S | None] = {}
        bases: dict[str, EntryId] = {}
        async for page in tail_pages(self._log, self._projection, partition, tail):
            new = list({key: None for key, _ in page if key not in states})
            if new:
                reply = await self._read(partition, "stored", keys=new, not_before=tail.checkpoint)
                for key, raw in zip(new, reply.documents, strict=True):
                    states[key], bases[key] = self._decode(raw), reply.tail.checkpoint
            for key, entry in page:
                if entry.id > bases[key]:
                    states[key] = self._apply(key, states[key], entry)
        return states

    def _apply(self, key: str, state: S | None, entry: Entry) -> S | None:
        # An entry that fails leaves no trace here; the projector is who parks it.
        return apply_with_care(self._projection, self._decode_document, key, state, entry)[0]

    def _decode_stored(self, raw: bytes) -> S:
        return decode_document(self._projection, self._decode_document, raw)

    def _decode(self, raw: bytes | None) -> S | None:
        return None if raw is None else self._decode_stored(raw)

    def _indexed(self, key: str, state: S | None) -> dict[str, float]:
        return {} if state is None else dict(self._projection.index(key, state))


def one_index(choices: Mapping[str, str | None]) -> str:
    """Return the index that a list's arguments choose, `all` where none is given.

    Raises InvalidQuery for more than one.
    """
    given = [f"{name}:{value}" for name, value in choices.items() if value is not None]
    if len(given) > 1:
        raise InvalidQuery(
            f"a list takes one of {', '.join(choices)}, not {len(given)} of them.",
            remedy="Name the narrowest and filter its pages.",
        )
    return given[0] if given else "all"


def _values(indexed: dict[str, float], facet: str) -> list[str]:
    prefix = f"{facet}:"
    return [name.removeprefix(prefix) for name in indexed if name.startswith(prefix)]


def _order(item: Found[S]) -> tuple[float, bytes, int]:
    return item.score, item.key.encode(), -item.partition


def _after(place: _Place | None, partition: int) -> After | None:
    """Return where a partition's page goes on, given where the merged page ended."""
    if place is None:
        return None
    # A later partition may hold an equal (score, key), which comes after: start just above it.
    key = place.key + "\0" if partition > place.partition else place.key
    return After(place.score, key)


def _belongs(page: PageRequest, key: str, score: float | None) -> bool:
    if score is None or score < page.lowest_score:
        return False
    if page.after is None:
        return True
    return (score, key.encode()) < (page.after.score, page.after.key.encode())
