"""Restoring: onto what, what is refused, what nobody may open meanwhile, and from the archive alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import msgspec
import pytest

from analytics.backup import complete
from analytics.past import ArchivedPast
from bridge.erasing import erase, ledger_of
from consumers import Worker
from eventlog import (
    ConversationCleared,
    ConversationMapped,
    EventLog,
    MessageReceived,
    MessageSent,
    SessionStarted,
    SessionTransitioned,
)
from eventlog.errors import (
    BackupDamaged,
    ConfigurationError,
    HistoryGap,
    LogRestoring,
    PartitionMismatch,
    RestoreRefused,
    VersionConflict,
)
from eventlog.event import Event
from eventlog.ids import START, EntryId
from projections.building.verifying import verify
from projections.builtin import DEFAULT_PROJECTIONS
from projections.projecting.projector import Projector
from service.restoring import restore_log
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
)
from tests.erasing import CHAT, SECRET, USER, in_files, life_of
from tests.support import eventually
from tests.working import Seen, all_handled, at_work

_numbers = count(1)


@pytest.fixture
def place(server_url: str, tmp_path: Path) -> Place:
    return Place.at(server_url, tmp_path, f"restored{next(_numbers)}")


@pytest.fixture
def there(server_url: str, tmp_path: Path) -> Place:
    return Place.at(server_url, tmp_path, f"found{next(_numbers)}")


@pytest.fixture
async def log(place: Place) -> AsyncIterator[EventLog]:
    async with place.new() as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backup"


async def lived(log: EventLog) -> None:
    await log.append(sessions(4))
    await log.append(
        [
            *(ConversationMapped(conversation=f"telegram:{n}", session=f"s{n}") for n in range(4)),
            SessionTransitioned(conversation="telegram:1", session="s1", to_status="completed"),
            ConversationCleared(conversation="telegram:2"),
        ]
    )
    await log.append(talk(120))
    await archive(log, max_rows=30)
    await log.append(talk(30, begin=120))


async def lose(log: EventLog) -> None:
    """Delete all that the server has of the log."""
    keys = [key async for key in log.client.scan_iter(f"{{{log.keys.log}[:}}]*", count=1000)]
    for key in keys:  # of several slots, where the server is a cluster
        await log.client.delete(key)


async def handled(log: EventLog, group: str) -> Seen:
    seen = Seen()
    worker = Worker(log, group)
    worker.on(MessageReceived)(seen)
    async with at_work(worker):
        await all_handled(worker)
    return seen


class TestOntoWhat:
    async def test_a_server_that_lost_everything(self, log, place, folder):
        await lived(log)
        before = await pictures(log)
        await take(log, folder)
        await lose(log)
        assert (await bring_back(place, folder, log)).kind == "empty"
        assert await pictures(log) == before
        await log.append(talk(1, begin=999))

    async def test_an_older_state_of_the_log_is_brought_up_to_the_backup(
        self, log, there, folder, tmp_path
    ):
        await lived(log)
        await take(log, tmp_path / "early")
        await log.append(talk(40, begin=150))
        await archive(log)
        await take(log, folder)
        await bring_back(there, tmp_path / "early", log)
        assert (await bring_back(there, folder, log)).kind == "older"
        async with there.open() as back:
            assert await pictures(back) == await pictures(log)
            assert await history(back) == await history(log)

    async def test_what_the_backup_lacks_is_not_destroyed_unasked(self, log, place, folder):
        await lived(log)
        await take(log, folder)
        [new] = await log.append(talk(1, begin=500))
        before = await pictures(log)
        with pytest.raises(
            RestoreRefused, match=rf"partition {new.partition} ends at {new.id} there"
        ):
            await bring_back(place, folder, log)
        assert await pictures(log) == before
        assert (await bring_back(place, folder, log, overwrite=True)).kind == "replaced"
        assert (await log.heads())[new.partition].n == new.id.n - 1

    async def test_a_group_that_is_further_would_do_again_what_it_did(self, log, place, folder):
        await lived(log)
        await take(log, folder)
        await handled(log, "helpers")
        with pytest.raises(RestoreRefused, match="group 'helpers' is further on the server"):
            await bring_back(place, folder, log)

    async def test_another_log_is_refused_and_one_without_metadata(self, log, there, folder):
        await lived(log)
        await take(log, folder)
        async with there.new() as other:
            await other.append(talk(1))
            with pytest.raises(RestoreRefused, match="another log of that name"):
                await bring_back(there, folder, log)
            # As a bot leaves it that was running when the server came back empty.
            await other.client.delete(other.keys.meta())
        with pytest.raises(RestoreRefused, match="another log of that name"):
            await bring_back(there, folder, log)
        await bring_back(there, folder, log, overwrite=True)
        async with there.open() as back:
            assert await pictures(back) == await pictures(log)

    async def test_an_archive_of_another_log_is_refused(self, log, there, folder):
        await lived(log)
        await take(log, folder)
        async with there.new() as other:
            await other.append(talk(20))
            await archive(other)
            await lose(other)
        with pytest.raises(RestoreRefused, match="the archive is of another log"):
            await bring_back(there, folder, log)

    async def test_a_setting_of_another_partition_count_is_told(self, log, there, folder):
        await lived(log)
        await take(log, folder)
        await bring_back(there, folder, log)
        with pytest.raises(PartitionMismatch):
            await there.open(partition_count=PARTITIONS + 1)


class TestMeanwhile:
    async def test_nobody_opens_it_before_it_is_whole(self, log, there, folder):
        await lived(log)
        await take(log, folder)
        restored = await bring_back(there, folder, log, whole=False)
        with pytest.raises(LogRestoring, match="run the same `eventlog restore` again"):
            await there.open()
        with pytest.raises(LogRestoring):
            await there.open(restoring="another")
        async with there.open(restoring=restored.token) as back:
            await complete(back)
        async with there.open() as back:
            assert await pictures(back) == await pictures(log)

    async def test_who_has_it_open_waits_and_goes_on(self, log, place, folder, tmp_path):
        """A bot with a spool, and a projector, that run all the while."""
        await lived(log)
        await take(log, folder)
        settings = msgspec.structs.replace(place.settings, spool_dir=str(tmp_path / "spool"))

        class Killed(BaseException):
            pass

        def kill(step: str) -> None:
            if step == "guarded":
                raise Killed

        async with EventLog.open(settings=settings) as bot:
            await lose(log)
            with pytest.raises(Killed):
                await bring_back(place, folder, log, reached=kill)
            with pytest.raises(LogRestoring):
                await log.append(talk(1, begin=901))
            with pytest.raises(LogRestoring):
                await log.heads()
            said = await bot.append(talk(1, begin=900))
            assert said[0].is_spooled
            await bring_back(place, folder, log)
            await eventually(lambda: not bot.is_degraded)
        texts = [e.event.text for e in await log.read(conversation="telegram:4", limit=1000)]
        assert texts[-1] == "text 900"

    async def test_owners_from_before_are_fenced(self, log, place, folder):
        await lived(log)
        await handled(log, "helpers")
        await take(log, folder)
        before = [await generation(log, p, "helpers") for p in range(PARTITIONS)]
        await lose(log)
        await bring_back(place, folder, log)
        for partition in range(PARTITIONS):
            assert await generation(log, partition, "helpers") > before[partition] + 1_000_000


async def generation(log: EventLog, partition: int, group: str) -> int:
    return int(await log.client.hget(log.keys.lease(partition, group), "generation") or 0)


class TestBeyond:
    """The archive outlived the server, and has more than the backup."""

    async def test_what_only_the_archive_has_is_restored_too(self, log, place, folder):
        await lived(log)
        seen = await handled(log, "helpers")
        await take(log, folder)
        await log.append(talk(60, begin=150))
        sent = MessageSent(conversation="telegram:3", text="done", id="sent")
        await log.append([*sessions(6)[4:], sent])
        await archive(log)
        whole = await history(log)
        before = await pictures(log)
        lost = await log.append(talk(1, begin=800))
        await lose(log)
        restored = await bring_back(place, folder, log)
        assert sum(each.beyond_count for each in restored.partitions) == 63
        assert await history(log) == whole
        after = await pictures(log)
        for now, then in zip(after, before, strict=True):
            assert (now.head, now.entries, now.versions) == (then.head, then.entries, then.versions)
            assert now.ids == then.ids
        again = await log.append(talk(2, begin=200))
        assert [each.duplicate for each in again] == [True, True]
        assert (await log.append(talk(1, begin=800)))[0].id.n == lost[0].id.n
        rest = await handled(log, "helpers")
        texts = {text for each in (seen, rest) for found in each.texts.values() for text in found}
        assert texts == {event.text for event in [*talk(210), *talk(1, begin=800)]}
        assert not {t for f in rest.texts.values() for t in f} & {event.text for event in talk(150)}


class TestFromArchive:
    async def test_a_lost_server_costs_what_was_not_archived(self, log, place):
        await lived(log)
        archived = [await ArchivedPast(storage_of(log)).position(p) for p in range(PARTITIONS)]
        before = await pictures(log)
        await lose(log)
        outcome = await restore_log(place.settings, None, groups=["helpers"])
        assert [each.head for each in outcome.restored.partitions] == archived
        assert await log.heads() == archived
        past = ArchivedPast(storage_of(log))
        for now, then, end in zip(await pictures(log), before, archived, strict=True):
            assert now.versions == then.versions
            kept = {i: e for i, e in then.ids.items() if EntryId.parse(e).n <= end.n}
            assert now.ids == kept
            assert now.entries == []
        for projection in DEFAULT_PROJECTIONS[:3]:
            async for verified in verify(log, projection, past=past):
                assert verified.agrees
        assert [each.duplicate for each in await log.append(talk(2))] == [True, True]
        start = SessionStarted(conversation="telegram:0", session="s0")
        with pytest.raises(VersionConflict):
            await log.append(start, expected_version=0)
        [new] = await log.append(talk(1, begin=700))
        assert new.id.n == archived[new.partition].n + 1
        seen = await handled(log, "helpers")
        assert dict(seen.texts) == {new_chat(700): ["text 700"]}
        await archive(log)

    async def test_a_log_that_is_there_is_not_replaced_by_its_archive(self, log, place):
        await lived(log)
        await archive(log)
        with pytest.raises(
            RestoreRefused, match="groups and producers' positions that the archive"
        ):
            await bring_back(place, None, log)

    async def test_what_the_server_still_says_it_had_is_told_as_lost(self, log, place):
        await lived(log)
        for partition in range(PARTITIONS):
            await log.client.delete(log.keys.stream(partition))
        with pytest.raises(RestoreRefused):
            await bring_back(place, None, log)
        restored = await bring_back(place, None, log, overwrite=True)
        assert sum(each.lost_count or 0 for each in restored.partitions) == 30

    async def test_the_partition_count_is_found_out_or_asked_for(self, log, place, there):
        await lived(log)
        await lose(log)
        wrong = msgspec.structs.replace(place.settings, partition_count=PARTITIONS + 1)
        with pytest.raises(PartitionMismatch, match="did not have 5 partitions, but 4"):
            await restore_log(wrong, None)
        with pytest.raises(RestoreRefused, match="holds no segment"):
            await restore_log(there.settings, None)
        async with there.new() as other:
            await other.append(talk(3, chats=1))
            await archive(other)
            await lose(other)
        with pytest.raises(ConfigurationError, match="may have had"):
            await restore_log(there.settings, None)

    async def test_types_of_your_own_keep_their_versions_where_they_are_known(self, log, place):
        class Filed(Event, frozen=True, kw_only=True, tag="shop.filed"):
            VERSIONED = "conversation"

        await lived(log)
        async with EventLog.open(settings=place.settings, types=[Filed]) as shop:
            await shop.append([Filed(conversation="shop:1"), Filed(conversation="shop:1")])
            await archive(shop)
            await lose(shop)
            restored = await bring_back(place, None, shop)
            assert restored.unknown_types == []
            versions = [each.versions.get("conversation:shop:1") for each in await pictures(shop)]
            assert "2" in versions
            await lose(shop)
            restored = await bring_back(place, None, log)
            assert restored.unknown_types == ["shop.filed"]


class TestErased:
    async def test_what_was_erased_since_is_erased_again(self, log, place, folder):
        await log.append(life_of(CHAT, USER, SECRET))
        await archive(log)
        await log.append(life_of(CHAT, USER, SECRET)[2:5])
        await Projector(log).run_until_caught_up()
        await take(log, folder)
        await erase(log, chat=CHAT)
        await lose(log)
        for segment in storage_of(log).segments():
            storage_of(log).remove(segment)
        outcome = await restore_log(place.settings, folder)
        assert outcome.erased is not None
        assert outcome.erased.event_count > 10
        for partition in await history(log):
            assert not any(SECRET.encode() in entry.raw for entry in partition)
        assert in_files(log.settings.data_path) == []

    async def test_a_ledger_that_was_lost_is_the_backup_s(self, log, there, folder):
        await log.append(life_of(CHAT, USER, SECRET))
        await erase(log, chat=CHAT)
        await take(log, folder)
        restored = await bring_back(there, folder, log)
        assert restored.erasure_count == 1
        async with there.open() as back:
            [mine], [theirs] = ledger_of(back).read(), ledger_of(log).read()
            assert (mine.scope, mine.is_completed) == (theirs.scope, True)
        again = await bring_back(there, folder, log)
        assert again.erasure_count == 0


class TestDamaged:
    @pytest.mark.parametrize("what", ["missing", "cut", "changed", "manifest", "another format"])
    async def test_it_is_refused_before_anything_is_changed(self, log, there, folder, what):
        await lived(log)
        manifest = await take(log, folder)
        victim = folder / manifest.partitions[1].segments[0].file.path
        content = victim.read_bytes()
        if what == "missing":
            victim.unlink()
        elif what == "cut":
            victim.write_bytes(content[:-1])
        elif what == "changed":
            victim.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
        else:
            path = folder / "manifest.json"
            text = path.read_bytes()
            path.write_bytes(
                text.replace(b'"format":1', b'"format":9', 1) if what != "manifest" else text[:-40]
            )
        with pytest.raises((BackupDamaged, ConfigurationError), match=r"file|manifest"):
            await bring_back(there, folder, log)
        async with there.open() as back:
            assert await back.heads() == [START] * back.partition_count
            assert storage_of(back).segments() == []

    async def test_the_archive_s_own_file_beyond_the_backup_is_named(self, log, place, folder):
        await lived(log)
        await take(log, folder)
        known = set(storage_of(log).segments())
        await log.append(talk(20, begin=150))
        await archive(log)
        path = next(storage_of(log).path(s) for s in storage_of(log).segments() if s not in known)
        await lose(log)
        path.write_bytes(b"garbage")
        with pytest.raises(HistoryGap, match="is cut short"):
            await bring_back(place, folder, log)

    async def test_the_archive_s_file_that_the_backup_has_is_mended(self, log, place, folder):
        await lived(log)
        whole = await history(log)
        await take(log, folder)
        path = storage_of(log).path(storage_of(log).segments()[0])
        await lose(log)
        path.write_bytes(path.read_bytes()[:-9])
        await bring_back(place, folder, log)
        assert await history(log) == whole


def new_chat(number: int) -> str:
    return f"telegram:{number % 8}"
