"""Read models in Redis or Valkey, beside the stream they are folded from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from eventlog.batch import Appended, pack_batch, unpack_outcome
from eventlog.cluster import ClusterClient
from eventlog.connection import in_our_words
from eventlog.entity import ExpectedState
from eventlog.entry import RawEntry
from eventlog.event import Event
from eventlog.ids import EntryId
from eventlog.keys import ModelKey, model_pattern, models_pattern
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
    Leave,
    Superseded,
)
from projections.storing.build import READABLE, Build, Role, Shelf, role_field
from projections.storing.departed_file import Departed, DepartedItem, Place
from projections.storing.departures import TOMBSTONE, Candidates, Departures, Tries, ended
from projections.storing.packing import (
    FACET_MARK,
    KeyTable,
    facet_key,
    pack,
    pack_commit,
    pack_leave,
)
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
        self._leave = load_script("projections", "leave")
        self._departures = Departures(log)
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
        """Let the build in the making serve in each partition named, all in one step.

        In a cluster, which has no step over several partitions, one after the other: whoever is cut
        short leaves the rest in the making, and the next builder swaps them in.
        """
        in_one_step = not isinstance(self._log.client, ClusterClient)
        with in_our_words(self._log.settings):
            pipeline = self._log.client.pipeline(transaction=in_one_step)
            for partition, build in builds.items():
                # By source, not by digest: a transaction cannot ask again for a script it lacks.
                keys = self._log.keys.shelf(partition), self._log.keys.stream(partition)
                arguments = build.name, build.mark, GROUP
                pipeline.execute_command("EVAL", self._swap.source, 2, *keys, *arguments)
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
        left = await self._departures.builds(name)
        shelves = {place.partition: await self.shelf(place.partition) for place in left}
        await self._departures.forget(
            [
                place
                for place in left
                if place.model not in {b.model for b in shelves[place.partition].builds.values()}
            ]
        )
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
            self._fetch, stored, pack([keys for _, keys in wanted])
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
        left = await self._departures.names(Place(partition, build.model))
        return Names(documents | left.documents, indexes | left.indexes, found["feed"] | left.feeds)

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
        wanted = partition, request.name, request.version
        tries: Tries | None = None
        while True:
            place = self._places.get(wanted) or await self._find(*wanted)
            build = Place(partition, place.model)
            tries = tries or Tries(build)
            reply = await self._read_once(place, build, request)
            if reply is not None:
                return reply
            tries.again()

    async def _read_once(
        self, place: _Place, build: Place, request: DocumentsRequest
    ) -> DocumentsReply | None:
        """Return the answer of a build; None where something came between: ask again.

        What left is looked up before the page is read, so that the same step can tell which of it is
        back; and after the documents are, since most are there.
        """
        page = request.page
        share = page.limit if page else 0
        while True:
            older = Candidates(0, [], is_all=True)
            if page is not None:
                older = await self._departures.candidates(build, page, share)
            keys, packed = self._packed(place, build.partition, request, older)
            reply = await self._run(self._read_documents, keys, packed)
            if reply[0] == b"moved":
                self._places.pop((build.partition, request.name, request.version), None)
                return None
            number = reply[7]
            self._departures.tell(build, number)
            if page is not None and number > older.number:
                return None
            gone = [
                item for item, is_here in zip(older.items, reply[8], strict=True) if not is_here
            ]
            if older.is_all or page is None or len(gone) >= page.limit:
                break
            share *= 2
        documents = await self._with_departed(build, request.keys, reply[3], number)
        if documents is None:
            return None
        counts = [
            {value.decode(): int(n) for value, n in zip(flat[::2], flat[1::2], strict=True)}
            for flat in reply[4]
        ]
        items = _merged(reply[5], reply[6], gone, page.limit) if page else []
        return DocumentsReply(_tail(reply), documents, counts, items)

    def _packed(
        self, place: _Place, partition: int, request: DocumentsRequest, older: Candidates
    ) -> tuple[list[str], bytes]:
        names, model = self._log.keys, place.model
        departures = names.departures(partition, model)
        keys = KeyTable([*self._common(partition), names.documents(partition, model), departures])
        page: Any = False
        if request.page is not None:
            index = keys.place(names.index(partition, model, request.page.name))
            after = request.page.after
            where = [repr(after.score), after.key] if after else [False, False]
            page = [index, request.page.limit, request.page.lowest_score, *where]
        facets = [keys.place(facet_key(names, partition, model, name)) for name in request.facets]
        departed = [item.key for item in older.items]
        asked = [place.packed, request.tail_limit, list(request.keys), facets, page, departed]
        return keys.keys, pack(asked)

    async def _with_departed(
        self, build: Place, keys: Sequence[str], stored: Sequence[bytes | None], number: int
    ) -> list[bytes | None] | None:
        """Return the documents of keys, those included that left; None where one left since."""
        missing = [key for key, raw in zip(keys, stored, strict=True) if raw is None]
        found: dict[str, Departed] | None = {}
        if number and missing:
            found = await self._departures.find(build, missing, number)
        if found is None:
            return None
        return [
            (found[key].body if key in found else None) if raw is None else _told(raw)
            for key, raw in zip(keys, stored, strict=True)
        ]

    async def read_linked(self, partition: int, request: LinkedRequest) -> LinkedReply:
        """Return a document and those it points to, with the tail, all of one moment."""
        reply = await self._ask_linked(self._read_linked, partition, request)
        assert isinstance(reply, LinkedReply)
        return reply

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
        if isinstance(reply, Appended):
            return results_of(partition, reply, len(events))
        return reply

    async def _ask_linked(
        self,
        script: Script,
        partition: int,
        request: LinkedRequest,
        more_keys: Sequence[str] = (),
        *more: bytes,
    ) -> Appended | LinkedReply:
        """Return what the script replies of the builds that the request's versions read now."""
        names = self._log.keys
        wanted = [
            (partition, request.name, request.version),
            (partition, request.linked_name, request.linked_version),
        ]
        tries: Tries | None = None
        while True:
            if not all(each in self._places for each in wanted):
                shelf = await self.shelf(partition)
                for _, name, version in wanted:
                    self._place(partition, shelf, name, version)
            places = [self._places[each] for each in wanted]
            builds = [Place(partition, place.model) for place in places]
            stored = [names.documents(partition, place.model) for place in places]
            departures = [names.departures(partition, place.model) for place in places]
            packed = [place.packed for place in places]
            asked = [request.tail_limit, request.key, request.field, request.entity]
            keys = [*self._common(partition), *stored, names.versions(partition), *departures]
            reply = await self._run(script, [*keys, *more_keys], pack([*packed, *asked]), *more)
            if reply[0] == b"moved":
                for each in wanted:
                    self._places.pop(each, None)
                continue
            if reply[0] == b"appended":
                outcome = unpack_outcome(reply)
                assert isinstance(outcome, Appended)
                return outcome
            linked = await self._linked(request, reply, builds)
            if linked is not None:
                return linked
            tries = tries or Tries(builds[0])
            tries.again()

    async def _linked(
        self, request: LinkedRequest, reply: Any, builds: Sequence[Place]
    ) -> LinkedReply | None:
        """Return what the reply says, those included that left; None where one left since.

        Where the document left, the server still knows its holder, and named it.
        """
        own = await self._with_departed(builds[0], [request.key], [reply[4]], reply[8])
        keys = [key.decode() for key in reply[6]]
        linked = await self._with_departed(builds[1], keys, reply[7], reply[9])
        if own is None or linked is None:
            return None
        return LinkedReply(
            _tail(reply),
            EntryId.parse(reply[3]),
            own[0],
            EntryId.parse(reply[5]),
            dict(zip(keys, linked, strict=True)),
        )

    async def read_feed(self, partition: int, request: FeedRequest) -> FeedReply:
        """Return a page of a feed, with the tail, all of one moment."""
        names, feed = self._log.keys, request.feed
        wanted = partition, request.name, request.version
        tries: Tries | None = None
        while True:
            place = self._places.get(wanted) or await self._find(*wanted)
            build = Place(partition, place.model)
            tries = tries or Tries(build)
            keys = [
                *self._common(partition),
                names.feed(partition, place.model, feed),
                names.feeds(partition, place.model),
                names.departures(partition, place.model),
            ]
            asked = [place.packed, request.tail_limit, feed, request.before, request.limit]
            reply = await self._run(self._read_feed, keys, pack(asked))
            if reply[0] == b"moved":
                self._places.pop(wanted, None)
                continue
            if not reply[7]:
                return FeedReply(_tail(reply), *reply[3:7])
            found = await self._departures.find(build, [feed], reply[7])
            if found is None:
                tries.again()
                continue
            if feed not in found:
                return FeedReply(_tail(reply), *reply[3:7])
            total, last = ended(found[feed])
            return FeedReply(_tail(reply), total, total + 1, total + 1, [], left_at=last)

    # --- what leaves -----------------------------------------------------------------------------

    async def departures(self, partition: int, models: Sequence[str]) -> list[int]:
        """Return how often documents or feeds left each of some builds. Raises HistoryGap."""
        pipeline = self._log.client.pipeline(transaction=False)
        for model in models:
            pipeline.hget(self._log.keys.departures(partition, model), "")
        with in_our_words(self._log.settings):
            told: Any = await pipeline.execute()
        numbers = [int(number or 0) for number in told]
        for model, number in zip(models, numbers, strict=True):
            if number:  # they must be there
                await self._departures.number(Place(partition, model), number)
        return numbers

    async def departed(
        self, partition: int, model: str, keys: Collection[str]
    ) -> Mapping[str, Departed]:
        """Return what is known of documents or feeds that are not stored and may have left.

        For the owner of the build alone, since nothing else leaves or comes back meanwhile.
        """
        return await self._departures.find_any(Place(partition, model), keys)

    async def returned(
        self, partition: int, model: str, keys: Collection[str], number: int
    ) -> None:
        """Note that documents are stored again that had left in the first `number` departures."""
        await self._departures.unlist(Place(partition, model), keys, number)

    async def departure_number(self, partition: int, model: str, at_least: int) -> int:
        """Return the number of the last departure that was noted of a build.

        Raises HistoryGap where it is less than what Redis told.
        """
        return await self._departures.number(Place(partition, model), at_least)

    async def some_documents(
        self, partition: int, model: str, cursor: int, count: int
    ) -> tuple[int, dict[str, bytes]]:
        """Return about `count` stored documents of a build and the cursor of the following, 0 at the end."""
        with in_our_words(self._log.settings):
            key = self._log.keys.documents(partition, model)
            reply: Any = await self._log.client.hscan(key, cursor, count=count)
        following, found = reply
        return int(following), {key.decode(): raw for key, raw in found.items()}

    async def some_feeds(
        self, partition: int, model: str, cursor: int, count: int
    ) -> tuple[int, dict[str, tuple[int, bytes]]]:
        """Return how many entries some feeds ever took, and the last item of each; cursor as above."""
        keys, client = self._log.keys, self._log.client
        with in_our_words(self._log.settings):
            reply: Any = await client.hscan(keys.feeds(partition, model), cursor, count=count)
            following, stored = reply
            names = {name.decode(): int(dropped) for name, dropped in stored.items()}
            pipeline = client.pipeline(transaction=False)
            for name in names:
                pipeline.llen(keys.feed(partition, model, name))
                pipeline.lindex(keys.feed(partition, model, name), -1)
            replies: Any = await pipeline.execute() if names else []
        lasts = zip(names.items(), replies[::2], replies[1::2], strict=True)
        return int(following), {
            name: (dropped + length, item) for (name, dropped), length, item in lasts if item
        }

    async def are_there(self, partition: int, model: str, keys: Sequence[str]) -> list[bool]:
        """Return of documents whether each is stored."""
        place = self._log.keys.documents(partition, model)
        pipeline = self._log.client.pipeline(transaction=False)
        for key in keys:
            pipeline.hexists(place, key)
        with in_our_words(self._log.settings):
            return list(map(bool, await pipeline.execute())) if keys else []

    async def leave(self, leave: Leave) -> bool:
        """Return whether documents or feeds have left: noted, durably, and then gone from Redis.

        Where this ends in between they are both, which counts as not gone. Nobody else may have
        changed them since they were read: the lease, and the checkpoint, say so.
        """
        place = Place(leave.partition, leave.step.build.model)
        leaving = [*leave.documents, *leave.feeds]
        if not await self._departures.put(place, leaving, leave.number - 1):
            return False
        return bool(await self._run(self._leave, *pack_leave(leave, self._log.keys)))

    def _common(self, partition: int) -> tuple[str, str, str]:
        keys = self._log.keys
        return keys.shelf(partition), keys.stream(partition), keys.head(partition)

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


def _told(raw: bytes | None) -> bytes | None:
    """Return a stored document, None for one that is deleted."""
    return None if raw == TOMBSTONE else raw


def _merged(
    members: Sequence[bytes],
    documents: Sequence[bytes | None],
    gone: Sequence[DepartedItem],
    limit: int,
) -> list[PageItem]:
    """Return the first of a page, which is in Redis for one part and has left it for the other."""
    items = [
        PageItem(members[2 * i].decode(), float(members[2 * i + 1]), document)
        for i, document in enumerate(documents)
    ]
    if gone:
        items += [PageItem(*item) for item in gone]
        items.sort(key=lambda item: (item.score, item.key.encode()), reverse=True)
    return items[:limit]


def _shelf(stored: Mapping[bytes, bytes]) -> Shelf:
    return Shelf({field.decode(): value.decode() for field, value in stored.items()})


def _tail(reply: Any) -> Tail:
    entries = [RawEntry(EntryId.parse(entry_id), fields[1]) for entry_id, fields in reply[2]]
    return Tail(EntryId.parse(reply[0]), EntryId.parse(reply[1]), entries)
