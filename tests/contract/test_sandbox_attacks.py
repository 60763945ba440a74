"""Strangers' SQL against the sandbox: a clear error, nothing written, nothing left, nobody harmed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import duckdb
import psutil
import pytest

from analytics import Archiver, DirectoryStorage, Limits, Sandbox
from analytics.sandbox import engine, landlock, process
from analytics.sandbox.wire import Mode
from bench.events import chat_events
from eventlog import EventLog
from eventlog.errors import QueryFailed
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


WALLED = [
    "FROM read_text('{secret}')",
    "WITH x AS (COPY (SELECT 1) TO '{out}/x') SELECT 1",
    "WITH x AS (COPY (SELECT 1) TO '{segment}' (USE_TMP_FILE false)) SELECT 1",
    "FROM glob('{archive}/**')",
    "SELECT content FROM read_text('/proc/self/environ')",
]


@pytest.mark.parametrize("mode", [*WITH_LANDLOCK, "descriptors"])
@pytest.mark.parametrize("sql", WALLED)
async def test_the_kernel_holds_where_duckdbs_locks_do_not(
    sql: str, mode: Mode, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlocked = "from analytics.sandbox import engine\nengine.lock = lambda connection: None\nmain("
    monkeypatch.setattr(process, "_PROGRAM", process._PROGRAM.replace("main(", unlocked))
    files = world.files()
    async with Sandbox.open(None, world.archive, mode=mode, spare_count=0) as box:
        try:
            told = str((await box.query(world.sql(Attack("", sql)))).to_pylist())
        except QueryFailed as error:
            told = str(error)
    assert told.startswith(("[]", "IO Error", "Permission Error"))
    assert SECRET not in told
    assert "disabled by configuration" not in told  # DuckDB's own locks are off
    assert world.files() == files


PROBE = """
import errno, os, socket, sys, types
package = types.ModuleType("analytics")
package.__path__ = [sys.argv[1]]
sys.modules["analytics"] = package
from analytics.sandbox import landlock, seccomp

free = sys.argv[2]

def refused(work, *arguments):
    try:
        work(*arguments)
    except OSError as error:
        return error.errno in (errno.EACCES, errno.EPERM)

listening = socket.create_server(("127.0.0.1", 0))
connecting = socket.socket()
mine = os.open(sys.argv[1] + "/__init__.py", os.O_RDONLY)
if landlock.abi():
    landlock.restrict([landlock.Rule(mine)])
    open(f"/proc/self/fd/{mine}").close()
    assert refused(open, "/etc/passwd") and refused(open, free, "w")
    assert refused(os.listdir, "/") and refused(os.mkdir, free)
    assert refused(os.execv, sys.executable, ["python"])
    if landlock.abi() >= 4:
        assert refused(connecting.connect, listening.getsockname())
if seccomp.deny():
    assert refused(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) and refused(socket.socketpair)
    assert refused(os.fork) and refused(os.kill, os.getppid(), 0)
    assert refused(os.readlink, f"/proc/self/fd/{mine}")
    assert refused(os.unlink, free)
"""


def test_the_walls_stand_by_themselves(tmp_path: Path) -> None:
    package = Path(engine.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(package), str(tmp_path / "free")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


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
