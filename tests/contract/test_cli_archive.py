"""`eventlog archive` as a user types it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from analytics import Catalogue, DirectoryStorage
from eventlog import BridgeEvent, EventLog, MessageReceived
from tests.cli import Cli
from tests.compacting import archive, put_on_days
from tests.support import eventually


@pytest.fixture
async def cli(tmp_path: Path, server_url: str, request: pytest.FixtureRequest) -> Cli:
    """Commands on a log of its own, with three days in its archive."""
    prefix = f"cli-archive-{request.node.name}"[:64].replace("[", "-").replace("]", "")
    made = Cli(tmp_path, REDIS_URL=server_url, EVENTLOG_KEY_PREFIX=prefix)
    async with EventLog.open(server_url, key_prefix=prefix, partition_count=2) as log:
        await put_on_days(
            log,
            [
                event
                for n in range(60)
                for event in (
                    MessageReceived(conversation=f"c{n % 4}", text=f"{n}"),
                    BridgeEvent(conversation=f"c{n % 4}", event_type="error"),
                )
            ],
        )
        await archive(log, storage_of(made), max_rows=15)
    return made


def storage_of(cli: Cli) -> DirectoryStorage:
    return DirectoryStorage(cli.data / "archive")


async def test_list_compact_verify_and_the_rules(cli: Cli) -> None:
    listed = (await cli.run("archive", "list", "--json")).json()["files"]
    assert sum(each["rows"] for each in listed) == 120
    due = (await cli.run("archive", "compact", "--dry-run", "--json")).json()["due"]
    assert {source for each in due for source in each["sources"]} == {f["file"] for f in listed}
    done = await cli.run("archive", "compact", "--json")
    assert [each["file"] for each in due] == done.json()["written"]
    assert len(done.json()["waiting"]) == len(listed)
    again = await cli.run("archive", "compact", "--no-grace")
    assert f"{len(listed)} files deleted" in again.out
    ruled = await cli.run(
        "archive", "compact", "--no-grace", "--json", EVENTLOG_ARCHIVE_KEEP_DAYS="bridge.event=1"
    )
    assert ruled.json()["removed_by_rule"] == {"bridge.event": 60}
    table = await cli.run("archive", "list")
    assert "removed by rule" in table.out
    sound = await cli.run("archive", "verify", "--json")
    assert (sound.code, sound.json()["is_sound"], sound.json()["findings"]) == (0, True, [])
    refused = await cli.run("archive", "compact", EVENTLOG_ARCHIVE_KEEP_DAYS="message.sent=1")
    assert refused.code == 2
    assert "message.sent" in refused.err


async def test_damage_is_told_and_mended(cli: Cli) -> None:
    segment = min(storage_of(cli).segments())
    path = storage_of(cli).path(segment)
    path.write_bytes(path.read_bytes()[:-20])
    found = await cli.run("archive", "verify")
    assert found.code == 3
    assert "cut short" in found.out
    assert "eventlog archive restore" in found.out
    assert (await cli.run("archive", "list")).code == 3
    query = await cli.run("query", "SELECT count(*) FROM events", "--json")
    assert query.code == 0  # the log has the rows still
    restored = await cli.run("archive", "restore", "--json")
    assert (restored.code, restored.json()["left"]) == (0, [])
    assert restored.json()["restored"] == [{"file": segment.name, "from": "log"}]
    assert (await cli.run("archive", "verify")).code == 0
    assert (await cli.run("archive", "restore", "--from", "nowhere")).code == 2


async def test_up_compacts_in_the_background(cli: Cli) -> None:
    storage = storage_of(cli)

    def is_compacted() -> bool:
        coverages = Catalogue(storage).scan().values()
        return all(segment.is_compacted for each in coverages for segment in each.chosen)

    async with cli.running("up") as up:
        await eventually(is_compacted)
        assert (await up.stop(signal.SIGINT)).code in (0, 130)


async def test_killed_in_the_middle_it_goes_on_the_next_time(cli: Cli) -> None:
    before = {p: each.position for p, each in Catalogue(storage_of(cli)).scan().items()}
    async with cli.running("archive", "compact", "--no-grace") as running:
        await eventually(lambda: any(s.is_compacted for s in storage_of(cli).segments()))
        await running.stop(signal.SIGKILL)
    assert {p: e.position for p, e in Catalogue(storage_of(cli)).scan().items()} == before
    assert (await cli.run("archive", "compact", "--no-grace")).code == 0
    assert (await cli.run("archive", "verify")).code == 0
    assert all(segment.is_compacted for segment in storage_of(cli).segments())
