"""Backups and restores that are killed at every step: what was there before stays, the next goes on."""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from analytics.backup import read_manifest, verify_backup
from analytics.backup.steps import BACKUP_STEPS, RESTORE_STEPS, Reached
from eventlog import EventLog
from eventlog.errors import LogRestoring, RestoreRefused
from tests.archives import archived
from tests.backups import (
    Place,
    archive,
    bring_back,
    history,
    pictures,
    sessions,
    take,
    talk,
    trim_archived,
)
from tests.fault.backup_process import back_up_until, restore_until

_numbers = count(1)


@pytest.fixture
def place(server_url: str, tmp_path: Path) -> Place:
    return Place.at(server_url, tmp_path, f"killed{next(_numbers)}")


@pytest.fixture
async def log(place: Place) -> AsyncIterator[EventLog]:
    async with place.new() as opened:
        await opened.append(sessions(4))
        await opened.append(talk(100))
        await archive(opened, max_rows=20)
        await trim_archived(opened, keep=10)
        await opened.append(talk(20, begin=100))
        yield opened


class Killed(BaseException):
    """The process is gone."""


def dying(step: str) -> Reached:
    """Return the hook of one that dies at a step, the second time where there are several."""
    left = 2 if step in ("copied", "moment", "published", "entries", "finished") else 1

    def reached(now: str) -> None:
        nonlocal left
        left -= now == step
        if not left:
            raise Killed

    return reached


def in_a_process(target: Callable[..., None], *arguments: Any) -> int | None:
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    process.join(60)
    return process.exitcode


async def test_a_killed_backup_leaves_the_one_before(log, place, tmp_path):
    folder = tmp_path / "backup"
    manifest = await take(log, folder)
    for number, step in enumerate(BACKUP_STEPS):
        await log.append(talk(20, begin=200 + 20 * number))
        await archive(log)
        await log.append(talk(5, begin=900 + 20 * number))
        if step == "tail":
            how = back_up_until, place.settings, folder, step
            assert await asyncio.to_thread(in_a_process, *how) == -SIGKILL
        else:
            with pytest.raises(Killed):
                await take(log, folder, dying(step))
        found = read_manifest(folder)
        assert (found == manifest) == (step not in ("manifest", "swept"))
        assert verify_backup(folder, found) == [], step
        manifest = found
    manifest = await take(log, folder)
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert present - {".lock", "manifest.json"} == {file.path for file in manifest.files}
    there = Place.at(str(place.settings.url), tmp_path, f"after{next(_numbers)}")
    await bring_back(there, folder, log)
    async with there.open() as back:
        assert await pictures(back) == await pictures(log)


async def killed_everywhere(there: Place, folder: Path | None, log: EventLog) -> None:
    """Restore, and die at each step in turn; then to the end."""
    for step in RESTORE_STEPS[:-1]:
        if folder is None and step in ("published", "entries"):
            continue
        if step == "state":
            how = restore_until, there.settings, folder, step
            assert await asyncio.to_thread(in_a_process, *how) == -SIGKILL
        else:
            with pytest.raises(Killed):
                await bring_back(there, folder, log, reached=dying(step))
        if step != "published":
            with pytest.raises(LogRestoring):
                await there.open()
    await bring_back(there, folder, log)


async def test_a_killed_restore_is_gone_on_with(log, place, tmp_path):
    folder = tmp_path / "backup"
    await take(log, folder)
    there = Place.at(str(place.settings.url), tmp_path, f"after{next(_numbers)}")
    await killed_everywhere(there, folder, log)
    async with there.open() as back:
        assert await pictures(back) == await pictures(log)
        assert await history(back) == await history(log)


async def test_so_is_one_from_the_archive(log, place):
    before = await pictures(log)
    keys = [key async for key in log.client.scan_iter(f"{{{log.keys.log}[:}}]*", count=1000)]
    await log.client.delete(*keys)
    await killed_everywhere(place, None, log)
    storage = place.storage
    assert [each.n for each in await log.heads()] == [
        archived(storage, p)[-1].id.n for p in range(log.partition_count)
    ]
    assert [each.versions for each in await pictures(log)] == [each.versions for each in before]


async def test_one_over_what_was_there_says_so_before_it_is_whole(log, place, tmp_path):
    """Killed before all partitions have their guard, what has a head is not taken for restored."""
    folder = tmp_path / "backup"
    await take(log, folder)
    before = await pictures(log)
    await log.append(talk(9, begin=500))
    with pytest.raises(Killed):
        await bring_back(place, folder, log, overwrite=True, reached=dying("marked"))
    with pytest.raises(RestoreRefused, match="the server has what is not restored"):
        await bring_back(place, folder, log)
    await bring_back(place, folder, log, overwrite=True)
    assert await pictures(log) == before


@contextmanager
def room(free_bytes: int) -> Iterator[None]:
    """Let no file grow beyond that, as on a disk that is full."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


@pytest.mark.parametrize("free_bytes", [10, 600, 9000])
async def test_a_full_disk(log, place, tmp_path, free_bytes):
    folder = tmp_path / "backup"
    manifest = await take(log, folder)
    await log.append(talk(80, begin=300))
    await archive(log)
    await log.append(talk(80, begin=400))
    with room(free_bytes), pytest.raises(OSError, match="File too large"):
        await take(log, folder)
    assert read_manifest(folder) == manifest
    assert verify_backup(folder, manifest) == []
    manifest = await take(log, folder)
    assert verify_backup(folder, manifest) == []
    there = Place.at(str(place.settings.url), tmp_path, f"full{next(_numbers)}")
    if free_bytes < 9000:
        with room(free_bytes), pytest.raises(OSError, match="File too large"):
            await bring_back(there, folder, log)
    await bring_back(there, folder, log)
    async with there.open() as back:
        assert await pictures(back) == await pictures(log)
