"""Read models in Redis or Valkey, beside the stream they are folded from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from eventlog.batch import Appended, pack_batch, unpack_outcome
from eventlog.connection import in_our_words
from eventlog.entity import ExpectedState
from eventlog.entry import Entry, RawEntry
from eventlog.event import Event
from eventlog.ids import EntryId
from eventlog.keys import Keys, ModelKey, model_pattern, models_pattern
from eventlog.log import EventLog
from eventlog.scripts import Script, load_script
from eventlog.shares import batch_of
from eventlog.writer import AppendResult, results_of
from projections.folding.letters import GROUP
from projections.storing.batch import (
    AlreadyApplied,
    CheckpointGap,
    Commit,
    CommitOutcome,
    Committed,
    EntriesGone,
    GroupGone,
    LeaseLost,
    Superseded,
    feed_item,
)
from projections.storing.build import READABLE, Build, Role, Shelf, role_field
from projections.storing.store import (
    DocumentsReply,
    DocumentsRequest,
    FeedReply,
    FeedRequest,
    LinkedReply,
    LinkedRequest,
    Names,
    PageItem,
    Tail,
)

UNLINKED_AT_ONCE = 1000
FACET_MARK = "#"
"""Begins the name of an index that holds a facet's counts."""

_pack = msgspec.msgpack.Encoder().encode


class RedisModels:
    """The read models of a log. Lost connections are not mended here: the caller starts anew."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._places: dict[tuple[int, str, int], _Place] = {}
        self._commit = load_script("projections", "commit")
        self._read_documents = load_script("projections", "read_documents")
        self._read_linked = load_script("projections", "read_linked")
        self._take_or_read = load_script("projections", "take_or_read")
        self._read_feed = load_script("projections", "read_feed")
        self._fetch = load_script("projections", "fetch")
        self._claim = load_script("projections", "shelf_claim")
        self._begin = load_script("projections", "shelf_begin")
        self._swap = load_script("projections", "shelf_swap")
        self._put_away = load_script("projections", "shelf_put_away")

    # --- the shelf -------------------------------------------------------------------------------

    async def shelf(self, partition: int) -> Shelf:
        """Return the partition's builds and their checkpoints."""
        with in_our_words(self._log.settings):
            stored: Any = await self._log.client.hgetall(self._log.keys.shelf(partition))
        return _shelf(stored)

    async def look_up(self, models: Sequence[tuple[str, int]]) -> None:
        """Find out where the builds of these versions are, in all partitions and one round trip.

        Else the first read of each finds it out, in a round trip of its own.
        """
        pipeline = self._log.client.pipeline(transaction=False)
        for partition in range(self._log.partition_count):
            pipeline.hgetall(self._log.keys.shelf(partition))
        with in_our_words(self._log.settings):
            for partition, stored in enumerate(await pipeline.execute()):
                for name, version in models:
                    self._place(partition, _shelf(stored), name, version)

    async def claim(self, partition: int, builds: Sequence[Build]) -> None:
        """Let builds serve from the start of the log, if the shelf is empty."""
        named = [part for build in builds for part in (build.name, build.mark)]
        await self._on_shelf(self._claim, partition, *named)

    async def begin(self, partition: int, build: Build) -> Build:
        """Return the build of the projection that is in the making: this one, if none was."""
        mark = await self._on_shelf(self._begin, partition, build.name, build.mark)
        return Build.of_mark(build.name, mark.decode())

    async def swap(self, builds: Mapping[int, Build]) -> None:
        """Let the build in the making serve in each partition named, all in one step."""
        pipeline = self._log.client.pipeline(transaction=True)
        for partition, build in builds.items():
            # By source, not by digest: a transaction cannot ask again for a script it lacks.
            keys = self._log.keys.shelf(partition), self._log.keys.stream(partition)
            arguments = build.name, build.mark, GROUP
            pipeline.execute_command("EVAL", self._swap.source, 2, *keys, *arguments)
        with in_our_words(self._log.settings):
            await pipeline.execute()

    async def put_away(self, partition: int, build: Build, role: Role) -> None:
        """Take a build off the shelf if it is there in that role."""
        await self._on_shelf(self._put_away, partition, build.name, role, build.mark)

    async def sweep(self, name: str) -> int:
        """Delete what is stored of a projection's builds that are on no shelf; return how many keys."""
        log, count = self._log.keys.log, 0
        found: dict[int, list[tuple[str, str]]] = {}
        with in_our_words(self._log.settings):
            async for key in self._log.client.scan_iter(models_pattern(log, name), count=1000):
                if parsed := ModelKey.parse(log, key.decode()):
                    found.setdefault(parsed.partition, []).append((parsed.model, key.decode()))
        for partition, stored in found.items():
            # Asked after its keys were found: whatever is being made is on the shelf by then.
            shelf = await self.shelf(partition)
            kept = {build.model for build in shelf.builds.values()}
            doomed = [key for model, key in stored if model not in kept]
            for start in range(0, len(doomed), UNLINKED_AT_ONCE):
                count += await self._call("UNLINK", *doomed[start : start + UNLINKED_AT_ONCE])
        return count

    # --- documents and feeds ---------------------------------------------------------------------

    async def documents(
        self, partition: int, wanted: Sequence[tuple[str, Sequence[str]]]
    ) -> list[list[bytes | None]]:
        """Return stored documents by (model, keys), None where there is none; one round trip."""
        if not wanted:
            return []
        stored = [self._log.keys.documents(partition, model) for model, _ in wanted]
        found: list[list[bytes | None]] = await self._run(
            self._fetch, stored, _pack([keys for _, keys in wanted])
        )
        return found

    async def names(self, partition: int, build: Build) -> Names:
        """Return what is stored of a build, by name; what is written meanwhile may be missing."""
        keys, client = self._log.keys, self._log.client
        documents: set[str] = set()
        found: dict[str, set[str]] = {"index": set(), "feed": set()}
        with in_our_words(self._log.settings):
            stored = client.hscan_iter(keys.documents(partition, build.model), count=1000)
            async for key, _ in stored:
                documents.add(key.decode())
            pattern = model_pattern(keys.log, partition, build.model)
            async for key in client.scan_iter(pattern, count=1000):
                parsed = ModelKey.parse(keys.log, key.decode())
                if parsed and parsed.kind in found:
                    found[parsed.kind].add(parsed.name)
        indexes = {name for name in found["index"] if not name.startswith(FACET_MARK)}
        return Names(documents, indexes, found["feed"])

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
            case b"superseded":
                return Superseded(reply[1].decode())
            case b"entries_gone":
                return EntriesGone()
            case b"group_gone":
                return GroupGone()
            case _:
                return CheckpointGap(reply[1].decode(), EntryId.parse(reply[2]))

    async def read_documents(self, partition: int, request: DocumentsRequest) -> DocumentsReply:
        """Return documents, counts and a page, with the tail, all of one moment."""
        names = self._log.keys

        def packed(place: _Place) -> tuple[list[str], bytes]:
            model = place.model
            keys = _KeyTable([*self._common(partition), names.documents(partition, model)])
            page: Any = False
            if request.page is not None:
                index = keys.place(names.index(partition, model, request.page.name))
                after = request.page.after
                where = [repr(after.score), after.key] if after else [False, False]
                page = [index, request.page.limit, request.page.lowest_score, *where]
            facets = [
                keys.place(_facet_key(names, partition, model, name)) for name in request.facets
            ]
            asked = [place.packed, request.tail_limit, list(request.keys), facets, page]
            return keys.keys, _pack(asked)

        reply = await self._read(self._read_documents, partition, request, packed)
        members, documents = reply[5], reply[6]
        items = [
            PageItem(members[2 * i].decode(), float(members[2 * i + 1]), document)
            for i, document in enumerate(documents)
        ]
        counts = [
            {value.decode(): int(n) for value, n in zip(flat[::2], flat[1::2], strict=True)}
            for flat in reply[4]
        ]
        return DocumentsReply(_tail(reply), reply[3], counts, items)

    async def read_linked(self, partition: int, request: LinkedRequest) -> LinkedReply:
        """Return a document and those it points to, with the tail, all of one moment."""
        return _linked(await self._ask_linked(self._read_linked, partition, request))

    async def take_or_read(
        self,
        partition: int,
        events: Sequence[Event],
        expected: Mapping[str, ExpectedState],
        request: LinkedRequest,
    ) -> list[AppendResult] | LinkedReply:
        """Return the events' results, or the reply, in one step."""
        texts = self._log.codec.encode_all(events)
        batch = batch_of(events, texts, list(expected.items()))
        packed = pack_batch(batch, self._log.settings.dedup_window_s * 1000)
        keys = self._log.keys.append(partition)
        reply = await self._ask_linked(self._take_or_read, partition, request, keys, packed)
        if reply[0] == b"appended":
            outcome = unpack_outcome(reply)
            assert isinstance(outcome, Appended)
            return results_of(partition, outcome, len(events))
        return _linked(reply)

    async def _ask_linked(
        self,
        script: Script,
        partition: int,
        request: LinkedRequest,
        more_keys: Sequence[str] = (),
        *more: bytes,
    ) -> Any:
        """Return the reply for the builds that the request's versions read now."""
        names = self._log.keys
        wanted = [
            (partition, request.name, request.version),
            (partition, request.linked_name, request.linked_version),
        ]
        while True:
            places = [self._places.get(each) or await self._find(*each) for each in wanted]
            stored = [names.documents(partition, place.model) for place in places]
            packed = [place.packed for place in places]
            asked = [request.tail_limit, request.key, request.field, request.entity]
            keys = [*self._common(partition), *stored, names.versions(partition), *more_keys]
            reply = await self._run(script, keys, _pack([*packed, *asked]), *more)
            if reply[0] != b"moved":
                return reply
            self._places.pop(wanted[reply[1] - 1], None)

    async def read_feed(self, partition: int, request: FeedRequest) -> FeedReply:
        """Return a page of a feed, with the tail, all of one moment."""
        names, feed = self._log.keys, request.feed

        def packed(place: _Place) -> tuple[list[str], bytes]:
            keys = [
                *self._common(partition),
                names.feed(partition, place.model, feed),
                names.feeds(partition, place.model),
            ]
            asked = [place.packed, request.tail_limit, feed, request.before, request.limit]
            return keys, _pack(asked)

        reply = await self._read(self._read_feed, partition, request, packed)
        return FeedReply(_tail(reply), *reply[3:])

    def _common(self, partition: int) -> tuple[str, str, str]:
        keys = self._log.keys
        return keys.shelf(partition), keys.stream(partition), keys.head(partition)

    async def _read(
        self,
        script: Script,
        partition: int,
        request: DocumentsRequest | FeedRequest,
        packed: Callable[[_Place], tuple[list[str], bytes]],
    ) -> Any:
        """Return the reply for the build that the request's version reads now."""
        wanted = partition, request.name, request.version
        while True:
            place = self._places.get(wanted) or await self._find(*wanted)
            reply = await self._run(script, *packed(place))
            if reply[0] != b"moved":
                return reply
            self._places.pop(wanted, None)

    async def _find(self, partition: int, name: str, version: int) -> _Place:
        """Return where a version's build is; it is remembered, since the scripts check it."""
        return self._place(partition, await self.shelf(partition), name, version)

    def _place(self, partition: int, shelf: Shelf, name: str, version: int) -> _Place:
        role = shelf.role_of(name, version)
        if role is None:
            found = {each: shelf.get(name, each) for each in READABLE}
            marks = {role_field(name, each): build and build.mark for each, build in found.items()}
            place = _Place(Build(name, version, "0").model, marks)
        else:
            build = shelf.builds[name, role]
            place = _Place(build.model, {role_field(name, role): build.mark})
        self._places[partition, name, version] = place
        return place

    async def _on_shelf(self, script: Script, partition: int, *arguments: str) -> Any:
        with in_our_words(self._log.settings):
            return await script(self._log.client, [self._log.keys.shelf(partition)], arguments)

    async def _run(self, script: Script, keys: Sequence[str], *packed: bytes) -> Any:
        with in_our_words(self._log.settings):
            return await script(self._log.client, keys, packed)

    async def _call(self, *command: Any) -> Any:
        with in_our_words(self._log.settings):
            return await self._log.client.execute_command(*command)


class _Place(NamedTuple):
    """The build that a version reads, or one of which nothing is stored where there is none."""

    model: str
    marks: dict[str, str | None]
    """By field of the shelf: that it holds these says that this is still the place to look."""

    @property
    def packed(self) -> list[Any]:
        return [self.model, [part or False for pair in self.marks.items() for part in pair]]


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
    table = _KeyTable([keys.lease(p, commit.lease.group), keys.shelf(p), keys.stream(p)])
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
        if not feed.items:
            continue
        dropped, prefix = table.place(keys.feeds(p, feed.model)), keys.feed(p, feed.model, "")
        first_place = len(table.keys) + 1
        # Nothing else in the batch speaks of their keys, and many feeds have but one new item.
        table.keys += [prefix + name for name in feed.items]
        lists = [_items(commit, entries) for entries in feed.items.values()]
        items = [each[0] if len(each) == 1 else each for each in lists]
        kept = feed.limit, feed.drop_items
        feeds.append([first_place, len(prefix.encode()), *kept, dropped, items])
    steps = [
        (role_field(build.name, role), build.mark, build.model, str(checkpoint))
        for build, role, checkpoint in commit.steps
    ]
    argument = [
        commit.lease.generation, commit.moves_group and commit.lease.group,
        str(commit.first), str(commit.last), steps, documents, indexes, feeds,
    ]  # fmt: skip
    return table.keys, _pack(argument)


def _items(commit: Commit, entries: Sequence[Entry]) -> list[int] | list[str]:
    """Return the entries as places in the batch, or whole where the stream may not have them.

    The server has the bytes already: sending them back measured a third of a batch's cost.
    """
    if commit.in_stream:
        before = commit.first.n - 1
        return [entry.id.n - before for entry in entries]
    # A payload that decoded is UTF-8 but for keys nobody read; msgpack takes text only.
    return [feed_item(entry).decode(errors="replace") for entry in entries]


def _shelf(stored: Mapping[bytes, bytes]) -> Shelf:
    return Shelf({field.decode(): value.decode() for field, value in stored.items()})


def _facet_key(keys: Keys, partition: int, model: str, facet: str) -> str:
    """Return the key of the sorted set value → count, which sits among the indexes."""
    return keys.index(partition, model, f"{FACET_MARK}{facet}")


def _linked(reply: Any) -> LinkedReply:
    linked = zip(reply[6], reply[7], strict=True)
    return LinkedReply(
        _tail(reply),
        EntryId.parse(reply[3]),
        reply[4],
        EntryId.parse(reply[5]),
        {key.decode(): document for key, document in linked},
    )


def _tail(reply: Any) -> Tail:
    entries = [RawEntry(EntryId.parse(entry_id), fields[1]) for entry_id, fields in reply[2]]
    return Tail(EntryId.parse(reply[0]), EntryId.parse(reply[1]), entries)
