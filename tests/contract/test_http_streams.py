"""Server-sent events: state at once, each entry once and in order, however often a reader is cut off."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from eventlog import EntryId
from eventlog.entry import Entry
from eventlog.errors import HistoryGap
from eventlog.tail import Tail
from service.http import hub as hub_module
from service.http import stream as stream_module
from service.http.reading import Limits
from tests.http_service import Running, running
from tests.logs import conversation_in, message, messages
from tests.sse import Sent, Source
from tests.support import eventually


@pytest.fixture
async def api(server_url: str, tmp_path) -> AsyncIterator[Running]:
    async with running(server_url, archive_dir=str(tmp_path / "archive")) as run:
        yield run


@asynccontextmanager
async def source(api: Running, path: str, last_id: str | None = None) -> AsyncIterator[Source]:
    opened = await Source(api.url, path, last_id).open()
    try:
        yield opened
    finally:
        await opened.close()


async def some(read: Source, count: int) -> list[Sent]:
    found: list[Sent] = []
    async with asyncio.timeout(15):
        async for sent in read.events():
            found.append(sent)
            if len(found) == count:
                break
    return found


async def everything(read: Source) -> list[Sent]:
    async with asyncio.timeout(15):
        return [sent async for sent in read.events()]


def text(sent: Sent) -> str:
    return sent.data["event"].get("text", sent.data["event"]["type"])


class TestSession:
    async def test_state_comes_at_once_then_entries_then_the_end(self, api):
        session = await api.bridge.sessions.start("a:1", user="ada")
        await api.bridge.received(session, "before")
        async with source(api, f"/v1/sessions/{session.id}/stream") as read:
            [state] = await some(read, 1)
            assert state.event == "state"
            assert state.data["status"] == "running"
            assert [each["text"] for each in state.data["messages"]] == ["before"]
            await api.log.append(message("a:1", "of nobody"))
            await api.bridge.received(session, "hello")
            await api.bridge.sessions.complete(session.id)
            sent = await everything(read)
        assert [each.event for each in sent] == ["entry", "entry", "end"]
        assert [text(each) for each in sent[:2]] == ["hello", "session.transitioned"]

    async def test_it_resumes_right_after_any_event_and_ends_once(self, api):
        session = await api.bridge.sessions.start("a:1")
        async with source(api, f"/v1/sessions/{session.id}/stream") as read:
            await some(read, 1)
            for n in range(5):
                await api.bridge.received(session, str(n))
            await api.bridge.sessions.complete(session.id)
            sent = await everything(read)
        for place, each in enumerate(sent[:-1]):
            async with source(api, f"/v1/sessions/{session.id}/stream", each.id) as read:
                assert await everything(read) == sent[place + 1 :]
        async with source(api, f"/v1/sessions/{session.id}/stream", sent[-1].id) as read:
            assert read.status == 204

    async def test_one_that_has_ended_shows_its_state_and_ends(self, api):
        session = await api.bridge.sessions.start("a:1")
        await api.bridge.sessions.fail(session.id, "no time")
        async with source(api, f"/v1/sessions/{session.id}/stream") as read:
            assert [each.event for each in await everything(read)] == ["state", "end"]

    async def test_a_ticket_s_tools_are_in_its_state(self, api):
        session = await api.bridge.tickets.start("T-1", "fix it")
        async with source(api, f"/v1/sessions/{session}/stream") as read:
            [state] = await some(read, 1)
        assert (state.data["ticket"], state.data["status"]) == ("T-1", "pending")


class TestConversation:
    async def test_it_is_followed_whatever_its_session(self, api):
        await api.log.append(message("a:1", "before"))
        async with source(api, "/v1/conversations/a%3A1/stream") as read:
            [state] = await some(read, 1)
            assert [each["event"]["text"] for each in state.data["messages"]] == ["before"]
            await api.log.append(
                [message("a:1", "one"), message("b:1", "x"), message("a:1", "two")]
            )
            assert [text(each) for each in await some(read, 2)] == ["one", "two"]


class TestLog:
    async def test_types_and_partitions_are_chosen(self, api):
        there, elsewhere = conversation_in(api.log, 2), conversation_in(api.log, 1)
        async with source(
            api, "/v1/events/stream?partition=2&type=message.received&type=x.y"
        ) as read:
            [state] = await some(read, 1)
            assert state.data["heads"] == {"2": "0-0"}
            await api.log.append(message(elsewhere, "elsewhere"))
            await api.bridge.sessions.start(there)
            await api.log.append(message(there, "here"))
            [sent] = await some(read, 1)
        assert text(sent) == "here"

    async def test_cut_off_a_hundred_times_it_has_each_entry_once_in_order(self, api):
        chance = random.Random(8)
        count, cuts, most = 500, 0, 5
        async with source(api, "/v1/events/stream") as first:
            [begin] = await some(first, 1)
        appending = asyncio.create_task(_append(api, count, chance))
        had: list[Sent] = []
        last_id = begin.id
        async with asyncio.timeout(40):
            while len(had) < count:
                cuts += 1
                wanted = chance.randrange(most + 1)
                async with source(api, "/v1/events/stream", last_id) as read:
                    if not wanted:  # in the midst of an event, which a browser then has not had
                        await anext(read.chunks())
                        continue
                    # What came with the last of these, in the same chunk, is lost.
                    for sent in await some(read, min(wanted, count - len(had))):
                        had.append(sent)
                        last_id = sent.id
        await appending
        assert cuts >= count / most >= 100
        assert {each.event for each in had} == {"entry"}
        for partition in range(4):
            sequences = [e.data["sequence"] for e in had if e.data["partition"] == partition]
            assert sequences == list(range(1, len(sequences) + 1))
        assert len({each.data["event"]["id"] for each in had}) == len(had) == count

    async def test_a_reader_far_behind_catches_up_page_by_page(self, api, monkeypatch):
        monkeypatch.setattr(stream_module, "PAGE_ENTRIES", 10)
        async with source(api, "/v1/events/stream") as read:
            [begin] = await some(read, 1)
        await api.log.append([e for n in range(20) for e in messages(f"a:{n}", 10)])
        async with source(api, "/v1/events/stream", begin.id) as read:
            assert len({each.data["event"]["id"] for each in await some(read, 200)}) == 200

    async def test_a_place_that_was_trimmed_gets_fresh_state_and_goes_on(self, api):
        there = conversation_in(api.log, 0)
        path = "/v1/events/stream?partition=0"
        async with source(api, path) as read:
            [begin] = await some(read, 1)
        results = await api.log.append(messages(there, 10))
        assert isinstance(results, list)
        await api.log.client.xtrim(
            api.log.keys.stream(0), minid=str(results[4].id), approximate=False
        )
        async with source(api, path, begin.id) as read:
            [resync] = await some(read, 1)
            assert (resync.event, resync.data["reason"]) == ("resync", "trimmed")
            assert resync.data["state"]["heads"] == {"0": str(results[-1].id)}
            await api.log.append(message(there, "next"))
            assert [text(each) for each in await some(read, 1)] == ["next"]

    async def test_a_place_in_another_log_gets_fresh_state(self, api):
        path = "/v1/events/stream?partition=0"
        async with source(api, path, "00000000.0/1-1") as read:
            [resync] = await some(read, 1)
        assert (resync.event, resync.data["reason"]) == ("resync", "other_log")

    @pytest.mark.parametrize("wrong", ["x", "3f9a01c2.0/1", "3f9a01c2~AAAA", "3f9a01c2.9/1-1", "é"])
    async def test_a_place_that_is_none_is_refused(self, api, wrong):
        params = {"last_event_id": wrong, "partition": 0}
        answer = await api.http.get("/v1/events/stream", params=params)
        assert answer.status_code == 400

    async def test_a_heartbeat_moves_the_place_of_a_reader_that_nothing_is_for(
        self, api, monkeypatch
    ):
        monkeypatch.setattr(hub_module, "HEARTBEAT_S", 0.05)
        async with source(api, "/v1/events/stream?type=nothing.here&partition=0") as read:
            [begin] = await some(read, 1)
            last = await api.log.append(messages(conversation_in(api.log, 0), 3))
            assert isinstance(last, list)
            following = asyncio.create_task(everything(read))
            await eventually(lambda: read.last_id != begin.id)
            assert read.last_id.endswith(f".0/{last[-1].id}")
            following.cancel()


class TestManyReaders:
    async def test_idle_readers_cost_one_tail_per_partition_and_it_ends_with_them(self, api):
        session = await api.bridge.sessions.start("a:1")
        sources = [
            await Source(api.url, path).open()
            for _ in range(30)
            for path in ("/v1/events/stream", f"/v1/sessions/{session.id}/stream")
        ]
        await asyncio.gather(*(some(each, 1) for each in sources))
        assert api.hub.followed_count == 4
        for each in sources:
            await each.close()
        await eventually(lambda: api.hub.followed_count == 0)

    async def test_a_slow_reader_is_dropped_resumes_and_hurts_nobody(self, api, monkeypatch):
        monkeypatch.setattr(hub_module.Reader.__init__, "__defaults__", (20,))
        there, long = conversation_in(api.log, 0), "x" * 50_000
        path = "/v1/events/stream?partition=0"
        async with source(api, path) as slow, source(api, path) as quick:
            await asyncio.gather(some(slow, 1), some(quick, 1))
            reading = asyncio.create_task(some(quick, 400))
            for n in range(400):
                await api.log.append(message(there, f"{n}{long}"))
            assert len(await reading) == 400
            counting = api.app.state.shared.counting
            sent = await everything(slow)
            assert sent[-1].event == "slow"
            assert counting.dropped_stream_count == 1
            had = [each for each in sent if each.event == "entry"]
        async with source(api, path, sent[-1].id) as again:
            had += await some(again, 400 - len(had))
        assert [each.data["sequence"] for each in had] == list(range(1, 401))

    async def test_what_the_tail_missed_is_read_by_the_reader_itself(self, api, monkeypatch):
        there = conversation_in(api.log, 0)
        async with source(api, "/v1/events/stream?partition=0") as read:
            await some(read, 1)
            monkeypatch.setattr(hub_module, "AGAIN_S", 0.0)
            follow, gaps = Tail.__anext__, []

            async def missing(tail: Tail) -> Entry:
                entry = await follow(tail)
                if entry.sequence in (3, 6) and entry.sequence not in gaps:
                    gaps.append(entry.sequence)
                    raise HistoryGap("as if it were trimmed.")
                return entry

            monkeypatch.setattr(Tail, "__anext__", missing)
            for n in range(10):
                await api.log.append(message(there, n))
            assert [text(each) for each in await some(read, 10)] == [str(n) for n in range(10)]
            assert gaps

    async def test_there_are_places_for_so_many(self, server_url):
        async with running(server_url, limits=Limits(stream_count=1)) as api:
            async with source(api, "/v1/events/stream") as one:
                await some(one, 1)
                refused = await api.http.get("/v1/events/stream")
                assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
                assert refused.headers["retry-after"]
            await eventually(lambda: not api.app.state.shared.counting.stream_count)
            async with source(api, "/v1/events/stream") as one:
                assert (await some(one, 1))[0].event == "state"


async def _append(api: Running, count: int, chance: random.Random) -> None:
    for n in range(count):
        await api.log.append(message(f"c:{chance.randrange(8)}", n))


def test_a_place_reads_back_as_it_was() -> None:
    from service.http.place import Place

    many = Place("0a1b2c3d", {n: EntryId(1_763_991_203_117 + n, n * 7) for n in range(1024)})
    assert Place.parse(str(many)).positions == many.positions
    assert len(str(many)) < 20_000
    one = Place("0a1b2c3d", {5: EntryId(17, 4)}, has_ended=True)
    assert str(one) == "0a1b2c3d.5/17-4!"
    assert Place.parse(str(one)).has_ended
