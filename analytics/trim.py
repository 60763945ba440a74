"""`trim.lua`, typed: trimming a slice of one partition, or asking what would stop it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

from eventlog.connection import in_our_words
from eventlog.ids import EntryId
from eventlog.log import EventLog
from eventlog.scripts import Argument, load_script
from eventlog.stream_rewriting import LEASE_GROUP

Kind = Literal["group", "lost_group", "build", "unprojected", "archive", "foreign", "eraser"]


class Pin(NamedTuple):
    """Somebody who needs a partition's entries from one on; `trim.lua` says what the kinds are."""

    kind: Kind
    name: str
    needs: EntryId
    """Where what it needs begins. Only the sequence is exact: it may not be an entry's own id."""


class Slice(NamedTuple):
    """What one call did and found."""

    trimmed_count: int
    first: EntryId | None
    """The first entry there is now; None where the stream is empty."""
    last: EntryId | None
    pins: tuple[Pin, ...]


async def trim(
    log: EventLog,
    partition: int,
    *,
    keep_n: int,
    archived: EntryId,
    most: int,
    groups: Collection[str],
) -> Slice:
    """Trim up to `most` entries below sequence `keep_n`, of those that nobody needs.

    `archived` is the archive's position, `groups` who must have read an entry: both may be of a while
    ago. With `most` 0 nothing is trimmed. Safe to repeat. Raises LogUnavailable.
    """
    keys = log.keys
    arguments: list[Argument] = [keep_n, str(archived), most, *sorted(groups)]
    with in_our_words(log.settings):
        reply = await load_script("analytics", "trim")(
            log.client,
            [keys.stream(partition), keys.shelf(partition), keys.lease(partition, LEASE_GROUP)],
            arguments,
        )
    trimmed, first, last, flat = reply
    pins = [
        Pin(kind.decode(), name.decode(), EntryId.parse(needs))
        for kind, name, needs in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    ]
    return Slice(
        trimmed,
        EntryId.parse(first) if first else None,
        EntryId.parse(last) if last else None,
        tuple(pins),
    )
