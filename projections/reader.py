"""Reading a partition on from a position, waiting where there is nothing yet."""

from __future__ import annotations

from eventlog.connection import in_our_words
from eventlog.entry import RawEntry, raw_entries
from eventlog.ids import EntryId
from eventlog.log import EventLog

BLOCK_MS = 1000


async def read_on(
    log: EventLog, partition: int, after: EntryId, limit: int, *, waits: bool
) -> list[RawEntry]:
    """Return up to `limit` entries after `after`, or none; `waits` a second for the first.

    The group delivers nothing here: its position follows the checkpoint in the commit instead, so
    there is one truth, no pending list to drain, and a lost reply loses nothing. Raises
    LogUnavailable.
    """
    block = ("BLOCK", min(BLOCK_MS, log.settings.longest_block_ms)) if waits else ()
    stream = log.keys.stream(partition)
    with in_our_words(log.settings):
        reply = await log.client.execute_command(
            "XREAD", "COUNT", limit, *block, "STREAMS", stream, str(after)
        )
    return raw_entries(reply[0][1]) if reply else []
