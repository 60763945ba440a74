"""What a handler is told beside the event, and where it leaves its results."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from eventlog.errors import InvalidEvent
from eventlog.event import Event
from eventlog.ids import EntryId, is_made_up
from eventlog.log import EventLog


class Result(NamedTuple):
    """An event that a handler appends, ready to be written."""

    event: Event
    text: str
    partition: int


class Context:
    """One attempt at one entry.

    What is appended here is written together with the entry's acknowledgement, or not at all: an
    attempt that fails leaves nothing. Only an event of another partition is written just before;
    its id then makes sure that another attempt does not write it twice.
    """

    __slots__ = (
        "_expected",
        "_has_ended",
        "_named",
        "_results",
        "attempt",
        "event",
        "group",
        "id",
        "log",
        "partition",
    )

    def __init__(
        self,
        log: EventLog,
        group: str,
        partition: int,
        entry_id: EntryId,
        event: Event,
        attempt: int,
    ) -> None:
        self.log = log
        self.group = group
        self.partition = partition
        self.id = entry_id
        """Where the entry stands; of a replayed dead letter, where it stood."""
        self.event = event
        self.attempt = attempt
        """From 1; a replay counts on."""
        self._named = ""
        self._has_ended = False
        self._results: list[Result] | None = None
        self._expected: list[tuple[str, int]] = []

    def log_fields(self) -> dict[str, Any]:
        """Return what a log line says of the attempt: names and ids, never content."""
        event = self.event
        fields = {
            "group": self.group,
            "entry": f"{self.partition}/{self.id}",
            "attempt": self.attempt,
            "event_id": event.id,
            "conversation": event.conversation,
            "session": event.session,
            "causation_id": event.causation_id,
            "correlation_id": event.correlation_id,
        }
        return {name: value for name, value in fields.items() if value is not None}

    @property
    def idempotency_key(self) -> str:
        """The event's id: the same at every attempt. Hand it to whatever the handler calls."""
        return self.event.id

    def name_results(self, name: str) -> None:
        """Give what is appended from now on ids that no other attempt's results have."""
        self._named = f"{name}:"

    @property
    def results(self) -> list[Result]:
        """What has been appended so far."""
        return self._results or []

    @property
    def expected(self) -> list[tuple[str, int]]:
        """Entities and the versions they must have when the results are written."""
        return self._expected

    def append(self, event: Event, *, expected_version: int | None = None) -> None:
        """Add an event to the results.

        It gets the handled event as its cause where it names none, and, where its id was made up on
        the spot, one that is the same at every attempt. With `expected_version` the attempt fails with
        VersionConflict unless the event's entity has that version. Raises InvalidEvent and its kin, also
        when the attempt has ended: then nothing could be written with it any more.
        """
        if self._has_ended:
            raise InvalidEvent(
                f"{event!r:.100} is appended after the attempt has ended.",
                remedy="Await what the handler starts, or use EventLog.append.",
            )
        self.add(event, expected_version=expected_version)

    def end(self) -> None:
        """Take no more from the handler."""
        self._has_ended = True

    def add(self, event: Event, *, expected_version: int | None = None) -> None:
        """Add an event to the results, whoever asks."""
        if not isinstance(event, Event):
            raise InvalidEvent(f"{type(event).__name__} is no event: {event!r:.100}.")
        results = self._results = self._results or []
        changes: dict[str, str | None] = {}
        if event.causation_id is None:
            changes["causation_id"] = self.event.id
        if event.correlation_id is None and self.event.correlation_id is not None:
            changes["correlation_id"] = self.event.correlation_id
        if is_made_up(event.id):
            changes["id"] = (
                f"{self.group}:{self.partition}/{self.id}:{self._named}{len(results) + 1}"
            )
        if changes:
            event = msgspec.structs.replace(event, **changes)
        if any(each.event.id == event.id for each in results):
            raise InvalidEvent(f"event {event.id!r} is appended twice in one attempt.")
        partition = self.log.partition_of(event.conversation)
        if expected_version is not None:
            self._expect(event, partition, expected_version)
        results.append(Result(event, self.log.codec.encode(event).decode(), partition))

    def _expect(self, event: Event, partition: int, version: int) -> None:
        if event.entity is None or partition != self.partition:
            raise InvalidEvent(
                f"the version expected of {event.type} cannot be checked.",
                remedy="Only entities of the handled event's own partition can be checked.",
            )
        if all(entity != event.entity for entity, _ in self._expected):
            self._expected.append((event.entity, version))
