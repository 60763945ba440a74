"""What one batch does to the read models of a partition: data, decided before anything is written."""

from __future__ import annotations

from typing import Literal, NamedTuple

from eventlog.entry import Entry
from eventlog.ids import EntryId
from eventlog.lease import Lease


class DocumentChanges(NamedTuple):
    """Changes to the documents of one model."""

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


class FeedChanges(NamedTuple):
    """Entries that join the feeds of one model."""

    model: str
    limit: int
    """How many items a feed keeps."""
    items: dict[str, list[Entry]]
    """Feed name → the entries that join it."""


class Commit(NamedTuple):
    """A batch folded: applied whole, in one step, or not at all."""

    partition: int
    lease: Lease
    """Whose work this is; stale generations are fenced."""
    expected: dict[str, EntryId]
    """Model → the checkpoint it must have; the models that this batch moves on."""
    first: EntryId
    last: EntryId
    """The entries folded, consecutive; `last` is the checkpoint afterwards."""
    moves_group: bool
    """Whether the lease's group moves on too: when all models do, with entries of the stream."""
    documents: list[DocumentChanges]
    feeds: list[FeedChanges]


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
    """Every model had the batch: an earlier call succeeded and its reply was lost."""

    outcome: Literal["already_applied"] = "already_applied"


class LeaseLost(NamedTuple):
    """Somebody else holds the lease; nothing was written."""

    outcome: Literal["fenced"] = "fenced"


class CheckpointGap(NamedTuple):
    """A model stands elsewhere than expected; nothing was written."""

    model: str
    stored: EntryId
    outcome: Literal["gap"] = "gap"


CommitOutcome = Committed | AlreadyApplied | LeaseLost | CheckpointGap | EntriesGone | GroupGone


def feed_item(entry: Entry) -> bytes:
    """Return an entry as an item of a feed: `ms-n`, a space, the event's JSON."""
    return b"%d-%d %b" % (*entry.id, entry.raw)
