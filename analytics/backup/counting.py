"""What entries say of the state beside them: versions, and event ids. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from eventlog.codec import Codec
from eventlog.entity import EntityState
from eventlog.entry import RawEntry
from eventlog.errors import UndecodablePayload
from eventlog.event import UnknownEvent
from eventlog.ids import EntryId


class Counted:
    """What the entries of a partition add up to, shown to it in order."""

    def __init__(self, codec: Codec, remember_from_ms: int) -> None:
        self.entities: defaultdict[str, EntityState] = defaultdict(EntityState)
        """What these entries alone say of each."""
        self.ids: dict[str, EntryId] = {}
        """Event ids that are still to be remembered."""
        self.unknown_types: set[str] = set()
        """Types that this program does not know: whether they have versions it cannot tell."""
        self._codec = codec
        self._remember_from_ms = remember_from_ms

    def add(self, entries: Iterable[RawEntry]) -> None:
        """Take the next entries."""
        for entry in entries:
            try:
                event = self._codec.decode(entry.raw)
            except UndecodablePayload:
                continue
            if isinstance(event, UnknownEvent):
                self.unknown_types.add(event.type)
            if entity := event.entity:
                advanced = EntityState(1, event.entity_mark)
                self.entities[entity] = self.entities[entity].then(advanced)
            if entry.id.ms >= self._remember_from_ms:
                self.ids[event.id] = entry.id


def bucket_of(entry_id: EntryId, head: EntryId, now_ms: int, window_ms: int) -> int | None:
    """Return the time bucket in which an event id is remembered from now on; None: no more.

    An id is as old as it was when the log ended: while a server is away the window does not run out.
    """
    last, now = head.ms // window_ms, now_ms // window_ms
    own = entry_id.ms // window_ms
    if own < last - 1:
        return None
    return own + max(0, now - last)
