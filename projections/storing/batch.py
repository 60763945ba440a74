"""What one batch does to the read models of a partition: data, decided before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from eventlog.entry import Entry
from eventlog.ids import EntryId
from eventlog.lease import Lease
from projections.storing.build import Build, Role
from projections.storing.departed_file import Leaving


class DocumentChanges(NamedTuple):
    """Changes to the documents of one build."""

    model: str
    written: dict[str, str]
    """Document key → state as JSON."""
    deleted: list[str]
    indexed: dict[str, dict[str, float]]
    """Index name → document key → score, where they are new or differ."""
    unindexed: dict[str, list[str]]
    """Index name → document keys that left it."""
    facets: tuple[str, ...] = ()
    """The projection's facets, whose counts move with the indexes."""
    returned: dict[str, int] = {}
    """Index of a facet → how many of the documents are back that had left Redis from it."""
    back: list[str] = []
    """Documents written that had left."""


LARGEST_DROP_ITEMS = 64


class FeedChanges(NamedTuple):
    """Entries that join the feeds of one build."""

    model: str
    limit: int
    """How many items a feed keeps at least."""
    items: dict[str, list[Entry]]
    """Feed name → the entries that join it."""
    left: Mapping[str, int] = MappingProxyType({})
    """Feed name → how many entries it had when it left Redis; one that is there is younger."""

    @property
    def drop_items(self) -> int:
        """How many items a feed drops at once, so that few batches have to: it keeps so many more."""
        return max(1, min(LARGEST_DROP_ITEMS, self.limit // 4))

    def dropped(self, total: int) -> int:
        """Return how many items a feed has dropped that ever took `total`."""
        return max(0, (total - self.limit) // self.drop_items * self.drop_items)


class Step(NamedTuple):
    """A build that a batch moves on."""

    build: Build
    role: Role
    """In which it must be on the shelf."""
    checkpoint: EntryId
    """Which it must have."""
    departures: int = 0
    """The number of its last departure, as it was when its documents were looked at."""


class Commit(NamedTuple):
    """A batch folded: applied whole, in one step, or not at all."""

    partition: int
    lease: Lease
    """Whose work this is; stale generations are fenced."""
    steps: tuple[Step, ...]
    first: EntryId
    """The first entry folded."""
    last: EntryId
    """The checkpoint afterwards."""
    in_stream: bool
    """Whether the entries are those of the stream from `first` to `last`, without gap."""
    moves_group: bool
    """Whether the lease's group moves on too, as far as every serving build has come."""
    documents: list[DocumentChanges]
    feeds: list[FeedChanges]


class Leave(NamedTuple):
    """Documents or feeds of one build that leave Redis: all of them, in one step, or none."""

    partition: int
    lease: Lease
    """Whose work this is; stale generations are fenced."""
    step: Step
    """The build, its role, and the checkpoint at which these were read."""
    number: int
    """Of this departure."""
    documents: Sequence[Leaving] = ()
    feeds: Sequence[Leaving] = ()
    facets: tuple[str, ...] = ()


class EntriesGone(NamedTuple):
    """Entries of the batch are no longer in the stream; nothing was written."""

    outcome: Literal["entries_gone"] = "entries_gone"


class GroupGone(NamedTuple):
    """The group that should move on does not exist; nothing was written."""

    outcome: Literal["group_gone"] = "group_gone"


class Committed(NamedTuple):
    """The batch was applied."""

    outcome: Literal["committed"] = "committed"


class AlreadyApplied(NamedTuple):
    """Every build had the batch already; nothing was written."""

    outcome: Literal["already_applied"] = "already_applied"


class LeaseLost(NamedTuple):
    """Somebody else holds the lease; nothing was written."""

    outcome: Literal["fenced"] = "fenced"


class Superseded(NamedTuple):
    """A build is no longer in its role, or documents left it meanwhile; nothing was written."""

    model: str
    outcome: Literal["superseded"] = "superseded"


class CheckpointGap(NamedTuple):
    """A build stands elsewhere than expected; nothing was written."""

    model: str
    stored: EntryId
    outcome: Literal["gap"] = "gap"


CommitOutcome = (
    Committed | AlreadyApplied | LeaseLost | Superseded | CheckpointGap | EntriesGone | GroupGone
)


def feed_item(entry: Entry) -> bytes:
    """Return an entry as an item of a feed: `ms-n`, a space, the event's JSON."""
    return b"%d-%d %b" % (*entry.id, entry.raw)
