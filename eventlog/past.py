"""Entries that may have left the log: the archive, as the layers that fold and read see it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from typing import NamedTuple, Protocol

from eventlog.entry import RawEntry
from eventlog.ids import START, EntryId


class Stretch(NamedTuple):
    """A piece of a partition's history, read in order."""

    entries: list[RawEntry]
    """Those asked for; where only some types were, others are left out."""
    end: EntryId
    """How far it reaches: the next stretch, or whoever reads on, begins after it."""


class Past(Protocol):
    """What was archived, partition by partition. Reading blocks nothing that runs beside it."""

    async def position(self, partition: int) -> EntryId:
        """Return the last entry that can be read without a gap, START where there is none."""
        ...

    def read(
        self,
        partition: int,
        after: EntryId,
        until: EntryId | None = None,
        types: Collection[str] | None = None,
    ) -> AsyncGenerator[Stretch]:
        """Yield what was archived after `after`, up to and with `until` or the position, in order.

        With `types` only entries of these types, and those that cannot be decoded. Memory is
        bounded whatever the length. Raises HistoryGap where a piece is missing or damaged.
        """
        ...

    async def of_conversation(
        self,
        partition: int,
        conversation: str,
        types: Collection[str],
        *,
        limit: int,
        after: int = 0,
        before: int | None = None,
        newest_first: bool = False,
    ) -> list[RawEntry]:
        """Return up to `limit` of a conversation's entries between two sequences, both exclusive.

        The oldest of them in order, or with `newest_first` the newest, newest first. Cost grows
        with how far back they lie, not with the size of the archive.
        """
        ...


class NoPast:
    """The past of a log that has no archive: nothing, so that readers find in the log what there is."""

    async def position(self, partition: int) -> EntryId:  # noqa: ARG002 - of every one alike
        """Return START."""
        return START

    async def read(
        self,
        partition: int,  # noqa: ARG002
        after: EntryId,  # noqa: ARG002
        until: EntryId | None = None,  # noqa: ARG002
        types: Collection[str] | None = None,  # noqa: ARG002
    ) -> AsyncGenerator[Stretch]:
        """Yield nothing."""
        return
        yield

    async def of_conversation(
        self,
        partition: int,  # noqa: ARG002
        conversation: str,  # noqa: ARG002
        types: Collection[str],  # noqa: ARG002
        *,
        limit: int,  # noqa: ARG002
        after: int = 0,  # noqa: ARG002
        before: int | None = None,  # noqa: ARG002
        newest_first: bool = False,  # noqa: ARG002
    ) -> list[RawEntry]:
        """Return nothing."""
        return []
