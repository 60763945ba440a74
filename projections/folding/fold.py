"""Folding: batches of entries into changes of read models. Pure but for the cache of states.

Each projection has one slot that collects its work of a batch by key; then each key's document is
taken up once, folded through all its entries, and encoded once. A slot keeps the documents it saw
last, which is sound as long as nobody else writes them: while the partition's lease is held.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from eventlog.entry import Entry, RawEntry
from eventlog.errors import ConfigurationError
from eventlog.event import Event
from eventlog.settings import Settings
from projections.folding.target import Target
from projections.projection import (
    DocumentProjection,
    FeedProjection,
    IndexEntry,
    Projection,
)
from projections.storing.batch import DocumentChanges, FeedChanges
from projections.storing.departed_file import Departed
from projections.storing.departures import TOMBSTONE

S = TypeVar("S")

CACHED_DOCUMENTS = 4096
"""Documents per projection and partition kept decoded, or as many as a batch touches."""
MET_FEEDS = 50_000
"""Feeds per projection and partition of which it is remembered that they are in Redis."""
TRACEBACK_CHARACTERS = 8000

_encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode


class Poison(NamedTuple):
    """An entry that cannot be decoded (`projection` is None) or that a projection failed on."""

    projection: Projection | None
    raw: RawEntry
    event: Event | None
    error: str
    traceback: str


def poison(
    projection: Projection | None, raw: RawEntry, event: Event | None, error: Exception
) -> Poison:
    """Return the record of a failure."""
    text = "".join(traceback.format_exception(error))[-TRACEBACK_CHARACTERS:]
    return Poison(projection, raw, event, f"{type(error).__name__}: {error}", text)


def apply_with_care(
    projection: DocumentProjection[S],
    decode: Callable[[bytes], S],
    key: str,
    state: S | None,
    entry: Entry,
) -> tuple[S | None, Exception | None]:
    """Return the document after the entry, or as it was and why; never half of a change."""
    before = None if state is None else _encode(state)
    try:
        after = projection.apply(projection.initial(key) if state is None else state, entry)
        if after is not None:
            # What cannot be stored is this entry's failure, not that of a later batch.
            decode(_encode(after))
            _checked(projection.index(key, after))
    except Exception as error:  # noqa: BLE001 - a projection is anybody's code
        return (None if before is None else decode(before)), error
    return after, None


class FoldFailed(Exception):
    """Some entry of the batch failed: fetch the slot's documents again and fold with care."""


def decode_document(projection: Projection, decode: Callable[[bytes], S], raw: bytes) -> S:
    """Return a stored document; ConfigurationError where the program's shape is another."""
    try:
        return decode(raw)
    except msgspec.MsgspecError as error:
        raise ConfigurationError(
            f"a stored document of {projection.model} cannot be read: {error}.",
            remedy="Raise the projection's version when its state changes shape.",
        ) from None


class Cached(Generic[S]):
    """A document as of the last entry folded, and how its stored form is indexed."""

    __slots__ = ("has_left", "indexed", "state")

    def __init__(
        self, state: S | None, indexed: tuple[IndexEntry, ...], *, has_left: bool = False
    ) -> None:
        self.state = state
        self.indexed = indexed
        self.has_left = has_left
        """Whether it is stored no more, and in no index: it is to be written whole."""


class Work(dict[str, list[Entry]]):
    """The entries of a batch by the key they belong to, which has to be text."""

    def __missing__(self, key: str) -> list[Entry]:
        if not isinstance(key, str):
            raise TypeError(f"a key has to be text, not {key!r}")
        entries = self[key] = []
        return entries


class DocumentSlot(Generic[S]):
    """The work of one document projection on one partition."""

    def __init__(self, projection: DocumentProjection[S], model: str) -> None:
        self.projection = projection
        self.model = model
        self.work = Work()
        self.cache: dict[str, Cached[S]] = {}  # ordered from least to most recently used
        self.departures = 0
        """The number of the build's last departure from Redis; above 0, what is not stored may have left."""
        self.touched: dict[str, int] = {}
        """Document → a sequence at or after its last entry, where that is noted."""
        self._decode = msgspec.json.Decoder(projection.state_type).decode
        state_type: Any = projection.state_type
        self._state_class = state_type if isinstance(state_type, type) else object

    def cold_keys(self) -> list[str]:
        """Return the keys of this batch whose documents must be fetched."""
        cache = self.cache
        return [key for key in self.work if key not in cache]

    def warm(
        self,
        keys: Iterable[str],
        stored: Iterable[bytes | None],
        departed: Mapping[str, Departed] = MappingProxyType({}),
    ) -> None:
        """Take the stored documents of `keys`, or those that left; None where there is none."""
        index = self.projection.index
        for key, raw in zip(keys, stored, strict=True):
            left = departed.get(key) if raw is None else None
            body = raw if left is None else left.body
            state = None if body is None or body == TOMBSTONE else self.decode(body)
            indexed = tuple(index(key, state)) if state is not None else ()
            self.cache[key] = Cached(state, indexed, has_left=left is not None)

    def decode(self, raw: bytes) -> S:
        """Return a stored document; ConfigurationError where the program's shape is another."""
        return decode_document(self.projection, self._decode, raw)

    def leave(self, keys: Iterable[str], number: int) -> None:
        """Take note that documents left, and under which number."""
        self.departures = number
        for key in keys:
            self.cache.pop(key, None)

    def fold(self) -> DocumentChanges:
        """Return the batch's changes. Raises FoldFailed, after which the cache lacks its keys."""
        changes = self._changes()
        apply_all, cache = self.projection.apply_all, self.cache
        try:
            for key, entries in self.work.items():
                cached = cache.pop(key)
                state = apply_all(cached.state, key, entries)
                self._record(changes, key, cached, state)
                cache[key] = cached
        except (
            Exception
        ) as error:  # a projection is anybody's code: whatever it raises is contained
            for key in self.work:
                cache.pop(key, None)
            raise FoldFailed from error
        self._finish()
        return changes

    def fold_with_care(self) -> tuple[DocumentChanges, list[Poison]]:
        """Return the changes of what could be folded, and what could not; slower, never raises."""
        changes = self._changes()
        poisons: list[Poison] = []
        careful = partial(apply_with_care, self.projection, self._decode)
        for key, entries in self.work.items():
            cached = self.cache.pop(key)
            state = cached.state
            for entry in entries:
                state, error = careful(key, state, entry)
                if error is not None:
                    raw = RawEntry(entry.id, entry.raw)
                    poisons.append(poison(self.projection, raw, entry.event, error))
            self._record(changes, key, cached, state)
            self.cache[key] = cached
        self._finish()
        return changes, poisons

    def _changes(self) -> DocumentChanges:
        return DocumentChanges(self.model, {}, [], {}, {}, self.projection.facets, {}, [])

    def _record(
        self, changes: DocumentChanges, key: str, cached: Cached[S], state: S | None
    ) -> None:
        indexed: tuple[IndexEntry, ...] = ()
        if state is None:
            self._delete(changes, key, cached)
        else:
            if not isinstance(state, self._state_class):
                raise TypeError(f"a state has to be {self._state_class.__name__}, not {state!r}")
            changes.written[key] = _encode(state).decode()
            indexed = tuple(self.projection.index(key, state))
        if cached.has_left:
            self._bring_back(changes, key, cached.indexed)
            _reindex(changes, key, dict(cached.indexed), dict(indexed), is_new=True)
        elif indexed != cached.indexed:
            _reindex(changes, key, dict(cached.indexed), dict(indexed))
        cached.state, cached.indexed, cached.has_left = state, indexed, False

    def _delete(self, changes: DocumentChanges, key: str, cached: Cached[S]) -> None:
        """Note that there is no such document any more, be there one that left."""
        if not self.departures:
            changes.deleted.append(key)
        elif cached.state is not None or cached.has_left:
            changes.written[key] = TOMBSTONE.decode()

    def _bring_back(
        self, changes: DocumentChanges, key: str, indexed: Iterable[IndexEntry]
    ) -> None:
        """Note that a document is stored again, and which facets' indexes it had left."""
        changes.back.append(key)
        for name, _ in indexed:
            if name.partition(":")[0] in self.projection.facets:
                changes.returned[name] = changes.returned.get(name, 0) + 1

    def _finish(self) -> None:
        # What this batch touched stays, since its change is not committed yet.
        excess = len(self.cache) - max(CACHED_DOCUMENTS, len(self.work))
        self.work.clear()
        if excess > 0:
            for key in list(self.cache)[:excess]:
                del self.cache[key]


def _reindex(
    changes: DocumentChanges,
    key: str,
    old: dict[str, float],
    new: dict[str, float],
    *,
    is_new: bool = False,
) -> None:
    """Note where a document is found now and was not before, and the reverse."""
    for name, score in new.items():
        if is_new or old.get(name) != score:
            if math.isnan(score):
                raise ValueError("a document's index score is not a number")
            changes.indexed.setdefault(name, {})[key] = score
    for name in old:
        if name not in new:
            changes.unindexed.setdefault(name, []).append(key)


class FeedSlot:
    """The work of one feed projection on one partition."""

    def __init__(self, projection: FeedProjection, model: str, settings: Settings) -> None:
        self.projection = projection
        self.model = model
        self.limit = projection.limit(settings)
        self.work = Work()
        self.departures = 0
        """The number of the build's last departure from Redis."""
        self.left: dict[str, int] = {}
        """Feeds of this batch that may have → entries they had by then."""
        self._met: dict[str, None] = {}

    def unmet(self) -> list[str]:
        """Return the feeds of this batch that are new here: they may have left, and come back now."""
        met = self._met
        found = [name for name in self.work if name not in met] if self.departures else []
        if len(met) + len(found) > MET_FEEDS:
            met.clear()
        met.update(dict.fromkeys(found))
        return found

    def leave(self, names: Iterable[str], number: int) -> None:
        """Take note that feeds left, and under which number."""
        self.departures = number
        for name in names:
            self._met.pop(name, None)

    def fold(self) -> FeedChanges:
        """Return the batch's changes."""
        items, left = dict(self.work), self.left
        self.work.clear()
        self.left = {}
        return FeedChanges(self.model, self.limit, items, left)


Slot = DocumentSlot[Any] | FeedSlot

_Route = tuple[tuple[Callable[[Event], str | None], Work, Projection], ...]
"""The projections that want events of one type: their `key`, and where their work gathers."""


def make_slot(target: Target, settings: Settings) -> Slot:
    """Return the slot for a projection of either kind."""
    projection, model = target.projection, target.build.model
    if isinstance(projection, DocumentProjection):
        return DocumentSlot(projection, model)
    if isinstance(projection, FeedProjection):
        return FeedSlot(projection, model, settings)
    raise TypeError(f"{projection!r} is neither a DocumentProjection nor a FeedProjection")


class Folder:
    """Deals the entries of one partition out to the slots of its projections."""

    def __init__(
        self,
        targets: Sequence[Target],
        partition: int,
        decode: Callable[[bytes], Event],
        settings: Settings,
    ) -> None:
        self.slots = [make_slot(target, settings) for target in targets]
        self._partition = partition
        self._decode = decode
        self._routes: dict[type[Event], _Route] = {}

    def deal(self, raws: Iterable[RawEntry]) -> list[Poison]:
        """Hand each entry to the slots that want it; return those that cannot be handed out."""
        poisons: list[Poison] = []
        decode, partition, routes = self._decode, self._partition, self._routes
        new: Callable[[type[Entry], tuple[Any, ...]], Entry] = tuple.__new__
        for raw in raws:
            try:
                event = decode(raw.raw)
            except Exception as error:  # noqa: BLE001 - an upcaster is anybody's code
                poisons.append(poison(None, raw, None, error))
                continue
            # Half the time of Entry(…), which is a noticeable part of an event's cost.
            entry = new(Entry, (partition, raw.id, event, raw.raw))
            route = routes.get(type(event))
            if route is None:
                route = self._route(type(event))
            for key_of, work, projection in route:
                try:
                    key = key_of(event)
                    if key is not None:
                        work[key].append(entry)
                except Exception as error:  # noqa: BLE001 - a projection is anybody's code
                    poisons.append(poison(projection, raw, event, error))
        return poisons

    def _route(self, event_type: type[Event]) -> _Route:
        route = tuple(
            (slot.projection.key, slot.work, slot.projection)
            for slot in self.slots
            if issubclass(event_type, slot.projection.types)
        )
        self._routes[event_type] = route
        return route


def _checked(entries: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return the index entries by name; ValueError where a score has no place in an order."""
    indexed = dict(entries)
    for score in indexed.values():
        if math.isnan(score):
            raise ValueError("a document's index score is not a number")
    return indexed
