from __future__ import annotations

from pathlib import Path

import pytest

from bridge.erasing import erase
from eventlog import EventLog, MessageReceived
from eventlog.server_files import ServerFiles, rewrite_files
from tests.erasing import CHAT, SECRET
from tests.support import RawServer


def with_secret(folder: Path) -> list[str]:
    """Return the server's files that hold the secret; they are not compressed."""
    files = (path for path in folder.rglob("*") if path.suffix in (".aof", ".rdb"))
    return sorted(path.name for path in files if SECRET.encode() in path.read_bytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "server"
    made.mkdir()
    return made


async def test_nothing_of_it_is_left_in_the_append_only_file_and_the_snapshot(folder, tmp_path):
    options = {"appendonly": "yes", "rdbcompression": "no", "save": "3600 1"}
    with RawServer(folder, **options) as server:
        async with EventLog.open(server.url, data_dir=str(tmp_path)) as log:
            await log.append(MessageReceived(conversation=CHAT, text=SECRET))
            await log.client.execute_command("SAVE")
            assert len(with_secret(folder)) == 2
            report = await erase(log, chat=CHAT)
            assert report.files == ServerFiles("rewritten", "rewritten")
            assert with_secret(folder) == []


async def test_a_server_without_files_has_none(folder, tmp_path):
    with RawServer(folder) as server:
        async with EventLog.open(server.url, data_dir=str(tmp_path)) as log:
            files = await rewrite_files(log)
            assert (files, files.is_clean) == (ServerFiles("none", "none"), True)


async def test_a_server_that_does_not_allow_it_is_told_about(folder, tmp_path):
    with RawServer(folder, appendonly="yes") as server:
        async with EventLog.open(server.url, data_dir=str(tmp_path)) as log:
            await log.client.execute_command("ACL", "SETUSER", "default", "-bgrewriteaof")
            files = await rewrite_files(log)
            assert (files.append_only, files.is_clean) == ("refused", False)
