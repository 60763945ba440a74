"""A live read of a document and the one it points to, in one round trip.

What a bot asks first of every message: which session is this chat in, and how does it stand?
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from eventlog.entity import FREE, ExpectedState
from eventlog.entry import Entry
from eventlog.event import Event
from eventlog.ids import EntryId
from eventlog.log import EventLog
from eventlog.writer import AppendResult
from projections.folding.fold import apply_with_care, decode_document
from projections.projection import DocumentProjection
from projections.reading.live import LiveDocuments
from projections.reading.tail import TAIL_PAGE_ENTRIES, tail_entries
from projections.storing.default_store import default_store
from projections.storing.store import LinkedReply, LinkedRequest, ModelStore

A = TypeVar("A")
B = TypeVar("B")
S = TypeVar("S")


class Link(NamedTuple, Generic[A, B]):
    """A document, and the one it points to."""

    document: A | None
    linked: B | None


class LinkedDocuments(Generic[A, B]):
    """Reads documents of one projection whose `field` holds a key of another, in the same partition."""

    def __init__(
        self,
        log: EventLog,
        projection: DocumentProjection[A],
        field: str,
        linked: DocumentProjection[B],
        store: ModelStore | None = None,
    ) -> None:
        self._log = log
        self._field = field
        self._store: ModelStore = store or default_store(log)
        self._own = _Reader(projection)
        self._linked = _Reader(linked)
        self._readers: tuple[_Reader[Any], _Reader[Any]] = self._own, self._linked
        self._others = LiveDocuments(log, linked, self._store)

    async def prepare(self) -> None:
        """Find out where the documents are, so that no call has to; may raise LogUnavailable."""
        models = [(each.projection.name, each.projection.version) for each in self._readers]
        await self._store.look_up(models)

    async def get(self, partition: int, key: str, entity: str) -> Link[A, B]:
        """Return the document and the one it points to, each with what the log has after it.

        `entity` is the one whose version the document's events advance: its mark says where the
        document points by then, which saves a second round trip where the log's tail says so.
        """
        reply = await self._store.read_linked(partition, self._request(key, entity))
        return await self._folded(partition, key, reply)

    async def take_or_get(
        self, partition: int, key: str, entity: str, events: Sequence[Event]
    ) -> list[AppendResult] | Link[A, B]:
        """Append the events if nobody holds the entity, and return their results; else as `get`.

        They are one step, of the durability `memory`; all else they advance must be new. Raises
        InvalidEvent and its kin.
        """
        new: dict[str, ExpectedState] = {each.entity: 0 for each in events if each.entity}
        request = self._request(key, entity)
        reply = await self._store.take_or_read(partition, events, new | {entity: FREE}, request)
        if isinstance(reply, list):
            return reply
        return await self._folded(partition, key, reply)

    def _request(self, key: str, entity: str) -> LinkedRequest:
        own, linked = self._own.projection, self._linked.projection
        return LinkedRequest(
            own.name,
            own.version,
            key,
            self._field,
            linked.name,
            linked.version,
            entity,
            TAIL_PAGE_ENTRIES,
        )

    async def _folded(self, partition: int, key: str, reply: LinkedReply) -> Link[A, B]:
        own, linked = self._own, self._linked
        document = own.decoded(reply.document)
        states = {each: linked.decoded(raw) for each, raw in reply.linked.items()}
        async for entries in tail_entries(self._log, own.projection, partition, reply.tail):
            for entry in entries:
                if own.key_of(entry, reply.checkpoint) == key:
                    document = own.apply(key, document, entry)
                other = linked.key_of(entry, reply.linked_checkpoint)
                if other in states:
                    states[other] = linked.apply(other, states[other], entry)
        target = None if document is None else getattr(document, self._field)
        if target is None:
            return Link(document, None)
        if target in states:
            return Link(document, states[target])
        return Link(document, await self._others.get(partition, target))


class _Reader(Generic[S]):
    """Decodes and folds the documents of one projection."""

    def __init__(self, projection: DocumentProjection[S]) -> None:
        self.projection = projection
        self._decode = msgspec.json.Decoder(projection.state_type).decode

    def decoded(self, raw: bytes | None) -> S | None:
        return None if raw is None else decode_document(self.projection, self._decode, raw)

    def key_of(self, entry: Entry, checkpoint: EntryId) -> str | None:
        """Return which document an entry after the checkpoint concerns."""
        event: Event = entry.event
        if entry.id <= checkpoint or not isinstance(event, self.projection.types):
            return None
        try:
            return self.projection.key(event)
        except Exception:  # noqa: BLE001 - anybody's code; the projector is who parks the entry
            return None

    def apply(self, key: str, state: S | None, entry: Entry) -> S | None:
        # An entry that fails leaves no trace here; the projector is who parks it.
        return apply_with_care(self.projection, self._decode, key, state, entry)[0]
