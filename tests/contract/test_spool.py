"""Appends while the server is away: on this machine's disk, then in the log, once and in order."""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from eventlog import (
    START,
    ConversationMapped,
    Event,
    EventLog,
    MessageReceived,
    SessionTouched,
    SessionTransitioned,
    foothold,
)
from eventlog.entity import FREE
from eventlog.errors import (
    AuthenticationFailed,
    ConfigurationError,
    LogUnavailable,
    PartitionMismatch,
    VersionConflict,
)
from tests.logs import all_texts, assert_gapless, message, messages
from tests.support import RawServer, eventually

CHATS = [f"chat:{n}" for n in range(6)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RawServer]:
    # With `everysec` the server may hold a write back while it syncs, and a kill then takes it.
    with RawServer(tmp_path, appendonly="yes", appendfsync="always") as running:
        yield running


@pytest.fixture
def spool_dir(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def opened(server: RawServer, spool_dir: Path, **settings: Any) -> EventLog:
    return EventLog.open(
        server.url,
        **{"spool_dir": str(spool_dir), "max_retries": 0, "partition_count": 3, **settings},
    )


def spools(spool_dir: Path) -> list[Path]:
    return sorted(spool_dir.glob("*.spool"))


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.event for record in caplog.records if hasattr(record, "event")]


async def recovered(log: EventLog) -> None:
    await eventually(lambda: not log.is_degraded)


class TestAway:
    async def test_appends_wait_on_the_disk_and_come_in_order(self, server, spool_dir):
        async with opened(server, spool_dir) as log:
            for chat in CHATS:
                assert not (await log.append(message(chat, 0))).is_spooled
            assert not log.is_degraded
            server.kill()
            for number in range(1, 20):
                results = await log.append([message(chat, number) for chat in CHATS])
                assert all(result.is_spooled for result in results)
                assert {result.id for result in results} == {START}
                assert not any(result.duplicate for result in results)
            assert log.is_degraded
            assert list((await log.spool_counts()).values()) == [19 * len(CHATS)]
            server.start()
            await log.append([message(chat, 20) for chat in CHATS])
            await recovered(log)
            result = await log.append(message(CHATS[0], 21))
            assert not result.is_spooled
            assert result.sequence
            for chat in CHATS:
                wanted = 22 if chat == CHATS[0] else 21
                assert await all_texts(log, chat) == [str(n) for n in range(wanted)]
            assert await assert_gapless(log) == 21 * len(CHATS) + 1
        assert spools(spool_dir) == []

    async def test_what_depends_on_a_version_does_not_wait(self, server, spool_dir):
        event = SessionTouched(conversation="c", session="s")
        async with opened(server, spool_dir) as log:
            server.kill()
            with pytest.raises(LogUnavailable, match="cannot be reached"):
                await log.append(event, expected_version=0)
            assert (await log.append(message("c", 0))).is_spooled
            with pytest.raises(LogUnavailable, match="is_degraded"):
                await log.append(event, expected_version=0)
            server.start()
            await recovered(log)
            assert (await log.append(event, expected_version=0)).version == 1

    async def test_versions_advance_when_it_is_drained(self, server, spool_dir):
        async with opened(server, spool_dir) as log:
            server.kill()
            touches = [SessionTouched(conversation="c", session="s") for _ in range(3)]
            assert all(r.is_spooled for r in await log.append(touches))
            server.start()
            await recovered(log)
            last = await log.append(SessionTouched(conversation="c", session="s"))
            assert last.version == 4

    async def test_so_does_what_is_known_of_who_holds_a_place(self, server, spool_dir):
        def place_of(session: str) -> Event:
            return ConversationMapped(conversation="c", session=session)

        over = SessionTransitioned(conversation="c", session="s", to_status="completed")
        async with opened(server, spool_dir) as log:
            server.kill()
            assert (await log.append(place_of("s"))).is_spooled
            server.start()
            await recovered(log)
            with pytest.raises(VersionConflict):
                await log.append(place_of("t"), expected_version=FREE)
            server.kill()
            assert (await log.append(over)).is_spooled
            server.start()
            await recovered(log)
            assert (await log.append(place_of("t"), expected_version=FREE)).version == 2

    async def test_many_tasks_share_a_sync_to_the_disk(self, server, spool_dir, monkeypatch):
        import os

        syncs = []
        real = os.fsync
        monkeypatch.setattr(os, "fsync", lambda descriptor: (syncs.append(1), real(descriptor)))
        async with opened(server, spool_dir, partition_count=1) as log:
            server.kill()
            await log.append(message("c", "first"))
            syncs.clear()
            await asyncio.gather(*(log.append(message("c", n)) for n in range(200)))
            assert 1 <= len(syncs) <= 4
            server.start()
            await recovered(log)
            assert await all_texts(log, "c") == ["first", *map(str, range(200))]

    async def test_it_ends_under_load(self, server, spool_dir):
        """Newcomers cannot keep the spool from ever being empty."""
        async with opened(server, spool_dir) as log:
            server.kill()
            await log.append(messages("c", 3000))
            server.start()
            counts = dict.fromkeys(CHATS, 0)

            async def bot(chat: str) -> None:
                while log.is_degraded or counts[chat] < 10:
                    await log.append(message(chat, counts[chat]))
                    counts[chat] += 1

            await asyncio.wait_for(asyncio.gather(*map(bot, CHATS)), 20)
            assert await all_texts(log, "c") == [str(n) for n in range(3000)]
            for chat in CHATS:
                assert await all_texts(log, chat) == [str(n) for n in range(counts[chat])]

    async def test_a_server_out_of_memory_counts_as_away(self, tmp_path, spool_dir):
        with RawServer(tmp_path) as server:
            async with opened(server, spool_dir) as log:
                await log.client.config_set("maxmemory", 1)
                assert (await log.append(message("c", "kept"))).is_spooled
                assert await log.read(conversation="c") == []
                assert log.is_degraded
                await log.client.config_set("maxmemory", 0)
                await recovered(log)
                assert await all_texts(log, "c") == ["kept"]

    async def test_without_a_spool_a_call_fails_and_the_next_may_not(
        self, server, caplog: pytest.LogCaptureFixture
    ):
        async with EventLog.open(server.url, max_retries=0, partition_count=1) as log:
            server.kill()
            for _ in range(2):
                with pytest.raises(LogUnavailable):
                    await log.append(message("c", 0))
            assert log.is_degraded
            server.start()
            await log.append(message("c", 1))
            assert not log.is_degraded
        assert told(caplog) == ["redis_error", "redis_degraded_mode", "redis_recovered"]


class TestLogging:
    async def test_each_step_is_told_once(self, server, spool_dir, caplog):
        caplog.set_level(logging.INFO)
        async with opened(server, spool_dir) as log:
            server.kill()
            for number in range(5):
                await log.append(message("c", number))
            server.start()
            await recovered(log)
        events = told(caplog)
        assert events.count("redis_degraded_mode") == 1
        assert events.count("redis_recovered") == 1
        by_event = {r.event: r.fields for r in caplog.records if hasattr(r, "event")}
        assert by_event["redis_error"]["function"] == "append"
        assert "cannot be reached" in by_event["redis_error"]["error"]
        assert by_event["redis_recovered"] == {"spooled_count": 5}

    async def test_no_line_shows_the_password(self, tmp_path, spool_dir, caplog):
        with RawServer(tmp_path, tcp=True, requirepass="s3cret") as server:
            url = server.url.replace("://", "://bot:s3cret@")
            server.stop()
            async with EventLog.open(url, spool_dir=str(spool_dir), max_retries=0) as log:
                await log.append(message("c", 0))
        assert {"redis_init_failed", "redis_error", "redis_degraded_mode"} <= set(told(caplog))
        assert "s3cret" not in caplog.text
        assert "s3cret" not in "".join(path.read_text() for path in spools(spool_dir))


class TestOpening:
    async def test_while_the_server_is_away(self, server, spool_dir, caplog):
        server.stop()
        async with opened(server, spool_dir) as log:
            assert log.is_degraded
            assert await log.ping() is False
            for number in range(3):
                result = await log.append(message("c", number))
                assert result.is_spooled
                assert result.partition == -1
            for call in (
                log.heads,
                log.tail,
                lambda: log.read(partition=0),
                lambda: log.read(conversation="c"),
                lambda: log.producer("p"),
            ):
                with pytest.raises(LogUnavailable):
                    await call()
            with pytest.raises(LogUnavailable, match="cannot be reached"):
                _ = log.client
            with pytest.raises(LogUnavailable):
                log.partition_of("c")
            with pytest.raises(LogUnavailable):
                _ = log.partition_count
            assert not log.was_reached
            server.start()
            await asyncio.wait_for(log.reached(), 10)
            await recovered(log)
            assert await log.ping() is True
            assert (await log.append(message("c", 3))).sequence == 4
            assert await all_texts(log, "c") == ["0", "1", "2", "3"]
        events = told(caplog)
        assert events[0] == "redis_init_failed"
        assert events.count("redis_degraded_mode") == events.count("redis_recovered") == 1

    async def test_nothing_was_appended_meanwhile(self, server, spool_dir, caplog):
        server.stop()
        async with opened(server, spool_dir) as log:
            server.start()
            await recovered(log)
            assert (await log.append(message("c", 0))).sequence == 1
        assert told(caplog)[-1] == "redis_recovered"

    async def test_without_a_spool_it_fails(self, server):
        server.stop()
        with pytest.raises(LogUnavailable):
            await EventLog.open(server.url)

    async def test_what_will_not_pass_by_itself_is_raised(self, tmp_path, server, spool_dir):
        async with opened(server, spool_dir):
            pass
        with pytest.raises(PartitionMismatch):
            await opened(server, spool_dir, partition_count=5)
        with pytest.raises(ConfigurationError, match="spool_dir"):
            await opened(server, tmp_path / "raw.log" / "x")
        await asyncio.to_thread(server.stop)
        with (
            RawServer(tmp_path, requirepass="right") as locked,
            pytest.raises(AuthenticationFailed),
        ):
            await opened(locked, spool_dir)

    async def test_a_password_that_is_refused_later_is_not_the_server_s_absence(
        self, server, spool_dir
    ):
        async with opened(server, spool_dir) as log:
            await log.client.config_set("requirepass", "new")
            await log.client.connection_pool.disconnect()
            with pytest.raises(AuthenticationFailed):
                await log.append(message("c", 0))
        assert spools(spool_dir) == []


class TestLeftBehind:
    """What a process left in its spool goes into the log before the next one's first append."""

    async def left_behind(self, server: RawServer, spool_dir: Path, count: int = 5) -> list[Any]:
        events = messages("c", count)
        async with opened(server, spool_dir) as log:
            server.kill()
            for event in events:
                await log.append(event)
        return events

    async def test_closing_says_how_much_and_the_next_opening_drains_it(
        self, server, spool_dir, caplog
    ):
        await self.left_behind(server, spool_dir)
        [left] = [r.fields for r in caplog.records if getattr(r, "event", "") == "spool_left"]
        assert left["event_count"] == 5
        assert spool_dir.stat().st_mode & 0o777 == 0o700
        assert [path.stat().st_mode & 0o777 for path in spools(spool_dir)] == [0o600]
        server.start()
        async with opened(server, spool_dir) as log:
            assert not log.is_degraded
            assert (await log.append(message("c", "next"))).sequence == 6
            assert await all_texts(log, "c") == [*map(str, range(5)), "next"]
        assert spools(spool_dir) == []

    async def test_several_spools_the_oldest_first(self, server, spool_dir):
        async with opened(server, spool_dir):
            pass
        server.stop()
        for number in range(4):
            async with opened(server, spool_dir) as log:
                await log.append(message("c", number))
        server.start()
        async with opened(server, spool_dir) as log:
            assert await all_texts(log, "c") == ["0", "1", "2", "3"]

    async def test_a_line_that_was_cut_short_was_never_promised(self, server, spool_dir, caplog):
        await self.left_behind(server, spool_dir)
        [path] = spools(spool_dir)
        whole = path.read_bytes()
        path.write_bytes(whole + whole.splitlines()[-1][:30])
        server.start()
        async with opened(server, spool_dir) as log:
            assert await all_texts(log, "c") == list(map(str, range(5)))
        assert "spool_torn" in told(caplog)
        assert spools(spool_dir) == []

    @pytest.mark.parametrize(
        "damaged",
        [
            b"\0" * 50,
            b'{"n":3,"event":5}',
            b'{"n":3,"event":{"id":"x"}}',
            b'{"n":3,"event":{"id":"x","conversation":"c","text":"\xff"}}',
        ],
    )
    async def test_a_damaged_line_is_told_kept_and_holds_nothing_up(
        self, server, spool_dir, caplog, damaged
    ):
        await self.left_behind(server, spool_dir)
        [path] = spools(spool_dir)
        lines = path.read_bytes().splitlines(keepends=True)
        lines[3] = damaged + b"\n"
        path.write_bytes(b"".join(lines))
        server.start()
        async with opened(server, spool_dir) as log:
            assert await all_texts(log, "c") == ["0", "1", "3", "4"]
        assert "spool_line_damaged" in told(caplog)
        assert [each.suffix for each in spool_dir.iterdir()] == [".damaged"]

    async def test_another_log_s_is_left_alone(self, server, spool_dir):
        await self.left_behind(server, spool_dir)
        server.start()
        async with opened(server, spool_dir, key_prefix="other") as log:
            assert await log.spool_counts() == {}
            assert await assert_gapless(log) == 0
        async with opened(server, spool_dir) as log:
            assert await assert_gapless(log) == 5

    async def test_a_living_one_s_is_left_alone_until_it_ends(self, server, spool_dir, monkeypatch):
        monkeypatch.setattr("eventlog.spooler.ADOPT_EVERY_S", 0.05)
        living = opened(server, spool_dir)
        await living
        server.kill()
        await living.append(message("c", 0))
        await living.close()
        [path] = spools(spool_dir)
        hidden = path.rename(path.with_suffix(".elsewhere"))
        server.start()
        async with opened(server, spool_dir) as log:
            hidden.rename(path)
            await eventually(lambda: not spools(spool_dir))
            assert await all_texts(log, "c") == ["0"]


class TestOnce:
    async def test_a_lost_reply_and_then_the_spool(self, server, spool_dir):
        """The server had the first one: it stopped answering before it could say so."""
        async with opened(server, spool_dir, command_timeout_s=0.3) as log:
            await log.append(message("c", "before"))
            import os
            import signal

            os.kill(server.pid, signal.SIGSTOP)  # requests wait in its socket, and are carried out
            for number in range(3):
                assert (await log.append(message("c", number))).is_spooled
            os.kill(server.pid, signal.SIGCONT)
            await recovered(log)
            assert await all_texts(log, "c") == ["before", "0", "1", "2"]

    async def test_the_same_event_twice(self, server, spool_dir):
        event = message("c", "once")
        async with opened(server, spool_dir) as log:
            server.kill()
            for _ in range(2):
                await log.append(event)
            await log.append([event, message("c", "other"), event])
            server.start()
            await recovered(log)
            assert (await log.append(event)).duplicate
            assert await all_texts(log, "c") == ["once", "other"]

    @pytest.mark.parametrize("were_there", ["none", "some", "all"])
    async def test_a_drain_that_died_before_it_removed_the_file_when_ids_are_long_forgotten(
        self, server, spool_dir, tmp_path, were_there
    ):
        events = await TestLeftBehind().left_behind(server, spool_dir, 20)
        [path] = spools(spool_dir)
        copy = shutil.copy(path, tmp_path / path.name)
        server.start()
        there = {"none": [], "some": events[::2], "all": events}[were_there]
        async with EventLog.open(server.url) as log:
            await log.append(there)  # the reply to these was lost
        async with opened(server, spool_dir) as log:
            assert await assert_gapless(log) == 20
            for partition in range(3):
                await log.client.delete(*log.keys.dedup(partition))
        shutil.move(copy, path)
        async with opened(server, spool_dir) as log:
            assert await assert_gapless(log) == 20
        assert spools(spool_dir) == []

    async def test_one_outage_after_another(self, server, spool_dir):
        numbers = itertools.count()
        async with opened(server, spool_dir) as log:
            for _ in range(4):
                server.kill()
                for _ in range(3):
                    await log.append(message("c", next(numbers)))
                server.start()
                await recovered(log)
                await log.append(message("c", next(numbers)))
            assert await all_texts(log, "c") == [str(n) for n in range(16)]


class TestBounds:
    async def test_a_full_spool_refuses_and_keeps_what_it_has(self, server, spool_dir):
        async with opened(server, spool_dir, spool_max_bytes=10_000) as log:
            server.kill()
            kept, refusal = 0, None
            while refusal is None:
                try:
                    await log.append(message("c", kept))
                    kept += 1
                except LogUnavailable as error:
                    refusal = error
            assert "spool_max_bytes" in str(refusal)
            assert kept > 20
            server.start()
            await recovered(log)
            assert await all_texts(log, "c") == [str(n) for n in range(kept)]

    async def test_what_others_left_counts(self, server, spool_dir):
        await TestLeftBehind().left_behind(server, spool_dir, 40)
        async with opened(server, spool_dir, spool_max_bytes=6_000) as log:
            with pytest.raises(LogUnavailable, match="spool_max_bytes"):
                await log.append(message("c", 0))

    async def test_a_long_text_and_odd_ones(self, server, spool_dir):
        texts = ["x" * 900_000, "", "\n\0\u2028", '"{}', "😀\u200b"]
        async with opened(server, spool_dir, partition_count=1) as log:
            server.kill()
            for number, text in enumerate(texts):
                await log.append(
                    MessageReceived(conversation='a:"😀"\n', id=f"i:{number}\n", text=text)
                )
            server.start()
            await recovered(log)
            assert await all_texts(log, 'a:"😀"\n') == texts

    async def test_a_disk_that_takes_nothing(self, server, spool_dir, monkeypatch):
        def full(*_: Any) -> int:
            raise OSError(28, "No space left on device")

        async with opened(server, spool_dir) as log:
            server.kill()
            await log.append(message("c", 0))
            with monkeypatch.context() as patch:
                patch.setattr("eventlog.spool_file.os.fsync", full)
                with pytest.raises(LogUnavailable, match="No space left"):
                    await log.append(message("c", 1))
            await log.append(message("c", 2))
            server.start()
            await recovered(log)
            assert await all_texts(log, "c") == ["0", "2"]


async def test_a_server_that_is_reached_while_the_log_is_closed_is_let_go_of(
    server, spool_dir, monkeypatch
):
    server.stop()
    log = await opened(server, spool_dir)
    await log.append(message("c", 0))
    server.start()
    reaching, go_on, find = asyncio.Event(), asyncio.Event(), foothold.find

    async def held_up(means: foothold.Means) -> Any:
        reaching.set()
        await go_on.wait()
        return await find(means)

    monkeypatch.setattr(foothold, "find", held_up)
    await reaching.wait()
    closing = asyncio.create_task(log.close())
    await asyncio.sleep(0)
    go_on.set()
    await closing
    async with redis.asyncio.Redis.from_url(server.url) as client:
        assert len(await client.client_list()) == 1
    assert spools(spool_dir) == []
