"""What a backup brings back is erased again, by the ledger alone."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.erasing import ERASURES_CONVERSATION, erase, erase_again, ledger_of
from eventlog import ErasureCompleted, EventLog, MessageReceived, SessionStarted, ToolCalled
from eventlog.errors import HistoryGap
from projections.building.rebuilding import retire
from projections.builtin import DEFAULT_PROJECTIONS
from tests.erasing import (
    CHAT,
    NEIGHBOUR,
    SECRET,
    USER,
    archive,
    delete_all,
    in_files,
    in_sql,
    is_nowhere,
    keys_of,
    life_of,
    on_server,
    opened,
    places,
    project,
    storage_of,
)


@pytest.fixture
async def log(server_url: str, tmp_path: Path) -> AsyncIterator[EventLog]:
    async with opened(server_url, tmp_path / "data") as log:
        yield log


class Backup:
    """The server's keys and the archive, as they were when it was taken."""

    def __init__(self, log: EventLog, folder: Path) -> None:
        self._log = log
        self._folder = folder
        self._keys: dict[bytes, bytes] = {}

    async def take(self) -> None:
        shutil.copytree(self._log.settings.archive_path, self._folder)
        for key in await keys_of(self._log):
            self._keys[key] = await self._log.client.dump(key)

    async def restore_archive(self) -> None:
        shutil.copytree(self._folder, self._log.settings.archive_path, dirs_exist_ok=True)

    async def restore_server(self) -> None:
        await delete_all(self._log)
        for key, dump in self._keys.items():
            await self._log.client.restore(key, 0, dump)


async def lived(log: EventLog) -> None:
    await log.append([*life_of(CHAT, USER, SECRET), *life_of(NEIGHBOUR, "8", "badger")])
    await archive(log)
    await log.append(life_of(CHAT, USER, SECRET)[2:5])
    await project(log)


async def test_who_comes_back_is_not_erased_by_the_ledger(log):
    await lived(log)
    await erase(log, user=USER)
    anew = SessionStarted(conversation=CHAT, session="anew", user=USER, platform="telegram")
    await log.append([anew, MessageReceived(conversation=CHAT, sender=USER, text=SECRET)])
    assert (await erase_again(log)).event_count == 0
    assert await in_sql(log)
    report = await erase(log, user=USER)
    assert report.event_count == 2
    await is_nowhere(log)
    assert len(ledger_of(log).read()) == 1


@pytest.mark.parametrize(
    "whose", [pytest.param({"chat": CHAT}, marks=pytest.mark.soak), {"user": USER}]
)
async def test_segments_and_a_server_restored_from_before_are_clean_again(log, tmp_path, whose):
    await lived(log)
    backup = Backup(log, tmp_path / "backup")
    await backup.take()
    before = await places(log)
    await erase(log, **whose)

    await backup.restore_archive()
    assert in_files(log.settings.data_path)
    report = await erase_again(log)
    assert report.row_count > 0
    await is_nowhere(log)

    await backup.restore_server()
    await backup.restore_archive()
    assert await on_server(log.client)
    report = await erase_again(log, reason="restored")
    assert report.entry_count > 0
    await is_nowhere(log)
    own = log.partition_of(ERASURES_CONVERSATION)
    before[own].append((await places(log))[own][-1])
    assert await places(log) == before
    event = (await log.read(conversation=ERASURES_CONVERSATION))[-1].event
    assert isinstance(event, ErasureCompleted)
    assert (event.is_repeat, event.reason) == (True, "restored")


async def test_a_person_s_session_is_known_though_its_start_is_erased_already(log, tmp_path):
    """Only one segment comes back: the one whose rows name a session and nobody."""
    other = "s-elsewhere"
    named = {"conversation": "telegram:-100", "session": other}
    await log.append(SessionStarted(**named, user=USER, platform="telegram", text=SECRET))
    await archive(log)
    await log.append(
        ToolCalled(conversation=other, session=other, call="c", name="n", arguments=SECRET)
    )
    await archive(log)
    backup = Backup(log, tmp_path / "backup")
    await backup.take()
    await erase(log, user=USER)
    await is_nowhere(log)
    last = log.partition_of(other)
    [segment] = [s for s in storage_of(log).segments() if s.partition == last][-1:]
    shutil.copy(tmp_path / "backup" / segment.name, storage_of(log).path(segment))
    assert await in_sql(log)
    assert (await erase_again(log)).row_count == 1
    await is_nowhere(log)


async def test_a_server_older_than_the_archive_is_cleaned_as_far_as_it_goes(log, tmp_path):
    await lived(log)
    backup = Backup(log, tmp_path / "backup")
    await backup.take()
    await erase(log, chat=CHAT)
    await archive(log)
    await backup.restore_server()
    with pytest.raises(HistoryGap):
        await erase_again(log)  # read models cannot be made from a log that ends too early
    for projection in DEFAULT_PROJECTIONS:
        await retire(log, projection.name)
    await is_nowhere(log)
    assert not ledger_of(log).read()[0].is_completed


async def test_cut_short_a_person_s_erasure_is_gone_on_with(log):
    await lived(log)

    class Killed(BaseException):
        pass

    for step in ("swapped", "segment_replaced"):

        def kill(reached: str, step: str = step) -> None:
            if reached == step:
                raise Killed

        with pytest.raises(Killed):
            await erase(log, user=USER, reached=kill)
    await log.append(MessageReceived(conversation=NEIGHBOUR, text="badger"))
    await erase_again(log)
    await is_nowhere(log)
    assert len(await log.read(conversation=ERASURES_CONVERSATION)) == 1
