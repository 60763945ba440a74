"""What projections need of the place that keeps read models.

Redis in earnest (`redis_models`), memory for tests, time travel and verification
(`memory_models`); one contract suite runs on both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from eventlog.entry import RawEntry
from eventlog.ids import EntryId
from projections.batch import Commit, CommitOutcome


class After(NamedTuple):
    """Where a page goes on: below this score and document key."""

    score: float
    key: str


class PageRequest(NamedTuple):
    """A page of an index, by (score, document key) from the highest down."""

    name: str
    limit: int
    after: After | None = None
    lowest_score: float = float("-inf")


class DocumentsRequest(NamedTuple):
    """What to read of one model in one step."""

    model: str
    tail_limit: int = 0
    """Entries after the checkpoint to bring along; 0 brings none."""
    keys: Sequence[str] = ()
    facets: Sequence[str] = ()
    """Facets whose counts are asked for."""
    page: PageRequest | None = None


class Tail(NamedTuple):
    """How far a model is, how far the log is, and the first entries between."""

    checkpoint: EntryId
    head: EntryId
    entries: list[RawEntry]


class PageItem(NamedTuple):
    """A document of a page, as stored."""

    key: str
    score: float
    document: bytes


class DocumentsReply(NamedTuple):
    """The answer to a DocumentsRequest, all of one moment."""

    tail: Tail
    documents: list[bytes | None]
    facets: list[dict[str, int]]
    """Per facet asked for: value → how many documents have it, without zeros."""
    page: list[PageItem]


class FeedRequest(NamedTuple):
    """A page of a feed: the last `limit` items numbered below `before`, from 1; 0 is the end."""

    model: str
    feed: str
    limit: int
    before: int = 0
    tail_limit: int = 0


class FeedReply(NamedTuple):
    """The answer to a FeedRequest, all of one moment."""

    tail: Tail
    total: int
    """Items the feed ever took."""
    oldest: int
    """The number of the oldest item kept."""
    first: int
    """The number of the first of `items`."""
    items: list[bytes]


class ModelStore(Protocol):
    """Read models by partition. Every method may raise LogUnavailable."""

    async def checkpoints(self, partition: int, models: Sequence[str]) -> list[EntryId]:
        """Return the models' checkpoints, START for one that has none."""
        ...

    async def documents(
        self, partition: int, wanted: Sequence[tuple[str, Sequence[str]]]
    ) -> list[list[bytes | None]]:
        """Return stored documents by (model, keys), None where there is none."""
        ...

    async def commit(self, commit: Commit) -> CommitOutcome:
        """Return what became of the batch."""
        ...

    async def read_documents(self, partition: int, request: DocumentsRequest) -> DocumentsReply:
        """Return documents, counts and a page, with the tail, all of one moment."""
        ...

    async def read_feed(self, partition: int, request: FeedRequest) -> FeedReply:
        """Return a page of a feed, with the tail, all of one moment."""
        ...
