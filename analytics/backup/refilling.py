"""Filling one partition of a server: entries, then state, then the head. Each step may be repeated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, NamedTuple

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from analytics.backup.counting import Counted, bucket_of
from analytics.backup.state import LINE_ITEMS, Group, Ids, Line, Producers, Versions, in_chunks
from eventlog.entity import EntityState
from eventlog.entry import RawEntry
from eventlog.errors import Fenced
from eventlog.ids import START, EntryId
from eventlog.keys import DEDUP_BUCKET_COUNT, Keys
from eventlog.logs import get_logger
from eventlog.restoring import Marker
from eventlog.scripts import load_script

CHUNK_ENTRIES = 500
CHUNK_BYTES = 2 * 1024 * 1024
"""Entries added in one step, during which the server answers nobody: a few ms."""

_log = get_logger("restoring")
_pack = msgspec.msgpack.Encoder().encode


class Window(NamedTuple):
    """How long event ids are remembered, as of now."""

    now_ms: int
    """By the server's clock."""
    window_ms: int


class Refill:
    """One partition under a restore's guard. Calls raise Fenced where another restore took over."""

    def __init__(self, client: Redis, keys: Keys, partition: int, marker: Marker) -> None:
        self._client = client
        self._keys = keys
        self._partition = partition
        self._guard = marker.guard
        self._stream = keys.stream(partition)
        self._head = keys.head(partition)
        self._entries = load_script("analytics", "restore_entries")
        self._fields = load_script("analytics", "restore_fields")
        self._finish = load_script("analytics", "restore_finish")

    async def end(self) -> EntryId:
        """Return the last entry that is in already, START where there is none."""
        last: Any = await self._client.execute_command(
            "XREVRANGE", self._stream, "+", "-", "COUNT", 1
        )
        return EntryId.parse(last[0][0]) if last else START

    async def add(self, after: EntryId, entries: list[RawEntry]) -> EntryId:
        """Return the last entry after these were added behind `after`."""
        for chunk in _chunks(entries):
            flat: list[Any] = []
            for entry in chunk:
                flat += [str(entry.id), _text(entry.raw)]
            reply = await self._entries(
                self._client, [self._head, self._stream], [self._guard, str(after), _pack(flat)]
            )
            if reply[0] == b"added" or (
                reply[0] == b"elsewhere" and EntryId.parse(reply[1]) == chunk[-1].id
            ):  # its reply was lost
                after = chunk[-1].id
                continue
            raise self._fenced()
        return after

    async def set_state(
        self, lines: Iterable[Line], counted: Counted, head: EntryId, window: Window
    ) -> list[str]:
        """Return the names of its groups; what was written before is replaced."""
        keys, partition = self._keys, self._partition
        versions, producers = keys.versions(partition), keys.producers(partition)
        await self._client.unlink(versions, producers, *keys.dedup(partition))
        groups = []
        for line in lines:
            match line:
                case Versions(of):
                    await self._put(versions, of)
                case Producers(of):
                    await self._put(producers, of)
                case Ids(of):
                    await self._remember(
                        {name: EntryId.parse(text) for name, text in of.items()}, head, window
                    )
                case Group():
                    await self._set_group(line)
                    groups.append(line.name)
        for chunk in in_chunks(counted.entities):
            before: Any = await self._client.hmget(versions, list(chunk))
            known = [EntityState.parse(text.decode()) if text else EntityState() for text in before]
            after = zip(chunk.items(), known, strict=True)
            await self._put(versions, {name: str(old.then(new)) for (name, new), old in after})
        for ids in in_chunks(counted.ids):
            await self._remember(ids, head, window)
        return groups

    async def finish(self, head: EntryId, groups: Iterable[str], now_ms: int) -> None:
        """Give the partition its head."""
        leases = [self._keys.lease(self._partition, group) for group in groups]
        keys = [self._head, self._stream, self._keys.rewrites(self._partition), *leases]
        if not await self._finish(self._client, keys, [self._guard, str(head), now_ms]):
            raise self._fenced()

    async def _put(self, key: str, items: Mapping[str, str | int], expires_ms: int = 0) -> None:
        flat = [part for pair in items.items() for part in pair]
        if flat:
            await self._fields(self._client, [key], [_pack(flat), expires_ms])

    async def _remember(self, ids: Mapping[str, EntryId], head: EntryId, window: Window) -> None:
        buckets: dict[int, dict[str, str]] = {}
        for name, entry_id in ids.items():
            bucket = bucket_of(entry_id, head, window.now_ms, window.window_ms)
            if bucket is not None:
                buckets.setdefault(bucket, {})[name] = str(entry_id)
        for bucket, items in buckets.items():
            key = self._keys.dedup(self._partition)[bucket % DEDUP_BUCKET_COUNT]
            await self._put(key, items, (bucket + 2) * window.window_ms)

    async def _set_group(self, group: Group) -> None:
        """Make a group as it was, with all that it has pending, delivered and waiting."""
        keys, partition, name = self._keys, self._partition, group.name
        lines = [keys.line(partition, name, conversation) for conversation, _ in group.blocked]
        work, attempts = keys.work(partition, name), keys.attempts(partition, name)
        blocked = keys.blocked(partition, name)
        await self._client.unlink(work, attempts, blocked, *lines)
        for line, entry_ids in zip(lines, group.lines, strict=True):
            for start in range(0, len(entry_ids), LINE_ITEMS):
                await self._client.rpush(line, *entry_ids[start : start + LINE_ITEMS])
        for waiting in in_chunks(dict(group.blocked)):
            await self._client.zadd(blocked, {each: float(due) for each, due in waiting.items()})
        for records in in_chunks(group.attempts):
            await self._put(attempts, records)
        await self._put(work, group.work)
        if group.position is not None:
            await self._make_group(group, EntryId.parse(group.position))

    async def _make_group(self, group: Group, position: EntryId) -> None:
        stream, name = self._stream, group.name
        try:
            await self._client.execute_command("XGROUP", "DESTROY", stream, name)
        except ResponseError as error:
            if "requires the key to exist" not in str(error):
                raise
        await self._client.execute_command(
            "XGROUP", "CREATE", stream, name, str(position), "MKSTREAM", "ENTRIESREAD", position.n
        )
        for consumer in group.consumers:
            await self._client.execute_command("XGROUP", "CREATECONSUMER", stream, name, consumer)
        count = 0
        for (consumer, deliveries), entries in groupby(group.pending, lambda each: each[1:]):
            entry_ids = [entry_id for entry_id, _, _ in entries]
            for start in range(0, len(entry_ids), LINE_ITEMS):
                claimed: Any = await self._client.execute_command(
                    "XCLAIM", stream, name, consumer, 0, *entry_ids[start : start + LINE_ITEMS],
                    "RETRYCOUNT", deliveries, "FORCE", "JUSTID", parse_justid=True,
                )  # fmt: skip
                count += len(claimed)
        if count < len(group.pending):
            # Trimmed before the backup: the server refuses to have them pending.
            _log.warning(
                "pending_entries_gone",
                partition=self._partition,
                group=name,
                count=len(group.pending) - count,
            )

    def _fenced(self) -> Fenced:
        return Fenced(
            f"partition {self._partition} is being restored by another process.",
            remedy="Let one of them end.",
        )


def _chunks(entries: list[RawEntry]) -> Iterator[list[RawEntry]]:
    """Yield the entries, as many as one step may add."""
    chunk: list[RawEntry] = []
    size = 0
    for entry in entries:
        if chunk and (len(chunk) == CHUNK_ENTRIES or size + len(entry.raw) > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(entry)
        size += len(entry.raw)
    if chunk:
        yield chunk


def _text(raw: bytes) -> msgspec.Raw:
    """Return msgpack text of any bytes: Redis's msgpack reads no binary."""
    return msgspec.Raw(b"\xdb" + len(raw).to_bytes(4, "big") + raw)
