"""Values: small documents of JSON under names, such as the state of a dialogue; many per conversation."""

from __future__ import annotations

import msgspec

from eventlog.entry import Entry
from eventlog.log import EventLog
from eventlog.scoped import scoped
from eventlog.vocabulary import ValuesChanged
from projections.projection import DocumentProjection
from projections.reading.live import Consistency, LiveDocuments
from projections.storing.store import ModelStore


class KeptValues(msgspec.Struct, omit_defaults=True):
    """What is kept under one name; each value is JSON text. `updated_at` is µs UTC."""

    values: dict[str, str] = {}
    updated_at: int = 0


class ValuesProjection(DocumentProjection[KeptValues]):
    """Lays changes over each other; where nothing is left, nothing is kept."""

    name = "values"
    types = (ValuesChanged,)
    state_type = KeptValues

    def key(self, event: ValuesChanged) -> str:
        """Return the name, which is its own within the conversation."""
        return scoped(event.conversation, event.name)

    def initial(self, key: str) -> KeptValues:  # noqa: ARG002 - alike for every name
        """Return no values."""
        return KeptValues()

    def apply(self, state: KeptValues, entry: Entry) -> KeptValues | None:
        """Return the values after the entry."""
        event = entry.event
        assert isinstance(event, ValuesChanged)
        state.values = event.values if event.is_whole else {**state.values, **event.values}
        state.updated_at = max(state.updated_at, event.occurred_at)
        return state if state.values else None

    def idle_since(self, state: KeptValues) -> int:
        """Return when they last changed."""
        return state.updated_at


VALUES = ValuesProjection()


class Values:
    """Questions about values. Every call may raise LogUnavailable."""

    def __init__(self, log: EventLog, store: ModelStore | None = None) -> None:
        self._log = log
        self._documents = LiveDocuments(log, VALUES, store)

    async def get(
        self, conversation: str, name: str, *, consistency: Consistency = "live"
    ) -> KeptValues | None:
        """Return what is kept under the name, or None."""
        partition = self._log.partition_of(conversation)
        return await self._documents.get(partition, scoped(conversation, name), consistency)
