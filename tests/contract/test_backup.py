"""Backups taken while everything runs, and what is restored of them."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from analytics import Archiver, Rolling
from analytics.backup import read_manifest, verify_backup
from analytics.past import ArchivedPast
from consumers import Context, Retry, Worker
from eventlog import EventLog, MessageReceived
from eventlog.entry import RawEntry
from eventlog.errors import (
    BackupDamaged,
    ConfigurationError,
    HistoryGap,
    ProducerGap,
    RestoreRefused,
    VersionConflict,
)
from eventlog.ids import EntryId
from projections.building.verifying import verify
from projections.builtin import DEFAULT_PROJECTIONS
from projections.projecting.projector import Projector
from tests.backups import (
    PARTITIONS,
    Place,
    archive,
    bring_back,
    history,
    pictures,
    sessions,
    storage_of,
    take,
    talk,
    trim_archived,
)
from tests.building import projecting
from tests.support import eventually
from tests.working import QUICK, Seen, all_handled, at_work, killed_at_the_end

_numbers = count(1)


@pytest.fixture
def place(server_url: str, tmp_path: Path) -> Place:
    return Place.at(server_url, tmp_path, f"kept{next(_numbers)}")


@pytest.fixture
def there(server_url: str, tmp_path: Path) -> Place:
    """Where it is restored to: the same server, under another name."""
    return Place.at(server_url, tmp_path, f"back{next(_numbers)}")


@pytest.fixture
async def log(place: Place) -> AsyncIterator[EventLog]:
    async with place.new() as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backup"


async def lived(log: EventLog, *, trim: bool = True) -> None:
    """Some of it archived and trimmed, some archived, some not."""
    await log.append(sessions(6))
    await log.append(talk(200))
    await (await log.producer("bulk")).append(list(enumerate(talk(30, begin=1000), 1)))
    await archive(log, max_rows=40)
    if trim:
        await trim_archived(log, keep=20)
    await log.append(talk(50, begin=200))


async def half_done(log: EventLog) -> Seen:
    """A worker that has handled some, fails at one chat, and is killed with the rest in hand."""
    seen, blocked = Seen(), asyncio.Event()

    async def handle(event: MessageReceived, context: Context) -> None:
        if event.conversation == "telegram:1":
            raise RuntimeError("not today")
        if seen.count >= 60:
            await blocked.wait()
        seen.note(event, context)

    worker = Worker(log, "helpers")
    worker.on(MessageReceived, retry=Retry(attempts=9, first_delay_s=60, jitter=0))(handle)
    async with killed_at_the_end(worker):
        await eventually(lambda: seen.count >= 60)
        await eventually(partial(_has_lines, log))
    return seen


async def _has_lines(log: EventLog) -> bool:
    keys = log.keys
    return any(
        [await log.client.exists(keys.blocked(p, "helpers")) for p in range(log.partition_count)]
    )


class TestWhole:
    @pytest.mark.parametrize("what", ["a group amid its work", "a trimmed stream", "nothing"])
    async def test_all_of_it_is_there_again(self, log, there, folder, what):
        if what != "nothing":
            await lived(log, trim=what == "a trimmed stream")
        if what == "a group amid its work":
            await half_done(log)
        manifest = await take(log, folder)
        assert verify_backup(folder, manifest) == []
        restored = await bring_back(there, folder, log)
        assert (restored.kind, restored.erasure_count) == ("empty", 0)
        async with there.open() as back:
            assert back.partition_count == PARTITIONS
            assert await pictures(back) == await pictures(log)
            assert await history(back) == await history(log)
            if what != "nothing":
                assert await stream_facts(back) == await stream_facts(log)

    async def test_what_was_known_is_known_and_what_was_expected_is(self, log, there, folder):
        await lived(log)
        await take(log, folder)
        await bring_back(there, folder, log)
        async with there.open() as back:
            again = await back.append(talk(3, begin=210))
            assert [each.duplicate for each in again] == [True] * 3
            assert [each.id for each in again] == [
                each.id for each in await log.append(talk(3, begin=210))
            ]
            [start] = sessions(1)
            with pytest.raises(VersionConflict) as raised:
                await back.append(
                    MessageReceived(conversation="telegram:0", text=""),
                    expected_version={str(start.entity): 0},
                )
            assert raised.value.actual_version == 1
            producer = await back.producer("bulk")
            assert await producer.append(list(enumerate(talk(31, begin=1000), 1))) == 1
            [new] = await back.append(talk(1, begin=5000))
            assert new.id.n == (await log.heads())[new.partition].n + 1 + (
                new.partition == back.partition_of("telegram:6")
            )

    async def test_a_worker_goes_on_where_it_was(self, log, there, folder):
        await lived(log, trim=False)
        before = await half_done(log)
        await take(log, folder)
        await bring_back(there, folder, log)
        after = Seen()
        async with there.open() as back:
            worker = Worker(back, "helpers")
            worker.on(MessageReceived)(after)
            # Those of a failing chat wait for a minute, as they did.
            for partition in range(PARTITIONS):
                blocked = back.keys.blocked(partition, "helpers")
                for name in await back.client.zrange(blocked, 0, -1):
                    await back.client.zadd(blocked, {name: 0})
            async with at_work(worker):
                await all_handled(worker)
            told = await back.client.hgetall(back.keys.groups())
        assert list(told) == [b"helpers"]
        expected = {e.text for e in [*talk(250), *talk(30, begin=1000)]}
        done, again = (
            {t for texts in seen.texts.values() for t in texts} for seen in (before, after)
        )
        trimmed = expected - done - again
        assert not trimmed
        # At least once: what was handled and not yet settled when it was killed.
        assert len(done & again) < 60
        order = [text for partition in await history(log) for text in texts_of(log, partition)]
        for chat, texts in after.texts.items():
            assert texts == [text for text in order if text in texts], chat

    async def test_read_models_are_the_fold_of_it(self, log, there, folder):
        await lived(log)
        await take(log, folder)
        await bring_back(there, folder, log)
        async with there.open() as back:
            past = ArchivedPast(storage_of(back))
            await Projector(back, past=past).run_until_caught_up()
            for projection in DEFAULT_PROJECTIONS[:3]:
                async for outcome in verify(back, projection, past=past):
                    assert outcome.agrees
            await archive(back)
            assert await history(back) == await history(log)

    async def test_taken_while_everything_runs_it_is_of_one_moment_by_partition(
        self, log, there, folder
    ):
        await lived(log, trim=False)
        stop, numbers, seen = asyncio.Event(), count(300), Seen()

        async def produce() -> None:
            producer = await log.producer("busy")
            for number in numbers:
                if stop.is_set():
                    return
                await log.append(talk(5, begin=number * 10))
                await producer.append(
                    [
                        (number * 10 + n + 1, event)
                        for n, event in enumerate(talk(5, begin=number * 10 + 5))
                    ]
                )

        worker = Worker(log, "helpers")

        @worker.on(MessageReceived, retry=QUICK)
        async def handle(event: MessageReceived, context: Context) -> None:
            if event.text.endswith("7") and context.attempt == 1:
                raise RuntimeError("again")
            seen.note(event, context)

        archiver = Archiver(log, storage_of(log), rolling=Rolling(rows=20, max_rows=40))
        async with projecting(log), at_work(worker), asyncio.TaskGroup() as tasks:
            tasks.create_task(produce())
            archiving = tasks.create_task(archiver.run(stop))
            await eventually(lambda: seen.count > 100)
            for _ in range(3):
                manifest = await take(log, folder)
            stop.set()
            await archiving
        await archiver.close()
        assert verify_backup(folder, manifest) == []
        await bring_back(there, folder, log)
        async with there.open() as back:
            entries, originals = await history(back), await history(log)
            versions = {}
            for mine, theirs, kept in zip(entries, originals, manifest.partitions, strict=True):
                assert mine == theirs[: kept.head.n]
                assert mine[-1].id == kept.head
            for found in await pictures(back):
                remembered = {EntryId.parse(each).n for each in found.ids.values()}
                assert max(remembered) <= found.head.n
                for value in found.producers.values():
                    _, _, _, first_n, added = value.split()
                    assert int(first_n) + int(added) - 1 <= found.head.n
                versions |= found.versions
            assert versions == {f"session:s{n}": "1" for n in range(6)}
            rest = Seen()
            worker = Worker(back, "helpers")
            worker.on(MessageReceived)(rest)
            async with at_work(worker):
                await all_handled(worker)
        everything = {text for partition in entries for text in texts_of(log, partition)}
        done = {text for each in (seen, rest) for texts in each.texts.values() for text in texts}
        assert everything <= done


def texts_of(log: EventLog, entries: list[RawEntry]) -> list[str]:
    events = (log.codec.decode(entry.raw) for entry in entries)
    return [event.text for event in events if isinstance(event, MessageReceived)]


async def stream_facts(log: EventLog) -> list[dict[bytes, object]]:
    names = (b"last-generated-id", b"entries-added", b"length", b"groups")
    found = []
    for partition in range(log.partition_count):
        flat = await log.client.xinfo_stream(log.keys.stream(partition))
        facts = dict(zip(flat[::2], flat[1::2], strict=True))
        found.append({name: facts[name] for name in names})
    return found


class TestFolder:
    async def test_a_later_one_copies_what_is_new_and_drops_what_is_old(self, log, folder):
        await lived(log)
        first = await take(log, folder)
        segments = {each.name: each for p in first.partitions for each in p.segments}
        places = {
            each.file.path: (folder / each.file.path).stat().st_ino for each in segments.values()
        }
        await log.append(talk(40, begin=400))
        await archive(log)
        second = await take(log, folder)
        kept = {each.file.path for p in second.partitions for each in p.segments}
        assert kept > set(places)
        assert all((folder / path).stat().st_ino == inode for path, inode in places.items())
        present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        assert present - {".lock", "manifest.json"} == {file.path for file in second.files}

    async def test_a_segment_that_was_rewritten_is_copied_again(self, log, folder):
        await lived(log)
        first = await take(log, folder)
        record = first.partitions[0].segments[0]
        path = storage_of(log).path(record.segment)
        staged = storage_of(log).stage(record.segment)
        staged.write_bytes(path.read_bytes())
        storage_of(log).replace(staged, record.segment)
        second = await take(log, folder)
        assert second.partitions[0].segments[0].file.path != record.file.path
        assert not (folder / record.file.path).exists()
        assert verify_backup(folder, second) == []

    async def test_it_is_for_its_owner_alone_and_holds_no_secret(self, log, folder):
        await lived(log)
        await take(log, folder)
        for path in [folder, *folder.rglob("*")]:
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o700 if path.is_dir() else 0o600), path
        settings = read_manifest(folder).settings
        assert settings["password"] is None or settings["password"] == "***"

    async def test_a_directory_of_something_else_is_refused(self, log, folder):
        folder.mkdir()
        (folder / "thesis.txt").write_text("mine")
        with pytest.raises(ConfigurationError, match=r"holds 'thesis.txt'"):
            await take(log, folder)
        with pytest.raises(ConfigurationError, match="is no directory"):
            await take(log, folder / "thesis.txt")

    async def test_a_backup_is_not_replaced_by_one_of_less(self, log, server_url, tmp_path, folder):
        await lived(log)
        await take(log, folder)
        async with Place.at(server_url, tmp_path, f"other{next(_numbers)}").new() as other:
            with pytest.raises(ConfigurationError, match="backup of another log"):
                await take(other, folder)
        await log.client.set(log.keys.head(2), "1-1")
        with pytest.raises(RestoreRefused, match=r"partition 2 ends at 1-1, but"):
            await take(log, folder)

    async def test_what_is_nowhere_is_said_and_the_backup_before_stays(self, log, folder):
        await lived(log)
        manifest = await take(log, folder)
        gone = next(s for s in storage_of(log).segments() if s.first == 1)
        storage_of(log).remove(gone)
        with pytest.raises(HistoryGap, match=rf"partition {gone.partition}: entry 1 is neither"):
            await take(log, folder)
        assert read_manifest(folder) == manifest
        assert verify_backup(folder, manifest) == []

    async def test_a_damaged_segment_does_not_take_the_place_of_its_copy(self, log, folder):
        await lived(log)
        manifest = await take(log, folder)
        path = storage_of(log).path(manifest.partitions[0].segments[0].segment)
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(HistoryGap, match="is cut short"):
            await take(log, folder)
        assert verify_backup(folder, manifest) == []

    async def test_two_at_once(self, log, folder):
        await lived(log)
        both = await asyncio.gather(take(log, folder), take(log, folder), return_exceptions=True)
        assert sum(isinstance(each, ConfigurationError) for each in both) == 1
        assert verify_backup(folder, read_manifest(folder)) == []

    @pytest.mark.parametrize("whole", ["nothing", "half"])
    async def test_there_is_no_backup(self, tmp_path, whole):
        if whole == "half":
            (tmp_path / "segments").mkdir()
        with pytest.raises(BackupDamaged, match="holds no complete backup"):
            read_manifest(tmp_path)


class TestOld:
    async def test_a_producer_that_was_further_is_told(self, log, there, folder):
        await lived(log)
        await take(log, folder)
        producer = await log.producer("bulk")
        await producer.append([(31, talk(1, begin=7000)[0])])
        await bring_back(there, folder, log)
        async with there.open() as back:
            producer._store = back._store
            with pytest.raises(ProducerGap):
                await producer.append([(32, talk(1, begin=7000)[0])])
