"""What tests of erasing need: a log with a secret everywhere, and a search for it everywhere."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from redis.asyncio import Redis

from analytics import DirectoryStorage, Warehouse
from analytics.archiver import Archiver
from eventlog import (
    Attachment,
    BridgeEvent,
    ConversationMapped,
    DeadLetterParked,
    DeliveryFailed,
    Event,
    EventLog,
    FailedAttempt,
    MessageQueued,
    MessageReceived,
    MessageSent,
    SessionStarted,
    SessionTransitioned,
    ToolCalled,
    ToolReturned,
)
from eventlog.vocabulary import JobQueued, TranscriptAppended, ValuesChanged
from projections.projecting.projector import Projector
from tests.archives import archived
from tests.querying import rows

SECRET = "wolverine"
"""Stands in everything that is content of the chat and person that are erased, and nowhere else."""

CHAT, NEIGHBOUR = "telegram:42", "telegram:43"
USER = "7"

_numbers = itertools.count(1)


def life_of(chat: str, user: str, words: str) -> list[Event]:
    """Return events of every kind that may hold content, with the words in each place for it."""
    session = f"session-of-{chat}"
    base: dict[str, Any] = {"conversation": chat, "session": session}
    failed = FailedAttempt(attempt=1, failed_at=1, error=words, code="timeout")
    return [
        SessionStarted(
            **base, platform="telegram", user=user, project="p", branch_name=words, text=words,
            metadata={words: words},
        ),
        ConversationMapped(**base),
        MessageReceived(
            **base, text=words, sender=user, platform="telegram", metadata={"k": words},
            attachments=[Attachment(url=f"s3://b/{words}")],
        ),
        ToolCalled(**base, call="c1", name="find", arguments=f'{{"q": "{words}"}}'),
        ToolReturned(**base, call="c1", name="find", result=words, duration_ms=3),
        MessageQueued(**base, id=f"queued-{chat}", text=words, recipient=user),
        DeliveryFailed(**base, reason=f"{words} refused", error=words, delivery=f"queued-{chat}"),
        MessageSent(**base, text=words, delivery=f"queued-{chat}"),
        DeadLetterParked(
            **base, letter=f"letter-of-{chat}", group="delivery", reason="timeout", attempts=3,
            text=words, error=words, traceback=words, recipient=user, failures=[failed],
        ),
        BridgeEvent(**base, event_type="error", data={"said": words}),
        TranscriptAppended(**base, transcript="main", items=[f'"{words}"'], metadata={"k": words}),
        ValuesChanged(**base, name="state", values={"k": f'"{words}"'}),
        JobQueued(**base, agent="coder", text=words, metadata={"k": words}),
        SessionTransitioned(**base, to_status="dormant", reason=f"{words} fell silent"),
    ]  # fmt: skip


@asynccontextmanager
async def opened(server_url: str, folder: Path, **settings: Any) -> AsyncIterator[EventLog]:
    """Give a fresh log of 4 partitions whose archive and ledger are in the folder.

    Its keys are deleted at the end, because a secret is looked for on the whole server.
    """
    prefix = f"erase{next(_numbers)}"
    async with EventLog.open(
        server_url, key_prefix=prefix, partition_count=4, data_dir=str(folder), **settings
    ) as log:
        try:
            yield log
        finally:
            await delete_all(log)


async def delete_all(log: EventLog) -> None:
    """Delete every key of the log; one by one, as on a cluster they are of several slots."""
    for key in await keys_of(log):
        await log.client.delete(key)


async def keys_of(log: EventLog) -> list[bytes]:
    """Return every key of the log."""
    pattern = f"{{{log.keys.log}[:}}]*"
    return [key async for key in log.client.scan_iter(pattern, count=1000)]


async def is_nowhere(log: EventLog) -> None:
    """Check that the secret is nowhere: not on the server, in no file, in no answer."""
    assert await on_server(log.client) == []
    assert in_files(log.settings.data_path) == []
    assert await in_sql(log) == 0


async def archive(log: EventLog) -> None:
    """Archive all there is."""
    async with Archiver(log, storage_of(log)) as archiver:
        await archiver.run_once()


async def project(log: EventLog) -> None:
    """Bring the read models up to date."""
    await Projector(log).run_until_caught_up()


def storage_of(log: EventLog) -> DirectoryStorage:
    return DirectoryStorage(log.settings.archive_path)


async def on_server(client: Redis, words: str = SECRET) -> list[str]:
    """Return the keys whose name or value holds the words, and where."""
    wanted, found = words.encode(), []
    async for key in client.scan_iter(count=1000):
        value = await _value(client, key)
        if wanted in key or wanted in value:
            found.append(key.decode())
    return sorted(found)


async def _value(client: Redis, key: bytes) -> bytes:
    kind = await client.type(key)
    readers = {
        b"none": lambda: client.get(key),  # it expired since it was listed
        b"stream": lambda: client.xrange(key),
        b"hash": lambda: client.hgetall(key),
        b"list": lambda: client.lrange(key, 0, -1),
        b"zset": lambda: client.zrange(key, 0, -1),
        b"set": lambda: client.smembers(key),
        b"string": lambda: client.get(key),
    }
    return repr(await readers[kind]()).encode()


def in_files(folder: Path, words: str = SECRET) -> list[str]:
    """Return the files that hold the words, Parquet files decompressed; temporary ones count."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        if ".parquet" in path.name:
            text = repr(pq.ParquetFile(path).read().to_pylist()).encode()
        else:
            text = path.read_bytes()
        if words.encode() in text:
            found.append(path.name)
    return found


async def in_sql(log: EventLog, words: str = SECRET) -> int:
    """Return how many rows of the views hold the words."""
    async with Warehouse.open(log) as warehouse:
        count = 0
        for view in ("events", "messages", "sessions", "deliveries", "dead_letters", "tool_calls",
                     "bridge_events"):  # fmt: skip
            found = await rows(warehouse, f"FROM {view}")
            count += sum(words in repr(row) for row in found)
        return count


async def places(log: EventLog) -> dict[int, list[tuple[str, str]]]:
    """Return the id and the type of every entry by partition, archive and log together."""
    found: dict[int, list[tuple[str, str]]] = {}
    for partition in range(log.partition_count):
        old = archived(storage_of(log), partition)
        after = old[-1].id if old else None
        new = await log.read(partition=partition, after=after, limit=1_000_000)
        entries = [(entry.id, log.codec.decode(entry.raw)) for entry in [*old, *new]]
        assert [entry_id.n for entry_id, _ in entries] == list(range(1, len(entries) + 1))
        found[partition] = [(str(entry_id), event.type) for entry_id, event in entries]
    return found
