"""The archive read as the past of a log: stretches of a partition, pages of a conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from analytics import Archiver, DirectoryStorage, Rolling, Segment
from analytics.columns import SCHEMA
from analytics.past import ArchivedPast
from analytics.segment_reader import ROWS_PER_PIECE
from analytics.segment_writer import parquet_options
from bench.events import chat_events
from eventlog import EntryId, EventLog, MessageReceived, MessageSent, RawEntry, ToolCalled
from eventlog.errors import HistoryGap
from eventlog.ids import START
from eventlog.past import Past

MS = 1_795_000_000_000
WRECK = b"\xff no event"
CUSTOM = b'{"type":"shop.sold","conversation":"c0","id":"sold","cents":3}'


@pytest.fixture
def storage(tmp_path: Path) -> DirectoryStorage:
    return DirectoryStorage(tmp_path / "archive")


@pytest.fixture
def past(storage: DirectoryStorage) -> ArchivedPast:
    kept: Past = ArchivedPast(storage)
    assert isinstance(kept, ArchivedPast)
    return kept


async def put(log: EventLog, raws: list[bytes], first: int = 1) -> list[RawEntry]:
    """Entries of partition 0, as the append script would have left them."""
    pipe = log.client.pipeline()
    for n, raw in enumerate(raws, first):
        pipe.xadd(log.keys.stream(0), {"e": raw}, id=f"{MS + n // 3}-{n}")
        pipe.set(log.keys.head(0), f"{MS + n // 3}-{n}")
    await pipe.execute()
    return await log.read_raw(0, START, 1_000_000)


async def put_30(log: EventLog) -> list[RawEntry]:
    """Ten turns of three conversations, with a tool call each, a wreck and a type of our own."""
    events = [
        (MessageReceived, MessageSent)[n % 2](conversation=f"c{n % 3}", text=f"text {n}\n")
        if n % 10 != 3
        else ToolCalled(conversation=f"c{n % 3}", call=f"{n}", name="find")
        for n in range(1, 31)
    ]
    raws = [log.codec.encode(event) for event in events]
    raws[6], raws[17] = WRECK, CUSTOM
    return await put(log, raws)


async def archive(log: EventLog, storage: DirectoryStorage, max_rows: int = 10) -> list[Segment]:
    async with Archiver(log, storage, rolling=Rolling(max_rows=max_rows)) as archiver:
        return await archiver.run_once()


async def read(
    past: ArchivedPast,
    after: EntryId = START,
    until: EntryId | None = None,
    types: Collection[str] | None = None,
    partition: int = 0,
) -> list[RawEntry]:
    """Return all entries, having checked that the stretches follow each other to the end."""
    entries: list[RawEntry] = []
    end = after
    async for stretch in past.read(partition, after, until, types):
        assert all(end < entry.id <= stretch.end for entry in stretch.entries)
        assert stretch.end > end
        end = stretch.end
        entries += stretch.entries
    expected = await past.position(partition) if until is None else until
    assert end == max(expected, after)
    return entries


def type_of(raw: bytes) -> str | None:
    return None if raw == WRECK else str(msgspec.json.decode(raw)["type"])


def conversation_of(raw: bytes) -> str | None:
    return None if raw == WRECK else str(msgspec.json.decode(raw)["conversation"])


def compact(storage: DirectoryStorage, segments: list[Segment]) -> Segment:
    """Put one file in the place of others, as compaction lays it out."""
    paths = [storage.path(segment) for segment in segments]
    whole = segments[-1]._replace(first=segments[0].first, is_compacted=True)
    table = pq.read_table(paths, partitioning=None, schema=SCHEMA)
    order = [(name, "ascending") for name in ("type", "conversation", "sequence")]
    pq.write_table(table.sort_by(order), storage.path(whole), row_group_size=7, **parquet_options())
    for path in paths:
        path.unlink()
    return whole


async def test_everything_comes_back_in_stretches(
    log: EventLog, storage: DirectoryStorage, past: ArchivedPast
) -> None:
    await log.append(chat_events(3000))
    assert await past.position(0) == START
    assert await read(past) == []
    await archive(log, storage, max_rows=500)
    heads = await log.heads()
    for partition, head in enumerate(heads):
        assert await past.position(partition) == head
        whole = await log.read_raw(partition, START, 1_000_000)
        assert await read(past, partition=partition) == whole
        sent = [entry for entry in whole if type_of(entry.raw) == "message.sent"]
        assert await read(past, types={"message.sent"}, partition=partition) == sent


async def test_a_long_segment_comes_in_stretches_of_bounded_length(
    log: EventLog, storage: DirectoryStorage, past: ArchivedPast
) -> None:
    raw = log.codec.encode(MessageReceived(conversation="c", text="x"))
    whole = await put(log, [raw] * (2 * ROWS_PER_PIECE + 1))
    await archive(log, storage, max_rows=len(whole))
    lengths = [len(stretch.entries) async for stretch in past.read(0, START)]
    assert lengths == [ROWS_PER_PIECE, ROWS_PER_PIECE, 1]


@pytest.mark.parametrize("is_compacted", [False, True])
async def test_it_can_be_read_from_and_to_anywhere(
    log: EventLog, storage: DirectoryStorage, past: ArchivedPast, is_compacted: bool
) -> None:
    whole = await put_30(log)
    segments = await archive(log, storage)
    if is_compacted:
        compact(storage, segments)
    places = [START, *(entry.id for entry in whole)]
    for after, until in ((0, 30), (0, 10), (9, 11), (10, 20), (15, 16), (29, 30), (30, 30), (5, 5)):
        assert await read(past, places[after], places[until]) == whole[after:until]
        for types in (["tool.called"], {"message.sent", "shop.sold"}, ["never.seen"], []):
            wanted = {None, *types}  # a wreck has no type, and is not kept back
            expected = [e for e in whole[after:until] if type_of(e.raw) in wanted]
            assert await read(past, places[after], places[until], types) == expected
    assert [stretch async for stretch in past.read(0, places[7], places[5])] == []


async def test_reading_can_be_left_at_any_moment(
    log: EventLog, storage: DirectoryStorage, past: ArchivedPast
) -> None:
    whole = await put_30(log)
    await archive(log, storage)
    stretches = past.read(0, START)
    assert (await anext(stretches)).entries == whole[:10]
    await stretches.aclose()
    task = asyncio.create_task(read(past))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_is_archived_meanwhile_is_left_to_the_next_read(
    log: EventLog, storage: DirectoryStorage, past: ArchivedPast
) -> None:
    whole = await put_30(log)
    await archive(log, storage)
    stretches = past.read(0, START)
    assert (await anext(stretches)).entries == whole[:10]
    more = await put(log, [CUSTOM], first=31)
    await archive(log, storage)
    assert [s.end.n async for s in stretches] == [20, 30]
    assert await read(past) == more


async def test_a_read_beyond_the_position_names_what_is_missing(
    log: EventLog, storage: DirectoryStorage, past: ArchivedPast
) -> None:
    whole = await put_30(log)
    segments = await archive(log, storage)
    with pytest.raises(HistoryGap, match="ends at sequence 30, not at 31"):
        await read(past, until=EntryId(MS + 1000, 31))
    storage.path(segments[1]).unlink()
    assert await past.position(0) == whole[9].id
    assert await read(past) == whole[:10]
    with pytest.raises(HistoryGap, match="partition 0 lacks the sequences 11 to 20") as caught:
        await read(past, until=whole[-1].id)
    assert "Restore" in caught.value.remedy


async def test_a_file_that_goes_while_it_is_read_is_named(
    log: EventLog, storage: DirectoryStorage, past: ArchivedPast
) -> None:
    whole = await put_30(log)
    segments = await archive(log, storage)
    stretches = past.read(0, START)
    assert (await anext(stretches)).entries == whole[:10]
    storage.path(segments[2]).unlink()
    with pytest.raises(HistoryGap, match="ends at sequence 20, not at 30"):
        _ = [stretch async for stretch in stretches]


async def test_a_file_compacted_while_it_is_read_is_replaced_by_the_new_one(
    log: EventLog, storage: DirectoryStorage, past: ArchivedPast
) -> None:
    whole = await put_30(log)
    segments = await archive(log, storage)
    assert len(await page(past, "c1")) == 8
    stretches = past.read(0, START)
    entries = (await anext(stretches)).entries
    compact(storage, segments)
    async for stretch in stretches:
        entries += stretch.entries
    assert entries == whole
    assert len(await page(past, "c1", before=31)) == 8


@pytest.mark.parametrize("harm", ["flipped", "cut", "emptied", "another's"])
async def test_a_damaged_file_is_named(
    log: EventLog, storage: DirectoryStorage, past: ArchivedPast, harm: str
) -> None:
    whole = await put_30(log)
    _, segment, longer = await archive(log, storage, max_rows=11)
    path = storage.path(segment)
    data = path.read_bytes()
    with pq.ParquetFile(path) as file:
        text = file.metadata.row_group(0).column(SCHEMA.get_field_index("text"))
    at = text.data_page_offset + text.total_compressed_size - 2
    harmed = {
        "flipped": data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :],
        "cut": data[:-100],
        "emptied": b"",
        "another's": storage.path(longer).read_bytes(),
    }
    path.write_bytes(harmed[harm])
    for reading in (read(past), page(past, "c1", newest_first=True)):
        with pytest.raises(HistoryGap, match=r"p0000-0+12-0+22-.*sequences 12 to 22") as caught:
            await reading
        assert "Restore" in caught.value.remedy
    assert await read(past, until=whole[10].id) == whole[:11]
    assert await read(past, after=whole[21].id) == whole[22:]
    assert len(await page(past, "c1", newest_first=True, limit=2)) == 2


async def page(
    past: ArchivedPast,
    conversation: str,
    types: Collection[str] = ("message.received", "message.sent"),
    *,
    limit: int = 50,
    after: int = 0,
    before: int | None = None,
    newest_first: bool = False,
) -> list[RawEntry]:
    return await past.of_conversation(
        0,
        conversation,
        types,
        limit=limit,
        after=after,
        before=before,
        newest_first=newest_first,
    )


@pytest.mark.parametrize("is_compacted", [False, True])
async def test_a_conversation_is_read_page_by_page_from_either_end(
    log: EventLog, storage: DirectoryStorage, past: ArchivedPast, is_compacted: bool
) -> None:
    whole = await put_30(log)
    segments = await archive(log, storage)
    if is_compacted:
        compact(storage, segments)
    for conversation in ("c0", "c1", "c2", "c9", "c"):
        for types in (["message.received", "message.sent"], {"tool.called"}, ["shop.sold"]):
            for after, before in ((0, None), (0, 31), (4, 26), (10, 21), (11, 12), (12, 11)):
                expected = [
                    entry
                    for entry in whole[after : (before or 31) - 1]
                    if conversation_of(entry.raw) == conversation and type_of(entry.raw) in types
                ]
                for limit in (1, 3, 50):
                    bounds = {"limit": limit, "after": after, "before": before}
                    found = await page(past, conversation, types, **bounds)
                    assert found == expected[:limit]
                    found = await page(past, conversation, types, **bounds, newest_first=True)
                    assert found == expected[::-1][:limit]


async def test_a_page_of_a_busy_archive_is_what_the_log_says(
    log: EventLog, storage: DirectoryStorage, past: ArchivedPast
) -> None:
    await log.append(chat_events(3000))
    await archive(log, storage, max_rows=300)
    whole = await log.read_raw(0, START, 1_000_000)
    types = ["message.received", "message.sent"]
    messages = [entry for entry in whole if type_of(entry.raw) in types]
    for conversation in {conversation_of(entry.raw) for entry in messages[-20:]}:
        assert conversation is not None
        expected = [e for e in reversed(messages) if conversation_of(e.raw) == conversation]
        found: list[RawEntry] = []
        while following := await page(
            past,
            conversation,
            limit=7,
            before=found[-1].id.n if found else None,
            newest_first=True,
        ):
            found += following
        assert found == expected


async def test_a_page_holds_what_was_archived_just_now(
    log: EventLog, storage: DirectoryStorage, past: ArchivedPast
) -> None:
    assert await page(past, "c0") == []
    await put_30(log)
    await archive(log, storage)
    assert len(await page(past, "c0", ["shop.sold"])) == 1
    whole = await put(log, [CUSTOM], first=31)
    await archive(log, storage)
    assert await page(past, "c0", ["shop.sold"], after=20) == whole[30:]
    assert await page(past, "c0", ["shop.sold"], limit=1, newest_first=True) == whole[30:]
    await put(log, [CUSTOM], first=32)
    await archive(log, storage)
    found = await page(past, "c0", ["shop.sold"], before=33, newest_first=True)
    assert [entry.id.n for entry in found] == [32, 31, 18]


async def test_a_known_page_costs_no_listing(
    log: EventLog, storage: DirectoryStorage, past: ArchivedPast, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_30(log)
    await archive(log, storage)
    expected = await page(past, "c1", newest_first=True)
    monkeypatch.setattr(storage, "segments", None)
    assert await page(past, "c1", before=31, newest_first=True) == expected
    assert await page(past, "c1", limit=2) == expected[::-1][:2]


async def test_a_page_that_reaches_over_a_gap_says_so(
    log: EventLog, storage: DirectoryStorage, past: ArchivedPast
) -> None:
    await put_30(log)
    segments = await archive(log, storage)
    storage.path(segments[1]).unlink()
    for bounds in ({"newest_first": True}, {"before": 25, "newest_first": True}, {"limit": 20}):
        with pytest.raises(HistoryGap, match="partition 0 lacks the sequences 11 to 20"):
            await page(past, "c1", **bounds)  # type: ignore[arg-type]
    assert len(await page(past, "c1", limit=3)) == 3
    assert len(await page(past, "c1", before=11, newest_first=True)) == 3
