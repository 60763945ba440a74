"""A group's entries in one partition, as its owner asks the server for them; nothing is decided."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from redis.exceptions import ResponseError

from consumers.hand import Hand
from consumers.record import Record, decode_record
from consumers.settlement import Settlement
from eventlog.connection import in_our_words
from eventlog.entry import RawEntry, raw_entries
from eventlog.errors import Fenced, GroupMissing, HistoryGap
from eventlog.group import GroupReader
from eventlog.ids import EntryId
from eventlog.lease import Lease
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.scripts import Argument, load_script

BLOCK_MS = 1000
PAGE_ENTRIES = 1000

_log = get_logger("group")


def hand_consumer(partition: int) -> str:
    """Return the consumer under which entries in hand are pending: it goes with the partition."""
    return f"p{partition}"


def line_consumer(partition: int) -> str:
    """Return the consumer under which entries in lines are pending."""
    return f"p{partition}-waiting"


class GroupPartition:
    """Calls raise Fenced when the lease has gone to another, HistoryGap, LogUnavailable."""

    def __init__(self, log: EventLog, lease: Lease) -> None:
        self.lease = lease
        self.hand = Hand()
        partition, group, keys = lease.partition, lease.group, log.keys
        self._log = log
        self._lease_key = keys.lease(partition, group)
        self._stream = keys.stream(partition)
        self._work = keys.work(partition, group)
        self._attempts = keys.attempts(partition, group)
        self._blocked = keys.blocked(partition, group)
        self._settle_keys = [
            self._lease_key, self._work, self._attempts, self._blocked, *keys.append(partition),
        ]  # fmt: skip
        self._fetch = load_script("consumers", "fetch")
        self._settle = load_script("consumers", "settle")
        self._read_lines = load_script("consumers", "read_lines")
        self._waiting = load_script("consumers", "waiting")
        self._heal_script = load_script("consumers", "heal")
        self._adopt = load_script("consumers", "adopt")

    def _line(self, conversation: str) -> str:
        return self._log.keys.line(self.lease.partition, self.lease.group, conversation)

    async def _ask(self, *command: str | int) -> Any:
        return await self._log.client.execute_command(*command)

    # --- delivery ------------------------------------------------------------------------------

    async def fetch(self, limit: int) -> list[RawEntry]:
        """Return up to `limit` entries never seen here, and take them in hand."""
        partition, group = self.lease.partition, self.lease.group
        keys = [self._lease_key, self._stream, self._work]
        arguments: list[Argument] = [
            self.lease.generation, group, hand_consumer(partition), limit, str(self.hand.seen),
        ]  # fmt: skip
        with in_our_words(self._log.settings):
            reply = await self._fetch(self._log.client, keys, arguments)
        match reply[0]:
            case b"entries":
                entries = raw_entries(self._whole(reply[2]))
                self.hand.seen = EntryId.parse(reply[1])
                self.hand.update(dict.fromkeys([entry.id for entry in entries]))
                return entries
            case b"group_gone":
                await self._heal()
                return await self.fetch(limit)
            case b"foreign":
                await self.make_sure()
                return await self.fetch(limit)
            case b"gap":
                raise HistoryGap(
                    f"partition {partition}: entries {self.hand.seen.n + 1} to {reply[1] - 1} are gone, "
                    f"and group {group!r} was never given them.",
                    remedy="Restore the server's data, or retire the group and register it again.",
                )
            case b"went_back":
                raise HistoryGap(
                    f"partition {partition}: {reply[1].decode()} was delivered to group {group!r}, "
                    f"but {self.hand.seen} was before: the server lost what it had acknowledged.",
                    remedy="The worker begins anew with what is left.",
                )
        raise self._fenced()

    async def fetch_again(self, limit: int) -> list[RawEntry]:
        """Return up to `limit` entries that are in hand and were never seen here.

        After all of them `fetch` returns new ones.
        """
        delivered = await self._delivered()
        if self.hand.seen == delivered:
            return []
        return await self.fetch(limit)

    async def news(self) -> None:
        """Return when there is something that was never delivered, or after a second."""
        block_ms = min(BLOCK_MS, self._log.settings.longest_block_ms)
        with in_our_words(self._log.settings):
            await self._ask(
                "XREAD", "COUNT", 1, "BLOCK", block_ms, "STREAMS", self._stream, str(self.hand.seen)
            )

    def _whole(self, entries: Any) -> Any:
        for entry_id, fields in entries:
            if not fields:
                raise HistoryGap(
                    f"partition {self.lease.partition}: entry {entry_id.decode()} was trimmed "
                    f"before group {self.lease.group!r} had handled it.",
                    remedy="Restore it from the archive's segments, or retire the group.",
                )
        return entries

    # --- settlement ----------------------------------------------------------------------------

    async def settle(self, settlement: Settlement) -> tuple[str, int] | None:
        """Write a settlement, which is safe to repeat.

        Return an entity that was not as expected, and its version; None is success.
        """
        partition, group = self.lease.partition, self.lease.group
        window_ms = self._log.settings.dedup_window_s * 1000
        keys = [*self._settle_keys, *map(self._line, settlement.conversations)]
        arguments: list[Argument] = [
            hand_consumer(partition),
            line_consumer(partition),
            settlement.packed(self.lease.generation, group, self.hand, window_ms),
        ]
        with in_our_words(self._log.settings):
            reply = await self._settle(self._log.client, keys, arguments)
        match reply:
            case [b"settled"]:
                return None
            case [b"conflict", int(version), bytes(entity)]:
                return entity.decode(), version
            case [b"group_gone"]:
                await self._heal()
                return await self.settle(settlement)
        raise self._fenced()

    def _fenced(self) -> Fenced:
        return Fenced(
            f"partition {self.lease.partition} of group {self.lease.group!r} went to another owner."
        )

    # --- lines and records ---------------------------------------------------------------------

    async def lines(self) -> list[tuple[str, int, int]]:
        """Return every line: its conversation, the ms after which it is due, how long it is."""
        with in_our_words(self._log.settings):
            now_ms, found = await self._waiting(self._log.client, [self._blocked], [-1])
            names = [name.decode() for name in found[::2]]
            lengths = await self._each("LLEN", names)
        waits_ms = [max(0, int(float(score)) - now_ms) for score in found[1::2]]
        return list(zip(names, waits_ms, lengths, strict=True))

    async def line_firsts(self, conversations: Collection[str]) -> dict[str, EntryId]:
        """Return the first entry of each conversation's line, where it has one."""
        names = list(conversations)
        with in_our_words(self._log.settings):
            firsts = await self._each("LINDEX", names, 0)
        return {
            name: EntryId.parse(first) for name, first in zip(names, firsts, strict=True) if first
        }

    async def read_lines(
        self, conversations: Sequence[str], limit: int
    ) -> list[list[tuple[RawEntry, Record]]]:
        """Return the first entries of each line, up to `limit`, with their records."""
        keys = [self._stream, self._attempts, *map(self._line, conversations)]
        with in_our_words(self._log.settings):
            found = await self._read_lines(self._log.client, keys, [limit])
        return [
            [
                (RawEntry(EntryId.parse(entry_id), raw), decode_record(record))
                for entry_id, raw, record in map(self._present, items)
            ]
            for items in found
        ]

    def _present(self, item: Any) -> Any:
        entry_id, raw, _ = item
        self._whole([(entry_id, raw)])
        return item

    async def records(self, entry_ids: Sequence[EntryId]) -> list[Record]:
        """Return what is known of earlier attempts at these entries."""
        if not entry_ids:
            return []  # the server knows no question about nothing
        with in_our_words(self._log.settings):
            raws = await self._ask("HMGET", self._attempts, *map(str, entry_ids))
        return [decode_record(raw) for raw in raws]

    async def _each(self, command: str, conversations: Sequence[str], *arguments: int) -> list[Any]:
        pipeline = self._log.client.pipeline(transaction=False)
        for conversation in conversations:
            pipeline.execute_command(command, self._line(conversation), *arguments)
        return await pipeline.execute()

    # --- the group itself ----------------------------------------------------------------------

    async def make_sure(self) -> None:
        """Make sure that the group is there with all that is pending, and that under our names."""
        partition, group = self.lease.partition, self.lease.group
        await GroupReader(self._log, group, partition).check(await self._delivered())
        consumers = await self._consumers()
        if consumers is None:
            await self._heal()
            return
        for consumer in consumers - {hand_consumer(partition), line_consumer(partition)}:
            await self._take_over(consumer)

    async def _delivered(self) -> EntryId:
        with in_our_words(self._log.settings):
            delivered = await self._ask("HGET", self._work, "delivered")
        if delivered is None:
            with in_our_words(self._log.settings):
                is_there = await self._ask("HEXISTS", self._log.keys.groups(), self.lease.group)
            if not is_there:
                raise GroupMissing(
                    f"group {self.lease.group!r} was retired.",
                    remedy="A worker that is started now makes it anew.",
                )
            raise HistoryGap(
                f"the server no longer knows how far group {self.lease.group!r} is in partition "
                f"{self.lease.partition}.",
                remedy="Restore the server's data, or retire the group and register it again.",
            )
        return EntryId.parse(delivered)

    async def _consumers(self) -> set[str] | None:
        """Return the names under which entries may be pending; None where there is no group."""
        with in_our_words(self._log.settings):
            try:
                found = await self._log.client.xinfo_consumers(self._stream, self.lease.group)
            except ResponseError as error:
                if str(error).startswith(("NOGROUP", "no such key")):
                    return None
                raise
        return {consumer["name"].decode() for consumer in found}

    async def _take_over(self, consumer: str) -> None:
        """Take in hand what is pending under another name, then remove that name, in this order."""
        count = remaining = 0
        while remaining or not count:
            arguments: list[Argument] = [
                self.lease.generation, self.lease.group, consumer,
                hand_consumer(self.lease.partition), PAGE_ENTRIES,
            ]  # fmt: skip
            with in_our_words(self._log.settings):
                reply = await self._adopt(
                    self._log.client, [self._lease_key, self._stream, self._work], arguments
                )
            if reply[0] != b"adopted":
                raise self._fenced()
            count, remaining = count + 1, reply[1]
        _log.info("consumer_removed", group=self.lease.group, consumer=consumer)

    async def _heal(self) -> None:
        """Make a group that was lost again: neither what was settled nor what was not is forgotten."""
        partition, group = self.lease.partition, self.lease.group
        await GroupReader(self._log, group, partition).check_reachable(await self._delivered())
        lines = [self._line(conversation) for conversation, _, _ in await self.lines()]
        keys = [self._lease_key, self._stream, self._work, self._blocked, *lines]
        consumers = hand_consumer(partition), line_consumer(partition)
        with in_our_words(self._log.settings):
            reply = await self._heal_script(
                self._log.client, keys, [self.lease.generation, group, *consumers]
            )
        if reply[0] != b"healed":
            raise self._fenced()
        _log.warning(
            "group_healed", group=group, partition=partition, in_hand=reply[1], waiting=reply[2]
        )
