"""Reading a partition on from a position, waiting where there is nothing yet."""

from __future__ import annotations

from eventlog.connection import in_our_words
from eventlog.entry import RawEntry, raw_entries
from eventlog.ids import EntryId
from eventlog.log import EventLog

BLOCK_MS = 1000


async def read_on(log: EventLog, partition: int, after: EntryId, limit: int) -> list[RawEntry]:
    """Return up to `limit` entries after `after`, or none when a second brings none.

    The group delivers nothing here: its position follows the checkpoint in the commit instead, so
    there is one truth, no pending list to drain, and a lost reply loses nothing. Raises
    LogUnavailable.
    """
    block_ms = min(BLOCK_MS, log.settings.longest_block_ms)
    with in_our_words(log.settings):
        reply = await log.client.execute_command(
            "XREAD", "COUNT", limit, "BLOCK", block_ms, "STREAMS", log.keys.stream(partition), str(after)
        )  # fmt: skip
    return raw_entries(reply[0][1]) if reply else []
