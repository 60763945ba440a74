"""Rewriting a partition's stream: the same entry ids, some entries with another event.

A server cannot change an entry, so the stream is copied to a shadow, in chunks while appends go on; a
last step copies what came since, gives the shadow every group with its pending entries, and puts it in
the stream's place. Until that step nothing has changed, whenever this ends; afterwards all has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from eventlog.connection import in_our_words
from eventlog.entry import RawEntry
from eventlog.errors import EventLogError, Fenced
from eventlog.exclusive_lease import ExclusiveLease
from eventlog.ids import START, EntryId
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.scripts import load_script

LEASE_GROUP = "eraser"
"""Whose lease keeps two from rewriting one partition, and retention from trimming it meanwhile."""

CHUNK_ENTRIES = 500
"""Entries copied in one step, during which the server answers nobody: some 2 ms."""
CHUNK_BYTES = 2 * 1024 * 1024
"""Of JSON, of entries that are large."""
TAIL_ENTRIES = 100
"""That may be left for the last step."""
TRIES = 10
"""Copies begun anew because the log was trimmed below them."""

_log = get_logger("stream_rewriting")
_pack = msgspec.msgpack.Encoder().encode

Change = Callable[[RawEntry], bytes | None]
"""Gives the JSON that is to stand in place of an entry's; None leaves it as it is."""


class Rewritten(NamedTuple):
    """What the last step did."""

    tail_count: int
    """Entries it copied."""
    group_count: int
    pending_count: int
    """Pending entries that it took over."""
    dropped_count: int
    """Pending entries that were trimmed before: no group can have them any more."""


async def rewrite_counts(log: EventLog) -> list[int]:
    """Return how often each partition's stream was rewritten: whoever keeps entries compares it."""
    if log.is_in_memory:
        return [0] * log.partition_count
    keys = [log.keys.rewrites(partition) for partition in range(log.partition_count)]
    with in_our_words(log.settings):
        pipeline = log.client.pipeline(transaction=False)
        for key in keys:
            pipeline.execute_command("GET", key)
        found: list[bytes | None] = await pipeline.execute()
    return [int(count or 0) for count in found]


class StreamRewriter:
    """Rewrites the stream of one partition. The caller holds the lease."""

    def __init__(
        self,
        log: EventLog,
        partition: int,
        lease: ExclusiveLease,
        reached: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._log = log
        self._partition = partition
        self._lease = lease
        self._reached = reached
        keys = log.keys
        self._copy_keys = [
            keys.lease(partition, lease.group), keys.stream(partition), keys.shadow(partition),
        ]  # fmt: skip
        self._swap_keys = [*self._copy_keys, keys.rewrites(partition)]
        self._copy = load_script("eventlog", "shadow_copy")
        self._swap = load_script("eventlog", "shadow_swap")

    async def changes(self, change: Change) -> int:
        """Return how many entries `change` changes, having shown it all of them, in order."""
        count, after = 0, START
        while entries := await self._log.read_raw(self._partition, after, CHUNK_ENTRIES):
            count += sum(change(entry) is not None for entry in entries)
            after = entries[-1].id
        return count

    async def rewrite(self, change: Change) -> Rewritten:
        """Return what the last step did. Raises Fenced where the lease was lost, LogUnavailable.

        Where it raises, the stream is as it was; what was copied goes with the next call.
        """
        for _ in range(TRIES):
            done = await self._try(change)
            if done is not None:
                if done.dropped_count:
                    _log.warning(
                        "pending_entries_gone",
                        partition=self._partition,
                        count=done.dropped_count,
                    )
                return done
        raise EventLogError(
            f"partition {self._partition} is trimmed faster than it can be copied.",
            remedy="Stop trimming, then try again.",
        )

    async def discard(self) -> None:
        """Delete what a rewriting that was cut short left behind."""
        with in_our_words(self._log.settings):
            await self._log.client.unlink(self._log.keys.shadow(self._partition))

    async def _try(self, change: Change) -> Rewritten | None:
        """Return what the last step did; None where all is to begin anew."""
        position = START
        while True:
            while entries := await self._chunk(position):
                reply = await self._ask(
                    self._copy, self._copy_keys, *_copying(position, entries, change)
                )
                if reply[0] == b"lost":
                    return None
                position = entries[-1].id
                self._reached("copied")
                if len(entries) < TAIL_ENTRIES:
                    break  # the rest is for the last step, however fast the log grows
            if position == START:
                return None
            reply = await self._ask(self._swap, self._swap_keys, str(position), TAIL_ENTRIES)
            if reply[0] == b"swapped":
                self._reached("swapped")
                return Rewritten(*reply[1:])
            if reply[0] == b"lost":
                return None

    async def _chunk(self, after: EntryId) -> list[RawEntry]:
        """Return the next entries, as many as one step may copy."""
        entries = await self._log.read_raw(self._partition, after, CHUNK_ENTRIES)
        total_bytes = 0
        for index, entry in enumerate(entries):
            total_bytes += len(entry.raw)
            if total_bytes > CHUNK_BYTES:
                return entries[: index + 1]
        return entries

    async def _ask(self, script: Any, keys: list[str], *arguments: Any) -> Any:
        with in_our_words(self._log.settings):
            reply = await script(self._log.client, keys, [self._lease.generation, *arguments])
        if reply[0] == b"fenced":
            raise Fenced(
                f"partition {self._partition} is being rewritten by another process.",
                remedy="Let it end, then try again.",
            )
        return reply


def _copying(after: EntryId, entries: list[RawEntry], change: Change) -> tuple[str, str, bytes]:
    """Return the arguments that copy these entries."""
    instead: list[str] = []
    for entry in entries:
        raw = change(entry)
        if raw is not None:
            instead += [str(entry.id), raw.decode()]
    return str(after), str(entries[-1].id), _pack(instead)
