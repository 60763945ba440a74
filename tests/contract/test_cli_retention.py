"""`eventlog retention`, and retention in `eventlog up`, as processes of their own."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from analytics import DirectoryStorage, Policy, Retention
from consumers.registration import register
from eventlog import EventLog
from service.cli.main import run as run_here
from service.wiring import new_archiver
from tests.cli import Cli
from tests.contract.test_retention import World
from tests.logs import messages
from tests.support import eventually


@asynccontextmanager
async def opened(cli: Cli) -> AsyncIterator[EventLog]:
    async with EventLog.open(data_dir=cli.data) as log:
        yield log


@pytest.fixture
async def cli(tmp_path: Path) -> AsyncIterator[Cli]:
    """A log of an hour ago whose read models are made, in a server that lives as long as the test."""
    made = Cli(tmp_path)
    async with opened(made) as log:
        partition = log.partition_of("chat:1")
        hour_ago_ms = log.clock.now_us() // 1000 - 3_600_000
        for n, event in enumerate(messages("chat:1", 50), 1):
            stream, raw = log.keys.stream(partition), log.codec.encode(event)
            await log.client.xadd(stream, {"e": raw}, id=f"{hour_ago_ms}-{n}")
        await log.client.set(log.keys.head(partition), f"{hour_ago_ms}-50")
        await World(log, DirectoryStorage(log.settings.archive_path)).project()
        yield made


async def archive(cli: Cli) -> None:
    async with opened(cli) as log, new_archiver(log) as archiver:
        await archiver.run_once()


async def test_plan_says_who_holds_back_and_apply_trims_what_may_go(cli):
    young = await cli.run("retention")
    assert (young.code, "may go" in young.out) == (0, True)
    assert "nobody holds anything back" in young.err
    async with opened(cli) as log:
        await register(log, "greeter")
    shown = await cli.run("retention", "plan", "--age-s", "60")
    assert shown.code == 3
    assert "archive holds back 50 entries" in shown.err
    assert "group greeter holds back 50 entries" in shown.err
    assert "eventlog groups retire greeter" in shown.err
    await archive(cli)
    retired = await cli.run("groups", "retire", "greeter", "--reason", "gone", "--yes")
    assert retired.code == 0
    applied = await cli.run("retention", "apply", "--json", EVENTLOG_RETENTION_AGE_S="60")
    assert applied.code == 0
    assert sum(applied.json()["trimmed"].values()) == 50
    queried = await cli.run("query", "SELECT count(*) AS n FROM messages", "--json")
    assert queried.json() == {"n": 50}


@pytest.mark.parametrize(
    "words", [("apply", "--age-s", "0"), ("apply", "--memory-bytes", "much"), ("--json", "plan")]
)
def test_what_makes_no_sense_is_refused(words, capsys):
    assert run_here(["retention", *words]) == 2
    assert capsys.readouterr().err.startswith("error: ")


async def test_of_two_that_run_one_works(cli):
    await archive(cli)
    async with opened(cli) as log:
        retention = Retention(
            log, DirectoryStorage(log.settings.archive_path), Policy(age_ms=0, recent_ms=0)
        )
        stop = asyncio.Event()
        # Two at once: one works, the other waits for its lease.
        rival = Retention(log, DirectoryStorage(log.settings.archive_path), Policy(0, recent_ms=0))
        running = [asyncio.create_task(each.run(stop)) for each in (retention, rival)]

        async def is_empty() -> bool:
            streams = [log.keys.stream(p) for p in range(log.partition_count)]
            return not any([await log.client.xlen(stream) for stream in streams])

        await eventually(is_empty)
        stop.set()
        await asyncio.gather(*running)


async def test_up_runs_it(cli):
    await archive(cli)
    async with cli.running("up", EVENTLOG_RETENTION_AGE_S="60") as up, opened(cli) as log:
        await up.said("retention_trimmed")
        assert await log.read(conversation="chat:1") == []
        assert (await up.stop(signal.SIGINT)).code == 0


async def test_who_holds_back_is_told_once(cli, caplog):
    async with opened(cli) as log:
        policy = Policy(age_ms=0, recent_ms=0)
        retention = Retention(log, DirectoryStorage(log.settings.archive_path), policy)
        for _ in range(3):
            await retention._round()
    [record] = [r for r in caplog.records if r.event == "retention_pinned"]
    assert record.fields["by"] == ["archive"]
    assert record.fields["entries"] == 50
