"""What goes to one partition in one step, and what comes back. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from eventlog.entity import Advance, ExpectedState
from eventlog.ids import EntryId


class ProducerStamp(NamedTuple):
    """A bulk producer's place: `positions` only grow; `token` names this very batch."""

    name: str
    token: str
    previous: int
    positions: list[int]


class Fence(NamedTuple):
    """A lock as its holder took it: what it fences is written only while nobody else has it."""

    partition: int
    """The one that may be written to."""
    key: str
    generation: int


class Batch(msgspec.Struct, frozen=True):  # one per append: a NamedTuple takes thrice the time
    """Encoded events for one partition: written whole or not at all.

    `ids`, where given, are distinct and remembered for the dedup window. `entities` says which
    events advance a version.
    """

    events: list[str]
    ids: list[str] | None
    entities: list[Advance]
    expected: Sequence[tuple[str, ExpectedState]] = ()
    """Entities and the versions they must have."""
    producer: ProducerStamp | None = None
    fence: Fence | None = None

    @property
    def is_conditional(self) -> bool:
        """Whether it may be refused for what the log says by then: such a one goes alone, and at once."""
        return bool(self.expected or self.fence)


class Appended(NamedTuple):
    """The batch is in the log. Indexes count from 0.

    New entries are `ms-first_n`, `ms-(first_n + 1)`, … in order, leaving out the `duplicates`,
    which map an index to the original's id, None where only the fact is known.
    """

    ms: int
    first_n: int
    added: int
    duplicates: dict[int, EntryId | None]
    versions: dict[int, int]


class Conflict(NamedTuple):
    """The entity is at another version; nothing was written."""

    entity: str
    actual_version: int


class LockLost(NamedTuple):
    """The batch's fence is another's by now, or nobody's; nothing was written."""


class Gap(NamedTuple):
    """The log has the producer only up to `last_position`; nothing was written."""

    last_position: int


class Spooled(NamedTuple):
    """The events are on this machine's disk, to go into the log when the server is back."""

    event_count: int


Outcome = Appended | Conflict | LockLost | Gap


def pack_batch(batch: Batch, dedup_window_ms: int) -> bytes:
    """Return the batch as the one argument of `append.lua`."""
    return msgspec.msgpack.encode(batch_parts(batch, dedup_window_ms))


def batch_parts(batch: Batch, dedup_window_ms: int) -> tuple[Any, ...]:
    """Return the batch as scripts take it; the header of `append.lua` gives the layout."""
    entities = [item for each in batch.entities for item in (each.place + 1, *each[1:])]
    return (
        batch.events,
        batch.ids or False,
        dedup_window_ms,
        entities,
        [item for pair in batch.expected for item in pair] or False,
        batch.producer or False,
        batch.fence.generation if batch.fence else False,
    )


def unpack_outcome(reply: list[Any]) -> Outcome:
    """Return the outcome that `append.lua` replied."""
    match reply[0]:
        case b"appended":
            _, ms, first_n, added, duplicates, versions = reply
            return Appended(
                ms,
                first_n,
                added,
                {i - 1: EntryId.parse(o) if o else None for i, o in _pairs(duplicates)},
                {i - 1: version for i, version in _pairs(versions)},
            )
        case b"conflict":
            return Conflict(reply[2].decode(), reply[1])
        case b"lock_lost":
            return LockLost()
        case b"gap":
            return Gap(reply[1])
    raise TypeError(f"append.lua replied {reply!r}")


def _pairs(flat: list[Any]) -> Iterable[tuple[int, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)
