"""What left a log's read models in Redis, as their store asks for it. Files are read in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple
from weakref import WeakValueDictionary

import msgspec

from eventlog.errors import HistoryGap
from eventlog.ids import EntryId
from eventlog.log import EventLog
from projections.storing.departed_file import (
    Departed,
    DepartedFile,
    DepartedItem,
    Leaving,
    Place,
)
from projections.storing.store import Names, PageRequest

MAX_TRIES = 20
"""Reads during which something left each time; more mean that Redis is older than the file."""

TOMBSTONE = b"null"
"""Stands in Redis for a document that is deleted, as long as an older one of the key may be in the
file."""

_files: WeakValueDictionary[Path, DepartedFile] = WeakValueDictionary()


class Ended(msgspec.Struct, frozen=True):
    """What is known of a feed that left."""

    total: int
    """Entries it ever took."""
    last: str
    """The id of the last of them."""


class Candidates(NamedTuple):
    """The departed documents that may belong to a page."""

    number: int
    """Of departures, when they were looked for."""
    items: list[DepartedItem]
    is_all: bool
    """Whether there are no more below them."""


class Departures:
    """The departed documents and feeds of a log. Every call may raise HistoryGap."""

    def __init__(self, log: EventLog) -> None:
        path = log.settings.departed_path / f"{log.settings.key_prefix}.sqlite"
        self._file = _files.setdefault(path, DepartedFile(path))
        self._told: dict[Place, int] = {}

    def tell(self, place: Place, number: int) -> None:
        """Take note of what Redis says was the number of a build's last departure."""
        self._told[place] = max(number, self._told.get(place, 0))

    async def number(self, place: Place, at_least: int) -> int:
        """Return the number of a build's last departure."""
        return await asyncio.to_thread(self._file.number, place, at_least)

    async def find(
        self, place: Place, keys: Collection[str], number: int
    ) -> dict[str, Departed] | None:
        """Return what is known of keys that Redis did not have at a number of departures.

        None, where one of them left since: ask Redis again.
        """
        found = await asyncio.to_thread(self._file.find, place, keys, number)
        return None if any(each.number > number for each in found.values()) else found

    async def candidates(self, place: Place, page: PageRequest, limit: int) -> Candidates:
        """Return the first `limit` documents of a page, some of which may be back in Redis."""
        at_least = self._told.get(place, 0)
        if not at_least:
            return Candidates(0, [], is_all=True)
        number, items = await asyncio.to_thread(
            self._file.page, place, page.name, limit, page.after, page.lowest_score, at_least
        )
        return Candidates(number, items, len(items) < limit)

    async def find_any(self, place: Place, keys: Collection[str]) -> dict[str, Departed]:
        """Return what is known of keys, whenever they left."""
        return await asyncio.to_thread(self._file.find, place, keys, 0)

    async def names(self, place: Place) -> Names:
        """Return what of a build left, by name."""
        documents = await asyncio.to_thread(self._file.keys, place, are_feeds=False)
        feeds = await asyncio.to_thread(self._file.keys, place, are_feeds=True)
        return Names(documents, await asyncio.to_thread(self._file.indexes, place), feeds)

    async def put(self, place: Place, leaving: Sequence[Leaving], expected: int) -> bool:
        """Note the departure after the number `expected`; False where another came between."""
        return await asyncio.to_thread(self._file.put, place, leaving, expected)

    async def unlist(self, place: Place, keys: Collection[str], number: int) -> None:
        """Take documents out of the lists that are back in Redis after so many departures."""
        await asyncio.to_thread(self._file.unlist, place, keys, number)

    async def builds(self, projection: str) -> list[Place]:
        """Return the builds of a projection that anything ever left."""
        return await asyncio.to_thread(self._file.builds, projection)

    async def forget(self, places: Collection[Place]) -> None:
        """Delete what is noted of some builds."""
        if places:
            await asyncio.to_thread(self._file.forget, places)


class Tries:
    """Counts reads that something came between. Raises HistoryGap when there are too many."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._count = 0

    def again(self) -> None:
        """Count one more."""
        self._count += 1
        if self._count == MAX_TRIES:
            raise HistoryGap(
                f"documents of {self._place.model} left Redis later than the server in use knows of.",
                remedy="It was put back to an older state: make the read model anew, "
                "`eventlog projections rebuild`.",
            )


def ended(row: Departed) -> tuple[int, EntryId]:
    """Return how many entries a departed feed took, and the last of them."""
    assert row.body is not None
    found = msgspec.json.decode(row.body, type=Ended)
    return found.total, EntryId.parse(found.last)
