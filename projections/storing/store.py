"""What projections need of the place that keeps read models.

Redis in earnest (`redis_models`), memory for tests, time travel and verification
(`memory_models`); one contract suite runs on both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from eventlog.entity import ExpectedState
from eventlog.entry import RawEntry
from eventlog.event import Event
from eventlog.ids import EntryId
from eventlog.writer import AppendResult
from projections.storing.batch import Commit, CommitOutcome
from projections.storing.build import Build, Role, Shelf


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
    """What to read of one projection in one step, from the build that its version reads."""

    name: str
    version: int
    tail_limit: int = 0
    """Entries after the checkpoint to bring along; 0 brings none."""
    keys: Sequence[str] = ()
    facets: Sequence[str] = ()
    """Facets whose counts are asked for."""
    page: PageRequest | None = None


class Tail(NamedTuple):
    """How far a build is (START where there is none), how far the log is, and the first entries between."""

    checkpoint: EntryId
    head: EntryId
    entries: list[RawEntry]


class PageItem(NamedTuple):
    """A document of a page, as stored."""

    key: str
    score: float
    document: bytes | None
    """None where the index names a document that is not there, which `verify` looks for."""


class DocumentsReply(NamedTuple):
    """The answer to a DocumentsRequest, all of one moment."""

    tail: Tail
    documents: list[bytes | None]
    facets: list[dict[str, int]]
    """Per facet asked for: value → how many documents have it, without zeros."""
    page: list[PageItem]


class LinkedRequest(NamedTuple):
    """A document, and those of another projection that it points to, in one step."""

    name: str
    version: int
    key: str
    field: str
    """Of the document: a key of the other projection, or none."""
    linked_name: str
    linked_version: int
    entity: str
    """Whose version the document's events advance. What holds it by now is given too, where the store
    knows: the document points there once the tail is folded over it."""
    tail_limit: int


class LinkedReply(NamedTuple):
    """The answer to a LinkedRequest, all of one moment."""

    tail: Tail
    """From the lower of the two checkpoints on."""
    checkpoint: EntryId
    document: bytes | None
    linked_checkpoint: EntryId
    linked: dict[str, bytes | None]
    """By key: the one that the document points to, and what holds the entity."""


class FeedRequest(NamedTuple):
    """A page of a feed: the last `limit` items numbered below `before`, from 1; 0 is the end."""

    name: str
    version: int
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


class Names(NamedTuple):
    """What is stored of a build."""

    documents: set[str]
    indexes: set[str]
    """Those of facets' counts left out."""
    feeds: set[str]


class ModelStore(Protocol):
    """Read models by partition. Every method may raise LogUnavailable."""

    async def shelf(self, partition: int) -> Shelf:
        """Return the partition's builds and their checkpoints."""
        ...

    async def look_up(self, models: Sequence[tuple[str, int]]) -> None:
        """Find out where the builds of these (name, version) are, before somebody waits for it."""
        ...

    async def claim(self, partition: int, builds: Sequence[Build]) -> None:
        """Let builds serve from the start of the log, if the shelf is empty."""
        ...

    async def begin(self, partition: int, build: Build) -> Build:
        """Return the build of the projection that is in the making: this one, if none was.

        One that was made before goes on from its checkpoint.
        """
        ...

    async def swap(self, builds: Mapping[int, Build]) -> None:
        """Let the build in the making serve in each partition named, all in one step.

        What served is `previous` then, and what was `previous` is off the shelf. Where another
        build or none is in the making nothing changes.
        """
        ...

    async def put_away(self, partition: int, build: Build, role: Role) -> None:
        """Take a build off the shelf if it is there in that role."""
        ...

    async def sweep(self, name: str) -> int:
        """Delete what is stored of a projection's builds that are on no shelf; return how many keys."""
        ...

    async def documents(
        self, partition: int, wanted: Sequence[tuple[str, Sequence[str]]]
    ) -> list[list[bytes | None]]:
        """Return stored documents by (model of a build, keys), None where there is none."""
        ...

    async def names(self, partition: int, build: Build) -> Names:
        """Return what is stored of a build, by name; what is written meanwhile may be missing."""
        ...

    async def commit(self, commit: Commit) -> CommitOutcome:
        """Return what became of the batch."""
        ...

    async def read_documents(self, partition: int, request: DocumentsRequest) -> DocumentsReply:
        """Return documents, counts and a page, with the tail, all of one moment."""
        ...

    async def read_linked(self, partition: int, request: LinkedRequest) -> LinkedReply:
        """Return a document and those it points to, with the tail, all of one moment."""
        ...

    async def take_or_read(
        self,
        partition: int,
        events: Sequence[Event],
        expected: Mapping[str, ExpectedState],
        request: LinkedRequest,
    ) -> list[AppendResult] | LinkedReply:
        """Append events of the partition, or where an expected version does not hold read, in one step.

        Returns the events' results, or the reply. Appended is with the durability `memory`; it is safe
        to ask again. Raises InvalidEvent and its kin.
        """
        ...

    async def read_feed(self, partition: int, request: FeedRequest) -> FeedReply:
        """Return a page of a feed, with the tail, all of one moment."""
        ...
