"""Strangers' SQL against the sandbox: a clear error, nothing written, nothing left, nobody harmed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import duckdb
import psutil
import pytest

from analytics import Archiver, DirectoryStorage, Limits, Sandbox
from analytics.sandbox import engine, landlock
from analytics.sandbox.wire import Mode
from bench.events import chat_events
from eventlog import EventLog
from tests.attacks import ENDLESS, NEEDING_FILES, QUERIES, SECRET, STATEMENTS, Attack

MIB = 2**20
TIGHT = Limits(memory_bytes=192 * MIB, row_count=1000, result_bytes=4 * MIB, sql_bytes=256 * 1024)
HURRIED = Limits(memory_bytes=192 * MIB, timeout_s=0.7)
WITH_LANDLOCK: list[Mode] = ["landlock"] if landlock.abi() else []


class World(NamedTuple):
    """What the attacks are about."""

    archive: Path
    out: Path
    secret: Path

    def sql(self, attack: Attack) -> str:
        segment = next(self.archive.rglob("*.parquet"))
        return attack.sql.format(
            out=self.out, archive=self.archive, segment=segment, secret=self.secret
        )

    def files(self) -> dict[Path, tuple[int, int]]:
        found = [file for file in self.archive.parent.rglob("*") if file.is_file()]
        return {file: (file.stat().st_size, file.stat().st_mtime_ns) for file in found}


@pytest.fixture(scope="module")
def world(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("attacked")
    made = World(root / "archive", root / "out", root / "secret")
    made.out.mkdir()
    made.secret.write_text(SECRET, encoding="utf-8")

    async def fill() -> None:
        async with EventLog.open(server_url, key_prefix=root.name, partition_count=2) as log:
            await log.append(chat_events(300))
            async with Archiver(log, DirectoryStorage(made.archive)) as archiver:
                await archiver.run_once()

    asyncio.run(fill())
    (made.archive / "link").symlink_to(made.secret)
    return made


@pytest.fixture
def locked() -> Iterator[duckdb.DuckDBPyConnection]:
    with engine.connect(TIGHT) as connection:
        engine.lock(connection)
        yield connection


@pytest.mark.parametrize("attack", STATEMENTS, ids=lambda attack: attack.wants)
def test_a_statement_that_does_not_read_is_refused_unseen(
    attack: Attack, world: World, locked: duckdb.DuckDBPyConnection
) -> None:
    with pytest.raises(engine.Refused):
        next(engine.answer(locked, world.sql(attack), [], TIGHT))
    assert not any(world.out.iterdir())


async def repelled(world: World, attack: Attack, limits: Limits, mode: Mode) -> None:
    """Ensure that an attack gets its error and nothing else."""
    me = psutil.Process()
    processes, files, memory = me.children(), world.files(), me.memory_info().rss
    async with Sandbox.open(None, world.archive, mode=mode, limits=limits, spare_count=0) as box:
        with pytest.raises(attack.gets) as refusal:
            await box.query(world.sql(attack))
        assert me.children() == processes
    assert refusal.type is attack.gets or attack.gets.code == "query_failed"
    assert refusal.value.remedy
    for secret in (SECRET, str(Path(__file__).parents[2])):
        assert secret not in str(refusal.value)
    assert world.files() == files
    assert me.memory_info().rss - memory < 100 * MIB


@pytest.mark.parametrize("mode", WITH_LANDLOCK or ["descriptors"])
@pytest.mark.parametrize("attack", QUERIES, ids=lambda attack: attack.wants)
async def test_a_query_that_wants_more_gets_an_error(
    attack: Attack, mode: Mode, world: World
) -> None:
    await repelled(world, attack, TIGHT, mode)


@pytest.mark.parametrize("mode", WITH_LANDLOCK or ["descriptors"])
@pytest.mark.parametrize("attack", ENDLESS, ids=lambda attack: attack.wants)
async def test_a_query_without_an_end_is_ended(attack: Attack, mode: Mode, world: World) -> None:
    await repelled(world, attack, HURRIED, mode)


@pytest.mark.parametrize("attack", NEEDING_FILES, ids=lambda attack: attack.wants)
async def test_files_are_out_of_reach_without_landlock(attack: Attack, world: World) -> None:
    await repelled(world, attack, TIGHT, "descriptors")


TELLING = """
SELECT list(told) FROM (
    SELECT x::VARCHAR AS told FROM duckdb_settings() AS x
    UNION ALL SELECT x::VARCHAR FROM pg_catalog.pg_settings AS x
    UNION ALL SELECT x::VARCHAR FROM duckdb_databases() AS x
    UNION ALL SELECT x::VARCHAR FROM duckdb_secrets() AS x
    UNION ALL SELECT x::VARCHAR FROM duckdb_views() AS x
    UNION ALL SELECT x::VARCHAR FROM duckdb_logs AS x
    UNION ALL SELECT current_setting('allowed_paths')::VARCHAR
    UNION ALL SELECT getvariable('segments')::VARCHAR
)
"""


@pytest.mark.parametrize("mode", [*WITH_LANDLOCK, "descriptors"])
async def test_what_duckdb_tells_of_itself_names_no_place_of_the_host(
    mode: Mode, world: World
) -> None:
    async with Sandbox.open(None, world.archive, mode=mode, spare_count=0) as box:
        told = str((await box.query(TELLING)).to_pylist())
    assert "allowed_paths" in told
    for secret in (str(world.archive), str(Path.home()), str(Path.cwd()), SECRET):
        assert secret not in told
