"""A server at its maxmemory: what is there is worked off, archived and trimmed, and then there is room again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from analytics import Archiver, Policy, Retention, Rolling, Warehouse, storage_of
from analytics.past import ArchivedPast
from consumers import DeliveryHandlers, Worker
from consumers.senders.sender import Delivery, Receipt
from eventlog import EventLog, MessageQueued, MessageReceived, Settings
from eventlog.errors import LogUnavailable, OutOfMemory
from projections.projecting.projector import Projector
from tests.support import RawServer, eventually

PARTITIONS = 2
ROOM_BYTES = 2_000_000
SOON = Policy(age_ms=1, recent_ms=1)


class Sender:
    """Counts."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send(self, message: MessageQueued, delivery: Delivery) -> Receipt:
        assert message.id == delivery.idempotency_key
        self.sent.append(message.id)
        return Receipt()

    async def close(self) -> None:
        """There is nothing to let go of."""


@asynccontextmanager
async def everybody(log: EventLog, sender: Sender) -> AsyncIterator[None]:
    """Have a projector, a delivery worker, an archiver and retention at work."""
    stop = asyncio.Event()
    storage = storage_of(log.settings)

    async def retain() -> None:
        while not stop.is_set():
            with suppress(LogUnavailable):
                await Retention(log, storage, SOON).apply()
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as tasks:
        handlers = DeliveryHandlers({"web": sender})
        tasks.create_task(Projector(log, past=ArchivedPast(storage)).run(stop))
        tasks.create_task(Worker(log, "delivery", handlers).run(stop))
        archiver = Archiver(log, storage, rolling=Rolling(rows=1))
        tasks.create_task(archiver.run(stop))
        tasks.create_task(retain())
        try:
            yield
        finally:
            stop.set()
    await archiver.close()


async def test_a_full_server_makes_room_by_itself(tmp_path: Path) -> None:
    settings = Settings(
        partition_count=PARTITIONS,
        archive_dir=str(tmp_path / "archive"),
        lease_ttl_ms=300,
        chat_history_limit=5,  # what fills the server is the log
    )
    sender = Sender()
    with RawServer(tmp_path, appendonly="yes") as server:
        async with EventLog.open(server.url, settings=settings) as log:
            async with everybody(log, sender):  # so that the groups are there
                await log.append(
                    [MessageReceived(conversation=f"web:{n}", text="") for n in range(20)]
                )
                await eventually(lambda: _is_archived(log))
            used = (await log.client.info("memory"))["used_memory"]
            await log.client.config_set("maxmemory", used + ROOM_BYTES)
            keys = await _fill(log)
            async with everybody(log, sender):
                await eventually(lambda: _takes(log), timeout_s=30)
                await eventually(lambda: len(set(sender.sent)) == len(keys), timeout_s=30)
            await log.client.config_set("maxmemory", 0)
            async with Warehouse.open(log) as warehouse:
                table = await warehouse.query(
                    "SELECT count(*) AS n FROM events WHERE type = 'message.queued'"
                )
            assert table.to_pylist() == [{"n": len(keys)}]


async def _is_archived(log: EventLog) -> bool:
    heads = await log.heads()
    past = ArchivedPast(storage_of(log.settings))
    return [await past.position(p) for p in range(PARTITIONS)] == heads


async def _fill(log: EventLog) -> list[str]:
    """Append until the server takes no more; return the ids."""
    keys: list[str] = []
    while True:
        event = MessageQueued(
            id=f"{len(keys)}", conversation=f"web:{len(keys) % 20}", text="x" * 1000
        )
        try:
            await log.append(event)
        except OutOfMemory:
            return keys
        keys.append(event.id)


async def _takes(log: EventLog) -> bool:
    with suppress(OutOfMemory):
        await log.append(MessageReceived(conversation="web:0", text="x" * 1000))
        return True
    return False
