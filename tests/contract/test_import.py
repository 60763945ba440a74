"""The importers' driver against a real server: once and for ever, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from bridge.importers import unit_import
from bridge.importers.importing import Progress, import_paths, import_source
from eventlog.entry import Entry
from eventlog.errors import ImportFailed, LogUnavailable
from eventlog.log import EventLog
from eventlog.producer import Producer
from eventlog.redis_store import RedisStore

ROOT = Path(__file__).parent.parent.parent
SAMPLE = [ROOT / "examples" / "data", ROOT / "tests" / "data"]


def line(number: int, chat: str | None = None, **keys: Any) -> str:
    given = {"id": f"e{number}", "ts": 1_735_689_600_000 + number, "kind": "msg.in"}
    return json.dumps({**given, "chat": chat or f"c{number % 7}", "text": f"text {number}", **keys})


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{text}\n" for text in lines), encoding="utf-8")
    return path


async def entries(log: EventLog) -> list[Entry]:
    found: list[Entry] = []
    for partition in range(log.partition_count):
        found += await log.read(partition=partition, limit=100_000)
    return found


async def ids(log: EventLog) -> list[str]:
    return sorted(entry.event.id for entry in await entries(log))


async def test_all_formats_import_and_again_adds_nothing(log):
    report = await import_paths(log, SAMPLE)
    assert report.rejected_count == 0
    assert report.events_added == len(await entries(log)) > 1500
    again = await import_paths(log, SAMPLE)
    assert (again.events_added, again.duplicates_skipped) == (0, report.events_added)
    assert again.counts() == report.counts()
    assert len(await entries(log)) == report.events_added


async def test_every_event_is_once_in_the_log_and_conversations_keep_file_order(log, tmp_path):
    path = write(tmp_path / "x.jsonl", *(line(n) for n in range(5000)))
    await import_source(log, path)
    found = await entries(log)
    assert sorted(e.event.id for e in found) == sorted(f"e{n}" for n in range(5000))
    for chat in {e.event.conversation for e in found}:
        numbers = [int(e.event.id[1:]) for e in found if e.event.conversation == chat]
        assert numbers == sorted(numbers)


async def test_a_moved_folder_adds_nothing(log, tmp_path):
    await import_paths(log, [SAMPLE[1]])
    shutil.copytree(SAMPLE[1], tmp_path / "elsewhere")
    report = await import_paths(log, [tmp_path / "elsewhere"])
    assert report.events_added == 0


async def test_a_file_that_grew_adds_what_is_new(log, tmp_path):
    path = write(tmp_path / "x.jsonl", *(line(n) for n in range(10)))
    await import_source(log, path)
    write(path, *(line(n) for n in range(15)))
    report = await import_source(log, path)
    assert (report.events_added, report.duplicates_skipped) == (5, 10)


async def test_a_refused_line_is_reported_and_once_corrected_added(log, tmp_path):
    lines = [line(n) for n in range(9)]
    path = write(tmp_path / "x.jsonl", *lines[:4], "{", *lines[5:])
    report = await import_source(log, path)
    assert [str(r) for r in report.rejected] == ["x.jsonl:5: Input data was truncated"]
    assert (report.events_added, report.rejected_count) == (8, 1)
    write(path, *lines)
    assert (await import_source(log, path)).events_added == 1
    assert (await import_source(log, path)).events_added == 0
    assert await ids(log) == [f"e{n}" for n in range(9)]


async def test_a_corrected_first_line_does_not_import_the_file_anew(log, tmp_path):
    lines = [line(n) for n in range(9)]
    path = write(tmp_path / "x.jsonl", "{", *lines[1:])
    await import_source(log, path)
    write(path, *lines)
    assert (await import_source(log, path)).events_added == 1
    assert await ids(log) == [f"e{n}" for n in range(9)]


async def test_a_last_line_that_was_half_written_is_added_when_whole(log, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(f"{line(1)}\n{line(2)[:20]}")
    assert (await import_source(log, path)).rejected_count == 1
    write(path, line(1), line(2), line(3))
    assert (await import_source(log, path)).events_added == 2
    assert await ids(log) == ["e1", "e2", "e3"]


async def test_a_line_that_was_broken_after_it_was_imported_is_not_added_twice(log, tmp_path):
    lines = [line(n) for n in range(5)]
    path = write(tmp_path / "x.jsonl", *lines)
    await import_source(log, path)
    write(path, *lines[:2], "{", *lines[3:])
    assert (await import_source(log, path)).rejected_count == 1
    write(path, *lines)
    assert (await import_source(log, path)).events_added == 0


async def test_an_event_the_log_refuses_is_a_refused_line(log, tmp_path):
    lines = [line(n) for n in range(9)]
    big = line(4, text="x" * 2_000_000)
    path = write(tmp_path / "x.jsonl", *lines[:4], big, *lines[5:])
    report = await import_source(log, path)
    assert [r.line for r in report.rejected] == [5]
    assert "limit" in report.rejected[0].reason
    assert report.events_added == report.counts()["msg.in"] == 8
    write(path, *lines)
    assert (await import_source(log, path)).events_added == 1


async def test_strict_stops_at_the_first_bad_line_and_keeps_what_came_before(log, tmp_path):
    path = write(tmp_path / "x.jsonl", line(1), "{", line(3), "{")
    with pytest.raises(ImportFailed, match=r"x\.jsonl:2: Input data was truncated"):
        await import_source(log, path, strict=True)
    assert await ids(log) == ["e1"]
    write(path, line(1), line(2), line(3), line(4))
    assert (await import_source(log, path, strict=True)).events_added == 3
    assert await ids(log) == ["e1", "e2", "e3", "e4"]


async def test_repeated_lines_count_as_duplicates(log, tmp_path):
    path = write(tmp_path / "x.jsonl", line(1), line(2), line(1))
    report = await import_source(log, path)
    assert report.counts() == {"msg.in": 2, "duplicates": 1}
    assert report.events_added == 2


async def test_names_the_log_would_not_take_are_made_fit(log, tmp_path):
    folder = tmp_path / "my logs"
    folder.mkdir()
    text = "[09:14] <cat> hi\n"
    for name in ("2010-01-31 a chat.txt", "2010-01-31_a_chat.txt", f"2010-01-31{'x' * 200}.txt"):
        (folder / name).write_text(text)
    assert (await import_paths(log, [folder])).events_added == 3
    assert (await import_paths(log, [folder])).events_added == 0


async def test_progress_ends_at_the_whole_file(log, tmp_path, monkeypatch):
    monkeypatch.setattr(unit_import, "BATCH_EVENTS", 100)
    path = write(tmp_path / "x.jsonl", *(line(n) for n in range(1000)))
    seen: list[Progress] = []
    await import_source(log, path, progress=seen.append)
    assert len(seen) > 5
    assert seen[-1].bytes_done == seen[-1].total_bytes == path.stat().st_size
    assert seen[-1].events_added == 1000
    assert [p.events_added for p in seen] == sorted(p.events_added for p in seen)


async def test_few_batches_are_under_way_at_once(log, tmp_path, monkeypatch):
    monkeypatch.setattr(unit_import, "BATCH_EVENTS", 20)
    under_way, most = 0, 0
    original = Producer.append

    async def append(producer: Producer, items: Any) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await original(producer, items)
        finally:
            under_way -= 1

    monkeypatch.setattr(Producer, "append", append)
    await import_source(log, write(tmp_path / "x.jsonl", *(line(n) for n in range(1000))))
    assert most == unit_import.FLIGHT_COUNT


def lose_an_append(patch: pytest.MonkeyPatch, fail_at: int, *, after: bool) -> None:
    """From the given append on, the server is gone; or one alone is lost before it gets there."""
    calls = 0
    original = RedisStore.append

    async def append(store: RedisStore, *given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == fail_at and not after:
            raise LogUnavailable("gone")
        outcome = await original(store, *given)
        if after and calls >= fail_at:
            raise LogUnavailable("gone")
        return outcome

    patch.setattr(RedisStore, "append", append)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("seed", range(6))
async def test_an_interrupted_import_resumes(log, tmp_path, seed, after):
    """Lost before or after the server took it, at any batch: a second run ends in the same log."""
    lines = [line(n) if n % 50 else "{" for n in range(2000)]
    path = write(tmp_path / "x.jsonl", *lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unit_import, "BATCH_EVENTS", 100)
        lose_an_append(patch, random.Random(seed).randint(1, 70), after=after)
        with pytest.raises((LogUnavailable, ImportFailed)):
            await import_source(log, path)
    report = await import_source(log, path)
    assert report.counts()["msg.in"] == 1960
    assert await ids(log) == sorted(f"e{n}" for n in range(2000) if n % 50)
    write(path, *(line(n) for n in range(2000)))
    assert (await import_source(log, path)).events_added == 40
    assert await ids(log) == sorted(f"e{n}" for n in range(2000))


async def test_a_cancelled_import_resumes(log, tmp_path, monkeypatch):
    monkeypatch.setattr(unit_import, "BATCH_EVENTS", 100)
    path = write(tmp_path / "x.jsonl", *(line(n) for n in range(3000)))
    started = asyncio.Event()
    task = asyncio.create_task(import_source(log, path, progress=lambda _: started.set()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert 0 < len(await entries(log)) < 3000
    await import_source(log, path)
    assert await ids(log) == sorted(f"e{n}" for n in range(3000))


async def test_two_imports_of_one_source_at_once_add_it_once(log, tmp_path, monkeypatch):
    monkeypatch.setattr(unit_import, "BATCH_EVENTS", 50)
    path = write(tmp_path / "x.jsonl", *(line(n) for n in range(2000)))
    outcomes = await asyncio.gather(
        import_source(log, path), import_source(log, path), return_exceptions=True
    )
    for outcome in outcomes:
        assert not isinstance(outcome, BaseException) or isinstance(outcome, ImportFailed)
    await import_source(log, path)
    assert await ids(log) == sorted(f"e{n}" for n in range(2000))
