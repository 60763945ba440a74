"""Reading read models in Redis: what is stored, what has left, and the log's tail, of one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eventlog.batch import Appended, pack_batch, unpack_outcome
from eventlog.entity import ExpectedState
from eventlog.entry import RawEntry
from eventlog.event import Event
from eventlog.ids import EntryId
from eventlog.log import EventLog
from eventlog.scripts import Script, load_script
from eventlog.shares import batch_of
from eventlog.writer import AppendResult, results_of
from projections.storing.departed_file import Departed, DepartedItem, Place
from projections.storing.departures import TOMBSTONE, Candidates, Tries, ended
from projections.storing.packing import KeyTable, facet_key, pack
from projections.storing.redis_steps import FoundBuild, RedisSteps
from projections.storing.store import (
    DocumentsReply,
    DocumentsRequest,
    FeedReply,
    FeedRequest,
    LinkedReply,
    LinkedRequest,
    PageItem,
    Tail,
)


class RedisReads(RedisSteps):
    """Live reads, each a script call."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self._read_documents = load_script("projections", "read_documents")
        self._read_linked = load_script("projections", "read_linked")
        self._take_or_read = load_script("projections", "take_or_read")
        self._read_feed = load_script("projections", "read_feed")

    async def read_documents(self, partition: int, request: DocumentsRequest) -> DocumentsReply:
        """Return documents, counts and a page, with the tail, all of one moment."""
        wanted = partition, request.name, request.version
        tries: Tries | None = None
        while True:
            place = self._found.get(wanted) or await self._find(*wanted)
            build = Place(partition, place.model)
            tries = tries or Tries(build)
            reply = await self._read_once(place, build, request)
            if reply is not None:
                return reply
            tries.again()

    async def _read_once(
        self, place: FoundBuild, build: Place, request: DocumentsRequest
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
                self._found.pop((build.partition, request.name, request.version), None)
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
        self, place: FoundBuild, partition: int, request: DocumentsRequest, older: Candidates
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
            if not all(each in self._found for each in wanted):
                shelf = await self.shelf(partition)
                for _, name, version in wanted:
                    self._place(partition, shelf, name, version)
            places = [self._found[each] for each in wanted]
            builds = [Place(partition, place.model) for place in places]
            stored = [names.documents(partition, place.model) for place in places]
            departures = [names.departures(partition, place.model) for place in places]
            packed = [place.packed for place in places]
            asked = [request.tail_limit, request.key, request.field, request.entity]
            keys = [*self._common(partition), *stored, names.versions(partition), *departures]
            reply = await self._run(script, [*keys, *more_keys], pack([*packed, *asked]), *more)
            if reply[0] == b"moved":
                for each in wanted:
                    self._found.pop(each, None)
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
            place = self._found.get(wanted) or await self._find(*wanted)
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
                self._found.pop(wanted, None)
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


def _tail(reply: Any) -> Tail:
    entries = [RawEntry(EntryId.parse(entry_id), fields[1]) for entry_id, fields in reply[2]]
    return Tail(EntryId.parse(reply[0]), EntryId.parse(reply[1]), entries)
