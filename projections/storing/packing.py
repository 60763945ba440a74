"""The arguments of the scripts that write read models, packed as their headers describe them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from eventlog.entry import Entry
from eventlog.keys import Keys
from projections.storing.batch import Commit, DocumentChanges, Leave, feed_item
from projections.storing.build import role_field

FACET_MARK = "#"
"""Begins the name of an index that holds a facet's counts."""

pack = msgspec.msgpack.Encoder().encode


class KeyTable:
    """Keys of a script call, each declared once and spoken of by its place, from 1."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = keys
        self._places = {key: place for place, key in enumerate(keys, 1)}

    def place(self, key: str) -> int:
        """Return the key's place."""
        place = self._places.get(key)
        if place is None:
            self.keys.append(key)
            place = self._places[key] = len(self.keys)
        return place


def pack_commit(commit: Commit, keys: Keys) -> tuple[list[str], bytes]:
    """Return the keys and the argument of `commit.lua`, as its header describes them."""
    p = commit.partition
    table = KeyTable([keys.lease(p, commit.lease.group), keys.shelf(p), keys.stream(p)])
    documents: list[Any] = []
    indexes: list[Any] = []
    for change in commit.documents:
        if change.written or change.deleted:
            written = [part for pair in change.written.items() for part in pair]
            place = table.place(keys.documents(p, change.model))
            documents.append([place, written, change.deleted])
        for name in change.indexed.keys() | change.unindexed.keys():
            joined = change.indexed.get(name, {})
            scored = [part for key, score in joined.items() for part in (score, key)]
            place = table.place(keys.index(p, change.model, name))
            joins_and_parts = [place, scored, change.unindexed.get(name, ())]
            indexes.append([*joins_and_parts, *_counted(table, commit, change, name, keys)])
    feeds: list[Any] = []
    for feed in commit.feeds:
        if not feed.items:
            continue
        dropped, prefix = table.place(keys.feeds(p, feed.model)), keys.feed(p, feed.model, "")
        first_place = len(table.keys) + 1
        # Nothing else in the batch speaks of their keys, and many feeds have but one new item.
        table.keys += [prefix + name for name in feed.items]
        lists = [_items(commit, entries) for entries in feed.items.values()]
        items = [each[0] if len(each) == 1 else each for each in lists]
        kept = feed.limit, feed.drop_items
        left = [part for n, name in enumerate(feed.items, 1) if name in feed.left
                for part in (n, feed.left[name])]  # fmt: skip
        feeds.append([first_place, len(prefix.encode()), *kept, dropped, items, left])
    steps = [
        (
            role_field(build.name, role),
            build.mark,
            build.model,
            str(checkpoint),
            table.place(keys.departures(p, build.model)),
            departures,
        )
        for build, role, checkpoint, departures in commit.steps
    ]
    argument = [
        commit.lease.generation, commit.moves_group and commit.lease.group,
        str(commit.first), str(commit.last), steps, documents, indexes, feeds,
    ]  # fmt: skip
    return table.keys, pack(argument)


def _counted(
    table: KeyTable, commit: Commit, change: DocumentChanges, index: str, keys: Keys
) -> list[Any]:
    """Return what says how a facet counts an index, nothing but False where none does."""
    facet, _, value = index.partition(":")
    if facet not in change.facets:
        return [False]
    counted = table.place(facet_key(keys, commit.partition, change.model, facet))
    departures = table.place(keys.departures(commit.partition, change.model))
    return [counted, value, departures, index, change.returned.get(index, 0)]


def pack_leave(leave: Leave, keys: Keys) -> tuple[list[str], bytes]:
    """Return the keys and the argument of `leave.lua`, as its header describes them."""
    p, build = leave.partition, leave.step.build
    table = KeyTable(
        [
            keys.lease(p, leave.lease.group),
            keys.shelf(p),
            keys.documents(p, build.model),
            keys.departures(p, build.model),
            keys.feeds(p, build.model),
        ]
    )
    members: dict[str, list[str]] = {}
    for document in leave.documents:
        for name, _ in document.indexed:
            members.setdefault(name, []).append(document.key)
    indexes = []
    for name, left in members.items():
        facet, _, value = name.partition(":")
        place = table.place(keys.index(p, build.model, name))
        counted = facet in leave.facets and table.place(facet_key(keys, p, build.model, facet))
        indexes.append([place, left, counted, value, name])
    first_place = len(table.keys) + 1
    feeds = [feed.key for feed in leave.feeds]
    table.keys += [keys.feed(p, build.model, name) for name in feeds]
    argument = [
        leave.lease.generation, [build.model, role_field(build.name, leave.step.role), build.mark],
        str(leave.step.checkpoint), leave.number, [each.key for each in leave.documents], indexes,
        [first_place, feeds],
    ]  # fmt: skip
    return table.keys, pack(argument)


def _items(commit: Commit, entries: Sequence[Entry]) -> list[int] | list[str]:
    """Return the entries as places in the batch, or whole where the stream may not have them.

    The server has the bytes already: sending them back measured a third of a batch's cost.
    """
    if commit.in_stream:
        before = commit.first.n - 1
        return [entry.id.n - before for entry in entries]
    # A payload that decoded is UTF-8 but for keys nobody read; msgpack takes text only.
    return [feed_item(entry).decode(errors="replace") for entry in entries]


def facet_key(keys: Keys, partition: int, model: str, facet: str) -> str:
    """Return the key of the sorted set value → count, which sits among the indexes."""
    return keys.index(partition, model, f"{FACET_MARK}{facet}")
