"""What is exported of a log, in the good case and while its server is away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families

from consumers import Worker
from eventlog import EventLog
from eventlog.errors import ConfigurationError, VersionConflict
from eventlog.settings import Settings
from service.cli.main import run
from service.metrics import Metrics
from service.metrics.families import families
from service.metrics.looking import look_at_server
from service.metrics.serving import parse_address, serving_metrics
from service.wiring import Workers, new_archiver
from tests.docs.pages import ROOT
from tests.logs import message, touched
from tests.support import RawServer, eventually, free_port
from tests.working import QUICK

PAGE = ROOT / "docs" / "howto" / "monitor.md"
ROW = re.compile(r"^\| `(eventlog_\w+)` \| (.*?) \| (.+?) \| (.*?) \|$", re.MULTILINE)


def values(text: str, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """Return the samples of a name by their labels; each line must be what a collector can read."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name:
                found[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def total(text: str, name: str, **labels: str) -> float:
    wanted = labels.items()
    return sum(v for key, v in values(text, name).items() if wanted <= dict(key).items())


@pytest.fixture
async def archived(log: EventLog, tmp_path: Path) -> AsyncIterator[EventLog]:
    """The log with an archive of its own."""
    changed = {"key_prefix": log.settings.key_prefix, "archive_dir": tmp_path / "archive"}
    async with EventLog.open(log.settings.url, **changed) as opened:
        yield opened


async def rendered(log: EventLog) -> str:
    metrics = Metrics(log)
    try:
        return await metrics.render()
    finally:
        await metrics.close()


async def test_everything_that_happened_is_told(archived):
    log = archived
    worker = Worker(log, "g")

    @worker.on("message.received", retry=QUICK)
    async def handle(event, _context):
        if event.text == "bad":
            raise ValueError

    await log.append([message(f"c{n}", n, id=f"m{n}") for n in range(20)])
    await log.append(message("c1", 1, id="m1"))
    await log.append(message("c1", "bad"))
    with pytest.raises(VersionConflict):
        await log.append(touched("s"), expected_version=7)
    running = asyncio.create_task(worker.run())
    # The letter as well, which nobody handles: else it is behind by that when it stops.
    await eventually(lambda: log.measures.group("g").acknowledged_count == 22)
    worker.stop()
    await running
    await Workers(log).projector.run_until_caught_up()
    async with new_archiver(log) as archiver:
        await archiver.run_once()
    await log.append(message("late", 1))
    text = await rendered(log)

    heads = sum(head.n for head in await log.heads())
    assert total(text, "eventlog_entries_total") == heads == 23
    assert total(text, "eventlog_stream_entries") == heads
    assert total(text, "eventlog_appended_events_total", outcome="added") == 22
    assert total(text, "eventlog_appended_events_total", outcome="duplicate") == 1
    assert total(text, "eventlog_append_refused_batches_total") == 1
    assert total(text, "eventlog_append_seconds_count") >= 3
    assert total(text, "eventlog_append_seconds_sum") > 0
    assert total(text, "eventlog_failed_attempts_total", outcome="retried") == 2
    assert total(text, "eventlog_failed_attempts_total", outcome="parked") == 1
    assert total(text, "eventlog_acknowledged_entries_total", group="g") >= 21
    assert total(text, "eventlog_dead_letters", status="parked") == 1
    assert total(text, "eventlog_parked_letters", reason="ValueError") == 1
    assert total(text, "eventlog_group_lag_entries", group="g") == 1
    assert total(text, "eventlog_group_pending_entries", group="g") == 0
    assert total(text, "eventlog_projector_lag_entries") == 1
    assert total(text, "eventlog_archive_position") == heads - 1
    assert total(text, "eventlog_archive_lag_entries") == 1
    assert total(text, "eventlog_events", type="message.received") == 21
    assert total(text, "eventlog_archive_whole") == log.partition_count
    assert total(text, "eventlog_server_memory_used_bytes") > 100_000
    assert total(text, "eventlog_server_persistence_ok") == 1
    pins = {dict(key)["holder"] for key in values(text, "eventlog_trim_pin")}
    assert "sessions serving" in pins
    floors = values(text, "eventlog_trim_floor")
    assert len(floors) == log.partition_count


async def test_what_is_exported_is_what_is_documented(archived):
    await archived.append(message("c", 1))
    documented = {
        name: re.findall(r"`(\w+)`", labels)
        for name, labels, _, _ in ROW.findall(PAGE.read_text(encoding="utf-8"))
    }
    assert documented == {each.name: list(each.labels) for each in families()}
    known = documented.keys()
    for name in re.findall(r"^# TYPE (eventlog_\w+)", await rendered(archived), re.MULTILINE):
        assert name in known
    for name in known:
        assert re.fullmatch(r"eventlog_[a-z_]+", name)


async def test_nothing_that_a_chat_can_invent_is_a_label(archived):
    await archived.append([message(f"telegram:{n}", n, session=f"s{n}") for n in range(50)])
    before = (await rendered(archived)).count("\n")
    await archived.append([message(f"discord:{n}", n, session=f"t{n}") for n in range(50)])
    text = await rendered(archived)
    assert text.count("\n") == before
    assert "telegram" not in text


async def test_a_storm_of_scrapes_costs_one_look(archived, monkeypatch):
    looks = 0

    async def counted(log):
        nonlocal looks
        looks += 1
        return await look_at_server(log)

    monkeypatch.setattr("service.metrics.metrics.look_at_server", counted)
    metrics = Metrics(archived)
    texts = await asyncio.gather(*(metrics.render() for _ in range(100)))
    assert all("eventlog_up 1.0" in text for text in texts)
    await metrics.render()
    assert looks == 1
    await metrics.close()


async def test_without_the_server_it_answers_in_time_and_says_so(tmp_path):
    with RawServer(tmp_path) as server:
        log = EventLog.open(
            server.url, spool_dir=tmp_path / "spool", max_retries=0, archive_dir=tmp_path / "a"
        )
        async with log:
            metrics = Metrics(log, fresh_s=0, timeout_s=0.5)
            assert "eventlog_up 1.0" in await metrics.render()
            server.kill()
            await log.append(message("c", 1))
            async with asyncio.timeout(5):
                text = await metrics.render()
            assert "eventlog_up 0.0" in text
            assert "eventlog_archive_up 0.0" in text
            assert "eventlog_spool_events 1.0" in text
            assert not values(text, "eventlog_entries_total")
            assert total(text, "eventlog_append_failed_batches_total") >= 1
            server.start()

            async def is_up() -> bool:
                return "eventlog_up 1.0" in await metrics.render()

            await eventually(is_up)
            await metrics.close()


async def test_a_server_that_hangs_is_given_up_on(tmp_path, monkeypatch):
    async def hang(_log):
        await asyncio.Event().wait()

    monkeypatch.setattr("service.metrics.metrics.look_at_server", hang)
    with RawServer(tmp_path) as server:
        async with EventLog.open(server.url, archive_dir=tmp_path / "archive") as log:
            metrics = Metrics(log, timeout_s=0.05)
            assert "eventlog_up 0.0" in await metrics.render()
            await metrics.close()


class TestServing:
    async def test_metrics_and_health_to_this_machine(self, archived):
        port = free_port()
        async with serving_metrics(archived, str(port)), ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/metrics") as reply:
                assert reply.status == 200
                assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
                assert "eventlog_up 1.0" in await reply.text()
            async with session.get(f"http://127.0.0.1:{port}/health") as reply:
                assert reply.status == 200
            async with session.get(f"http://127.0.0.1:{port}/other") as reply:
                assert reply.status == 404
            with pytest.raises(ConfigurationError, match="free"):
                async with serving_metrics(archived, f"127.0.0.1:{port}"):
                    pass

    @pytest.mark.parametrize(
        "address", ["", "x", "127.0.0.1", "0.0.0.0:1", "[::]:1", "example.org:1", "1.2.3.4:99999"]
    )
    def test_no_other_address(self, address):
        with pytest.raises(ConfigurationError):
            parse_address(address)

    @pytest.mark.parametrize(
        ("address", "host"),
        [("9464", "127.0.0.1"), ("localhost:1", "localhost"), ("[::1]:2", "::1")],
    )
    def test_loopback(self, address, host):
        assert parse_address(address)[0] == host


def test_the_command_prints_them_once(server_url, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("EVENTLOG_ARCHIVE_DIR", str(tmp_path))
    assert run(["--url", server_url, "--key-prefix", "metrics-command", "metrics"]) == 0
    text = capsys.readouterr().out
    assert "\neventlog_up 1.0\n" in text
    assert "process_" not in text  # it would stand beside those of node_exporter


def test_the_command_says_that_the_server_is_away(capsys):
    assert run(["--url", "redis://127.0.0.1:1", "metrics"]) == 1
    shown = capsys.readouterr()
    assert "\neventlog_up 0.0\n" in shown.out
    assert shown.err.startswith("error: ")
    assert Settings().url is None


async def test_a_bug_in_one_look_leaves_the_other_numbers(archived, monkeypatch):
    async def fail(_log):
        raise KeyError("x")

    monkeypatch.setattr("service.metrics.metrics.look_at_archive", fail)
    text = await rendered(archived)
    assert "eventlog_up 1.0" in text
    assert "eventlog_archive_up 0.0" in text
