"""`eventlog doctor` on servers with something the matter: each thing is named, and hides no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analytics.catalogue import Catalogue
from analytics.opening import storage_of
from eventlog import EventLog
from eventlog.connection import check_server
from eventlog.errors import LogUnavailable
from eventlog.settings import Settings
from service.acl import user_line
from service.checks import LOOKS, examine, examine_without
from service.cli.main import run
from service.judging import Finding
from service.wiring import new_archiver
from tests.conftest import IS_CLUSTER
from tests.logs import message
from tests.support import RawServer, eventually


def by_check(findings: list[Finding]) -> dict[str, Finding]:
    found = {each.check: each for each in findings}
    assert list(found) == list(LOOKS)
    assert all(bool(each.remedy) == (each.verdict != "fine") for each in findings)
    return found


async def examined(url: str | None, tmp_path: Path, **settings: Any) -> dict[str, Finding]:
    async with EventLog.open(url, archive_dir=tmp_path / "archive", **settings) as log:
        await log.append(message("c", 1), durability="memory")
        return by_check(await examine(log))


async def test_a_server_without_persistence_or_room(tmp_path):
    with RawServer(tmp_path, maxmemory="4mb", maxmemory_policy="noeviction") as server:
        found = await examined(server.url, tmp_path, durability="fsync")
        async with EventLog.open(server.url) as log:
            await log.client.execute_command("CONFIG", "SET", "maxmemory", "2mb")
            full = by_check(await examine(log))
    assert found["persistence"].verdict == "act"
    assert found["durability"].verdict == "act"
    assert "on disk" in found["durability"].seen
    assert full["memory"].verdict in ("look", "act")
    assert found["rights"].verdict == "fine"


@pytest.mark.parametrize(
    ("appendfsync", "verdict"), [("everysec", "fine"), ("no", "look"), ("always", "fine")]
)
async def test_what_a_power_cut_costs(tmp_path, appendfsync, verdict):
    with RawServer(tmp_path, appendonly="yes", appendfsync=appendfsync) as server:
        found = await examined(server.url, tmp_path)
    assert (found["persistence"].verdict, found["durability"].verdict) == ("fine", verdict)


async def test_replicas_where_appends_want_them(tmp_path):
    at_once = {"repl_diskless_sync_delay": "0"}
    with RawServer(tmp_path, tcp=True, appendonly="yes", **at_once) as primary:
        alone = await examined(primary.url, tmp_path, durability="replicated")
        assert alone["durability"].verdict == "act"
        assert "no replica" in alone["durability"].seen
        (tmp_path / "replica").mkdir()
        address = f"127.0.0.1 {primary.port}"
        with RawServer(tmp_path / "replica", tcp=True, replicaof=address) as replica:
            async with EventLog.open(primary.url, durability="replicated") as log:

                async def is_followed() -> bool:
                    return (await _finding(log, "durability")).verdict == "fine"

                await eventually(is_followed)
                await log.append(message("c", 2))
            async with EventLog.open(replica.url) as log:
                assert (await _finding(log, "durability")).seen.startswith(
                    "the server is a replica"
                )


async def _finding(log: EventLog, check: str) -> Finding:
    return by_check(await examine(log))[check]


async def test_rights_that_are_missing_are_named_and_few_rights_hide_nothing(tmp_path):
    with RawServer(tmp_path, appendonly="yes") as server:
        async with EventLog.open(server.url) as log:
            await log.append(message("c", 1))
            served = await check_server(log.client)
            before_7_2 = served.name == "redis" and served.version < (7, 2)
            for role in ("reader", "worker"):
                line = user_line(role, "eventlog", role, before_7_2=before_7_2).split()[1:]
                await log.client.execute_command("ACL", "SETUSER", *line, ">pw")
            rights = ["on", ">pw", "~*", "+@all", "-xtrim", "-xgroup"]
            await log.client.execute_command("ACL", "SETUSER", "lame", *rights)
            whole = by_check(await examine(log))
        where = server.url.removeprefix("unix://")
        settings = {"archive_dir": tmp_path / "archive"}
        for role in ("reader", "worker"):
            async with EventLog.open(f"unix://{role}@{where}?password=pw", **settings) as log:
                found = by_check(await examine(log))
            assert found["rights"].seen == "a user who may do little"
            assert found["durability"].verdict == "fine"
            assert "does not say" in found["durability"].seen
            assert not [each for each in found.values() if "could not be looked at" in each.seen]
        async with EventLog.open(f"unix://lame@{where}?password=pw", **settings) as log:
            lame = await _finding(log, "rights")
    assert "may do all" in whole["rights"].seen
    assert lame.verdict == "act"
    assert "xtrim" in lame.seen
    assert "xgroup|create" in lame.seen
    assert "xadd" not in lame.seen


async def test_a_file_that_is_not_as_it_was_sealed_is_named(log, tmp_path):
    settings = {"archive_dir": tmp_path / "archive", "key_prefix": log.settings.key_prefix}
    async with EventLog.open(log.settings.url, **settings) as archived:
        await archived.append([message(f"c{n}", n) for n in range(40)])
        async with new_archiver(archived) as archiver:
            await archiver.run_once()
        assert (await _finding(archived, "archive")).verdict == "fine"
        storage = storage_of(archived.settings)
        coverage = next(iter(Catalogue(storage).scan().values()))
        path = storage.path(coverage.chosen[0])
        content = bytearray(path.read_bytes())
        content[-20] ^= 1
        path.chmod(0o644)
        path.write_bytes(content)
        finding = await _finding(archived, "archive")
        without = await examine_without(archived.settings, LogUnavailable("away.", remedy="Wait."))
    assert finding.verdict == "act"
    assert path.name in finding.seen
    assert [each.verdict for each in without] == ["act", "act", "fine"]
    assert without[1].seen == finding.seen


async def test_a_look_that_fails_hides_no_other(log, monkeypatch):
    async def fail(_log):
        raise RuntimeError("redis://bot:s3cret@db broke")

    monkeypatch.setitem(LOOKS, "memory", fail)
    found = by_check(await examine(log))
    assert found["memory"].verdict == "look"
    assert "broke" in found["memory"].seen
    assert "s3cret" not in found["memory"].seen
    # A cluster without replicas is worth a look.
    assert found["server"].verdict == ("look" if IS_CLUSTER else "fine")


def test_without_the_server_the_rest_is_looked_at(tmp_path, capsys):
    words = ["--url", "redis://127.0.0.1:1", "--archive-dir", str(tmp_path), "doctor", "--json"]
    assert run(words) == 1
    shown = capsys.readouterr()
    found = {each["check"]: each["verdict"] for each in json.loads(shown.out)}
    assert found == {"server": "act", "archive": "fine", "sandbox": "fine"}
    assert shown.err.startswith("error: redis://127.0.0.1:1 cannot be reached")


def test_a_server_that_may_drop_events_is_told_with_the_rest(tmp_path, capsys):
    with RawServer(tmp_path, maxmemory="9mb", maxmemory_policy="allkeys-lru") as server:
        assert run(["--url", server.url, "--archive-dir", str(tmp_path / "a"), "doctor"]) == 2
    shown = capsys.readouterr()
    assert "allkeys-lru" in shown.out
    assert "sandbox" in shown.out
    assert Settings().durability == "memory"
