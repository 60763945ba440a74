from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventlog import START, EventLog, MessageReceived, RawEntry
from eventlog.cluster import nodes_of
from eventlog.errors import Fenced
from eventlog.exclusive_lease import ExclusiveLease
from eventlog.stream_rewriting import CHUNK_ENTRIES, StreamRewriter, rewrite_counts
from tests.support import eventually

CHAT = "chat:1"


def blank(entry: RawEntry) -> bytes | None:
    return entry.raw.replace(b"secret", b"") if b"secret" in entry.raw else None


async def filled(log: EventLog, count: int) -> int:
    """Return the partition of a chat with that many messages, every other one secret."""
    for start in range(0, count, 500):
        numbers = range(start, min(start + 500, count))
        texts = [f"secret {n}" if n % 2 else f"plain {n}" for n in numbers]
        await log.append([MessageReceived(conversation=CHAT, text=text) for text in texts])
    return log.partition_of(CHAT)


async def rewritten(log: EventLog, partition: int, reached: Any = lambda _: None) -> Any:
    lease = ExclusiveLease(log, "eraser", partition, "me")
    async with lease.hold():
        return await StreamRewriter(log, partition, lease, reached).rewrite(blank)


async def facts_of(log: EventLog, partition: int) -> dict[bytes, Any]:
    """Return what the server knows of the stream as a whole."""
    told = await log.client.xinfo_stream(log.keys.stream(partition))
    names = (b"length", b"last-generated-id", b"entries-added", b"max-deleted-entry-id", b"groups")
    pairs = dict(zip(told[::2], told[1::2], strict=True))
    return {name: pairs[name] for name in names}


async def test_ids_stay_and_so_does_what_is_not_changed(log):
    partition = await filled(log, 2 * CHUNK_ENTRIES + 7)
    before = await log.read_raw(partition, START, 10_000)
    facts = await facts_of(log, partition)
    await rewritten(log, partition)
    after = await log.read_raw(partition, START, 10_000)
    assert after == [RawEntry(entry.id, blank(entry) or entry.raw) for entry in before]
    assert await facts_of(log, partition) == facts
    assert not await log.client.exists(log.keys.shadow(partition))
    assert (await rewrite_counts(log))[partition] == 1
    await log.append(MessageReceived(conversation=CHAT, text="more"))
    assert (await log.read(partition=partition, reverse=True, limit=1))[0].id.n == len(before) + 1


async def test_groups_keep_their_place_their_consumers_and_what_is_pending(log):
    partition = await filled(log, 40)
    stream, client = log.keys.stream(partition), log.client
    await client.xgroup_create(stream, "half", "0")
    await client.xgroup_create(stream, "idle", "0")
    await client.xgroup_create(stream, "midway", "$")
    await client.xgroup_createconsumer(stream, "idle", "nothing yet")
    await client.xreadgroup("half", "a", {stream: ">"}, count=12)
    await client.xreadgroup("half", "b", {stream: ">"}, count=8)
    ids = [entry.id for entry in await log.read_raw(partition, START, 40)]
    await client.xack(stream, "half", *map(str, ids[:5]))
    await client.xclaim(stream, "half", "b", 0, [str(ids[6])], retrycount=9, idle=90_000)

    async def known() -> tuple[Any, ...]:
        groups = await client.xinfo_groups(stream)
        for group in groups:
            group.pop("lag")  # the server may find it out anew
        pending = await client.xpending_range(stream, "half", "-", "+", 100)
        told = [
            (
                p["message_id"],
                p["consumer"],
                p["times_delivered"],
                p["time_since_delivered"] // 5000,
            )
            for p in pending
        ]
        consumers = {
            group["name"]: sorted(
                (c["name"], c["pending"])
                for c in await client.xinfo_consumers(stream, group["name"])
            )
            for group in groups
        }
        return groups, told, consumers

    before = await known()
    done = await rewritten(log, partition)
    assert (done.group_count, done.pending_count, done.dropped_count) == (3, 15, 0)
    assert await known() == before
    more = await client.xreadgroup("half", "a", {stream: ">"}, count=100)
    assert len(more[0][1]) == 20


async def test_what_was_trimmed_while_pending_is_counted_and_dropped(log):
    partition = await filled(log, 20)
    stream, client = log.keys.stream(partition), log.client
    await client.xgroup_create(stream, "g", "0")
    await client.xreadgroup("g", "a", {stream: ">"}, count=10)
    await client.xtrim(stream, maxlen=15, approximate=False)
    done = await rewritten(log, partition)
    assert (done.pending_count, done.dropped_count) == (5, 5)


async def test_blocked_readers_go_on(log):
    partition = await filled(log, 10)
    stream, client = log.keys.stream(partition), log.client
    await client.xgroup_create(stream, "g", "$")
    in_group = asyncio.create_task(client.xreadgroup("g", "a", {stream: ">"}, block=2500))
    plain = asyncio.create_task(client.xread({stream: "$"}, block=2500))

    async def both_wait() -> bool:
        told = [await node.info("clients") for node in await nodes_of(client)]
        return sum(each["blocked_clients"] for each in told) >= 2

    await eventually(both_wait)
    await rewritten(log, partition)
    assert await both_wait()
    await log.append(MessageReceived(conversation=CHAT, text="awaited"))
    for reader in (in_group, plain):
        [[_, [[_, fields]]]] = await reader
        assert b"awaited" in fields[1]


@pytest.mark.parametrize("when", ["copied", "swapped"])
async def test_cut_short_it_leaves_the_old_stream_or_the_new(log, when):
    partition = await filled(log, CHUNK_ENTRIES + 200)
    before = await log.read_raw(partition, START, 10_000)

    def stop(step: str) -> None:
        if step == when:
            raise KeyError(step)

    with pytest.raises(KeyError):
        await rewritten(log, partition, stop)
    found = await log.read_raw(partition, START, 10_000)
    assert [entry.id for entry in found] == [entry.id for entry in before]
    assert (found == before) == (when == "copied")
    await rewritten(log, partition)
    assert not any(b"secret" in e.raw for e in await log.read_raw(partition, START, 10_000))
    assert not await log.client.exists(log.keys.shadow(partition))


async def test_what_is_appended_and_trimmed_meanwhile_is_taken_along(log):
    partition = await filled(log, 3 * CHUNK_ENTRIES)
    appended: list[asyncio.Task[Any]] = []

    def meanwhile(step: str) -> None:
        if step == "copied" and len(appended) < 3:
            later = [MessageReceived(conversation=CHAT, text="later") for _ in range(150)]
            appended.append(asyncio.create_task(log.append(later)))
            stream = log.keys.stream(partition)
            trimming = log.client.xtrim(stream, maxlen=3 * CHUNK_ENTRIES - 3, approximate=False)
            appended.append(asyncio.create_task(trimming))

    await rewritten(log, partition, meanwhile)
    await asyncio.gather(*appended)
    entries = await log.read_raw(partition, START, 10_000)
    numbers = [entry.id.n for entry in entries]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert numbers[-1] == 3 * CHUNK_ENTRIES + sum(
        len(task.result()) for task in appended if isinstance(task.result(), list)
    )
    assert numbers[0] > 1
    assert not any(b"secret" in entry.raw for entry in entries)


async def test_who_lost_the_lease_writes_nothing(log):
    partition = await filled(log, 10)
    before = await log.read_raw(partition, START, 100)
    lease = ExclusiveLease(log, "eraser", partition, "me")
    async with lease.hold():
        await log.client.hincrby(log.keys.lease(partition, "eraser"), "generation", 1)
        with pytest.raises(Fenced):
            await StreamRewriter(log, partition, lease).rewrite(blank)
    assert await log.read_raw(partition, START, 100) == before
