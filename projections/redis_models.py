"""Read models in Redis or Valkey, beside the stream they are folded from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from eventlog.connection import in_our_words
from eventlog.entry import Entry, RawEntry
from eventlog.ids import START, EntryId
from eventlog.keys import Keys
from eventlog.log import EventLog
from eventlog.scripts import Script, load_script
from projections.batch import (
    AlreadyApplied,
    CheckpointGap,
    Commit,
    CommitOutcome,
    Committed,
    EntriesGone,
    GroupGone,
    LeaseLost,
    feed_item,
)
from projections.store import (
    DocumentsReply,
    DocumentsRequest,
    FeedReply,
    FeedRequest,
    PageItem,
    Tail,
)

_pack = msgspec.msgpack.Encoder().encode


class RedisModels:
    """The read models of a log. Lost connections are not mended here: the caller starts anew."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._commit = load_script("projections", "commit")
        self._read_documents = load_script("projections", "read_documents")
        self._read_feed = load_script("projections", "read_feed")

    async def checkpoints(self, partition: int, models: Sequence[str]) -> list[EntryId]:
        """Return the models' checkpoints, START for one that has none."""
        if not models:
            return []
        key = self._log.keys.checkpoints(partition)
        stored = await self._call("HMGET", key, *models)
        return [EntryId.parse(checkpoint) if checkpoint else START for checkpoint in stored]

    async def documents(
        self, partition: int, wanted: Sequence[tuple[str, Sequence[str]]]
    ) -> list[list[bytes | None]]:
        """Return stored documents by (model, keys), None where there is none; one round trip."""
        if not wanted:
            return []
        pipeline = self._log.client.pipeline(transaction=False)
        for model, keys in wanted:
            pipeline.execute_command("HMGET", self._log.keys.documents(partition, model), *keys)
        with in_our_words(self._log.settings):
            return list(await pipeline.execute())

    async def commit(self, commit: Commit) -> CommitOutcome:
        """Return what became of the batch; it is applied whole, in one step, or not at all."""
        keys, packed = pack_commit(commit, self._log.keys)
        reply = await self._run(self._commit, keys, packed)
        match reply[0]:
            case b"committed":
                return Committed()
            case b"already_applied":
                return AlreadyApplied()
            case b"fenced":
                return LeaseLost()
            case b"entries_gone":
                return EntriesGone()
            case b"group_gone":
                return GroupGone()
            case _:
                return CheckpointGap(reply[1].decode(), EntryId.parse(reply[2]))

    async def read_documents(self, partition: int, request: DocumentsRequest) -> DocumentsReply:
        """Return documents, counts and a page, with the tail, all of one moment."""
        names, model = self._log.keys, request.model
        keys = _KeyTable([*self._common(partition), names.documents(partition, model)])
        page: Any = False
        if request.page is not None:
            index = keys.place(names.index(partition, model, request.page.name))
            after = request.page.after
            place = [repr(after.score), after.key] if after else [False, False]
            page = [index, request.page.limit, request.page.lowest_score, *place]
        facets = [keys.place(_facet_key(names, partition, model, name)) for name in request.facets]
        packed = _pack([model, request.tail_limit, list(request.keys), facets, page])
        reply = await self._run(self._read_documents, keys.keys, packed)
        members, documents = reply[5], reply[6]
        items = [
            PageItem(members[2 * i].decode(), float(members[2 * i + 1]), document)
            for i, document in enumerate(documents)
            if document is not None
        ]
        counts = [
            {value.decode(): int(n) for value, n in zip(flat[::2], flat[1::2], strict=True)}
            for flat in reply[4]
        ]
        return DocumentsReply(_tail(reply), reply[3], counts, items)

    async def read_feed(self, partition: int, request: FeedRequest) -> FeedReply:
        """Return a page of a feed, with the tail, all of one moment."""
        names, model, feed = self._log.keys, request.model, request.feed
        keys = [
            *self._common(partition),
            names.feed(partition, model, feed),
            names.feeds(partition, model),
        ]
        packed = _pack([model, request.tail_limit, feed, request.before, request.limit])
        reply = await self._run(self._read_feed, keys, packed)
        return FeedReply(_tail(reply), *reply[3:])

    def _common(self, partition: int) -> tuple[str, str, str]:
        keys = self._log.keys
        return keys.checkpoints(partition), keys.stream(partition), keys.head(partition)

    async def _run(self, script: Script, keys: Sequence[str], packed: bytes) -> Any:
        with in_our_words(self._log.settings):
            return await script(self._log.client, keys, [packed])

    async def _call(self, *command: Any) -> Any:
        with in_our_words(self._log.settings):
            return await self._log.client.execute_command(*command)


class _KeyTable:
    """Keys of a script call, each declared once and spoken of by its place, from 1."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = keys
        self._places = {key: place for place, key in enumerate(keys, 1)}

    def place(self, key: str) -> int:
        place = self._places.get(key)
        if place is None:
            self.keys.append(key)
            place = self._places[key] = len(self.keys)
        return place


def pack_commit(commit: Commit, keys: Keys) -> tuple[list[str], bytes]:
    """Return the keys and the argument of `commit.lua`, as its header describes them."""
    p = commit.partition
    table = _KeyTable([keys.lease(p, commit.lease.group), keys.checkpoints(p), keys.stream(p)])
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
            facet, _, value = name.partition(":")
            counted = facet in change.facets and table.place(
                _facet_key(keys, p, change.model, facet)
            )
            indexes.append([place, scored, change.unindexed.get(name, ()), counted, value])
    feeds: list[Any] = []
    for feed in commit.feeds:
        dropped = table.place(keys.feeds(p, feed.model))
        for name, entries in feed.items.items():
            place = table.place(keys.feed(p, feed.model, name))
            feeds.append([place, feed.limit, _items(commit, entries), dropped, name])
    models = [part for model, at in commit.expected.items() for part in (model, str(at))]
    argument = [
        commit.lease.generation, commit.moves_group and commit.lease.group,
        str(commit.first), str(commit.last), models, documents, indexes, feeds,
    ]  # fmt: skip
    return table.keys, _pack(argument)


def _items(commit: Commit, entries: Sequence[Entry]) -> list[int] | list[str]:
    """Return the entries as places in the batch, or whole where the stream may not have them.

    The server has the bytes already: sending them back measured a third of a batch's cost.
    """
    if commit.moves_group:
        before = commit.first.n - 1
        return [entry.id.n - before for entry in entries]
    # A payload that decoded is UTF-8 but for keys nobody read; msgpack takes text only.
    return [feed_item(entry).decode(errors="replace") for entry in entries]


def _facet_key(keys: Keys, partition: int, model: str, facet: str) -> str:
    """Return the key of the sorted set value → count, which sits among the indexes."""
    return keys.index(partition, model, f"#{facet}")


def _tail(reply: Any) -> Tail:
    entries = [RawEntry(EntryId.parse(entry_id), fields[1]) for entry_id, fields in reply[2]]
    return Tail(EntryId.parse(reply[0]), EntryId.parse(reply[1]), entries)
