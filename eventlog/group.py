"""A consumer group in one partition: that it is there, where it stands, and what it may not miss."""

from __future__ import annotations

from typing import Any

from redis.exceptions import ResponseError

from eventlog.connection import in_our_words
from eventlog.errors import HistoryGap
from eventlog.ids import START, EntryId
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.scripts import Argument, load_script

_log = get_logger("group")


class GroupReader:
    """One group's view of one partition. The caller holds the lease."""

    def __init__(self, log: EventLog, group: str, partition: int) -> None:
        self._log = log
        self._group = group
        self._partition = partition
        self._stream = log.keys.stream(partition)

    async def ensure(self, position: EntryId, stands_at: EntryId | None = None) -> None:
        """Make sure that the group exists and that everything after `position` is still there.

        A group that is gone is created anew at `stands_at`, which is `position` unless something of
        the group is behind it, and never at the end. Raises HistoryGap when
        the log ends before `position` (it was emptied or restored from an older backup), or when
        entries after it were trimmed.
        """
        await self.check_reachable(position)
        stands_at = stands_at or position
        if await self.create(stands_at) and stands_at > START:
            _log.warning(
                "group_made_again",
                group=self._group,
                partition=self._partition,
                position=str(stands_at),
            )

    async def check_reachable(self, position: EntryId) -> None:
        """Raise HistoryGap unless the log reaches `position` and has everything after it."""
        head = await self.check(position)
        following = await self._log.read_raw(self._partition, position, 1)
        if head > position and (not following or following[0].id.n != position.n + 1):
            upto = (following[0].id.n if following else head.n + 1) - 1
            raise HistoryGap(
                f"partition {self._partition}: entries {position.n + 1} to {upto} "
                f"are gone, and group {self._group!r} has not processed them.",
                remedy="Rebuild from the archive.",
            )

    async def create(self, position: EntryId) -> bool:
        """Create the group after `position`; return False where it is there already."""
        create = load_script("eventlog", "group_create")
        with in_our_words(self._log.settings):
            arguments: list[Argument] = [self._group, str(position), position.n]
            return bool(await create(self._log.client, [self._stream], arguments))

    async def check(self, position: EntryId) -> EntryId:
        """Return the partition's head. Raises HistoryGap where the log ends before `position`."""
        head = (await self._log.heads())[self._partition]
        if head < position or head.n < position.n:  # emptied and refilled: ids go on, sequences not
            raise HistoryGap(
                f"partition {self._partition} ends at {head}, but group {self._group!r} "
                f"has processed up to {position}: entries {head.n + 1} to {position.n} are missing.",
                remedy="Restore the server's data, or rebuild the read models from what is left.",
            )
        return head

    async def move(self, position: EntryId) -> None:
        """Set the group's position, for readers that keep it elsewhere and read without a PEL."""
        await self._call(
            "XGROUP", "SETID", self._stream, self._group, str(position), "ENTRIESREAD", position.n
        )

    async def lag(self, position: EntryId) -> int:
        """Return how many entries the partition has after `position`; never null."""
        head = (await self._log.heads())[self._partition]
        return max(0, head.n - position.n)

    async def _call(self, *command: Any) -> Any:
        with in_our_words(self._log.settings):
            try:
                return await self._log.client.execute_command(*command)
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                raise HistoryGap(
                    f"group {self._group!r} is gone from partition {self._partition}.",
                    remedy="It is created again at its checkpoint when its reader starts anew.",
                ) from None
