"""The HTTP API through a real server: what each group of routes does."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from eventlog.ids import START
from tests.http_service import Running, running
from tests.logs import message


@pytest.fixture
async def api(server_url: str, tmp_path) -> AsyncIterator[Running]:
    async with running(server_url, archive_dir=str(tmp_path / "archive")) as run:
        yield run


def received(text: str, conversation: str = "a:1", **fields):
    return {"type": "message.received", "conversation": conversation, "text": text, **fields}


class TestAppend:
    async def test_one_event_is_recorded_once_under_its_id(self, api):
        first = await api.http.post("/v1/events", json={"events": [received("hi", id="x")]})
        again = await api.http.post("/v1/events", json={"events": [received("hi", id="x")]})
        assert (first.status_code, again.status_code) == (201, 200)
        [one], [other] = first.json()["results"], again.json()["results"]
        assert not one["duplicate"]
        assert other["duplicate"]
        assert one["entry"] == other["entry"]
        assert one["sequence"] == 1
        [entry] = await api.log.read(conversation="a:1")
        assert (entry.event.id, str(entry.id)) == ("x", one["entry"])

    async def test_the_request_s_id_goes_with_the_event(self, api):
        answer = await api.http.post(
            "/v1/events", json={"events": [received("hi")]}, headers={"X-Request-ID": "trace-7"}
        )
        assert answer.headers["x-request-id"] == "trace-7"
        [entry] = await api.log.read(conversation="a:1")
        assert entry.event.correlation_id == "trace-7"

    async def test_so_it_does_with_what_other_calls_append(self, api):
        headers = {"X-Request-ID": "trace-8"}
        body = {"text": "fix it", "session_id": "s1"}
        await api.http.post("/v1/tickets/T/sessions", json=body, headers=headers)
        entries = await api.log.read(conversation="ticket:T")
        assert {entry.event.correlation_id for entry in entries} == {"trace-8"}

    async def test_a_request_s_id_that_is_none_is_replaced(self, api):
        answer = await api.http.get("/health", headers={"X-Request-ID": "a b" * 100})
        assert "a b" not in answer.headers["x-request-id"]

    async def test_a_bad_event_of_a_list_writes_nothing_and_is_named(self, api):
        events = [received("one"), {**received("two"), "txt": "typo"}]
        answer = await api.http.post("/v1/events", json={"events": events})
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert (problem["code"], problem["pointer"]) == ("invalid_body", "$.events[1].txt")
        assert problem["status"] == 422
        assert await api.log.heads() == [START] * 4

    @pytest.mark.parametrize(
        ("field", "value"), [("schema", 99), ("occurred_at", 1_700_000_000), ("text", 7)]
    )
    async def test_a_field_that_cannot_be_is_named(self, api, field, value):
        event = {**received("x"), field: value}
        answer = await api.http.post("/v1/events", json={"events": [event]})
        assert answer.status_code == 422
        assert field in answer.json()["detail"]
        assert answer.json()["pointer"].startswith("$.events[0]")

    async def test_an_event_of_a_type_of_your_own_keeps_its_fields(self, api):
        event = {"type": "shop.paid", "conversation": "a:1", "amount_cents": 995}
        assert (await api.http.post("/v1/events", json={"events": [event]})).status_code == 201
        [entry] = await api.log.read(conversation="a:1")
        assert (entry.event.type, entry.event.extra) == ("shop.paid", {"amount_cents": 995})

    async def test_an_expected_version_that_is_not_is_a_conflict(self, api):
        change = {"type": "session.touched", "conversation": "c", "session": "s"}
        body = {"events": [change], "expected_version": 3}
        answer = await api.http.post("/v1/events", json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "version_conflict")


class TestChat:
    async def test_a_message_finds_its_session_and_is_recorded_once(self, api):
        said = {"message": "hello", "user_id": "7", "channel": "web", "message_id": "m1"}
        first = await api.http.post("/v1/chat", json=said)
        again = await api.http.post("/v1/chat", json=said)
        assert (first.status_code, again.status_code) == (201, 200)
        accepted = first.json()
        assert accepted["session"] == again.json()["session"]
        assert again.json()["message"]["duplicate"]
        page = (await api.http.get(accepted["history"])).json()
        assert [each["event"]["text"] for each in page["messages"]] == ["hello"]
        assert page["messages"][0]["event"]["session"] == accepted["session"]
        assert page["messages"][0]["event"]["correlation_id"] == first.headers["x-request-id"]

    async def test_two_users_of_a_conversation_have_sessions_of_their_own(self, api):
        bodies = [
            {"message": "x", "user_id": u, "channel": "web", "conversation_id": "room/1#a"}
            for u in ("1", "2")
        ]
        answers = [(await api.http.post("/v1/chat", json=body)).json() for body in bodies]
        assert answers[0]["session"] != answers[1]["session"]
        assert {each["conversation"] for each in answers} == {"web:room/1#a"}
        page = (await api.http.get(answers[0]["history"])).json()
        assert len(page["messages"]) == 2


class TestConversations:
    async def test_messages_page_both_ways_without_seam_or_repeat(self, api):
        await api.log.append([message("a:1", n) for n in range(25)])
        page = (await api.http.get("/v1/conversations/a:1/messages?limit=10")).json()
        assert texts(page) == [str(n) for n in range(15, 25)]
        assert page["earlier_count"] == 15
        await api.log.append(message("a:1", "new"))
        older = await follow(api, page["older"])
        assert texts(older) == [str(n) for n in range(5, 15)]
        newer = await follow(api, older["newer"])
        assert texts(newer) == [str(n) for n in range(15, 25)]
        assert texts(await follow(api, newer["newer"])) == ["new"]

    async def test_a_cursor_of_another_conversation_is_refused(self, api):
        await api.log.append([message("a:1", n) for n in range(5)])
        page = (await api.http.get("/v1/conversations/a:1/messages?limit=2")).json()
        answer = await api.http.get(
            "/v1/conversations/b:1/messages", params={"cursor": page["older"]}
        )
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")

    async def test_a_mapping_is_set_read_compacted_and_deleted(self, api):
        path = "/v1/conversations/web%3Aa%2Fb"
        assert (await api.http.get(path)).status_code == 404
        await api.http.put(f"{path}/session", json={"session": "s1"})
        assert (await api.http.get(path)).json()["session"] == "s1"
        fresh = (await api.http.post(f"{path}/compact", json={"session": "s2"})).json()["session"]
        assert fresh == "s2"
        found = (await api.http.get("/v1/conversations")).json()["conversations"]
        assert [(each["conversation"], each["session"]) for each in found] == [("web:a/b", "s2")]
        assert (await api.http.delete(f"{path}/session")).json() == {"deleted": True}
        assert (await api.http.delete(f"{path}/session")).json() == {"deleted": False}


class TestSessions:
    async def test_a_session_is_started_spoken_in_and_completed(self, api):
        started = await api.http.post("/v1/sessions", json={"user": "ada", "project": "p"})
        assert started.status_code == 201
        path = f"/v1/sessions/{started.json()['id']}"
        said = await api.http.post(f"{path}/messages", json={"text": "hello", "sender": "ada"})
        assert said.status_code == 201
        state = (await api.http.get(f"{path}/state")).json()
        assert state["status"] == "running"
        assert [each["text"] for each in state["messages"]] == ["hello"]
        listed = (await api.http.get("/v1/sessions?status=active&project=p")).json()
        assert [each["id"] for each in listed["sessions"]] == [started.json()["id"]]
        done = await api.http.post(f"{path}/transition", json={"to": "completed"})
        assert done.json()["status"] == "completed"
        late = await api.http.post(f"{path}/messages", json={"text": "too late"})
        assert (late.status_code, late.json()["code"]) == (409, "illegal_transition")
        back = await api.http.post(f"{path}/transition", json={"to": "pending"})
        assert back.status_code == 409

    async def test_one_that_is_not_there_is_missing(self, api):
        for path in ("", "/state", "/chat", "/stream"):
            answer = await api.http.get(f"/v1/sessions/nobody{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "session_missing")

    async def test_a_ticket_s_session_is_started_at_once_and_known_afterwards(self, api):
        path = "/v1/tickets/T-1"
        body = {"text": "Why does it fail?", "session_id": "s1"}
        started = await api.http.post(f"{path}/sessions", json=body)
        assert started.status_code == 202
        assert (await api.http.post(f"{path}/sessions", json=body)).json() == started.json()
        assert (await api.http.get(f"{path}/active")).json()["id"] == "s1"
        await api.http.post("/v1/sessions/s1/messages", json={"text": "hurry"})
        chat = (await api.http.get("/v1/sessions/s1/chat")).json()
        assert [each["message"]["text"] for each in chat["items"]] == ["Why does it fail?", "hurry"]
        await api.http.post("/v1/sessions/s1/transition", json={"to": "completed"})
        assert (await api.http.get(f"{path}/active")).status_code == 404
        ended = (await api.http.get(f"{path}/sessions")).json()["sessions"]
        assert [each["id"] for each in ended] == ["s1"]


class TestDeadLetters:
    async def test_a_letter_is_listed_shown_replayed_and_discarded(self, api):
        name = "delivery:1/2-3"
        await api.bridge.persist_failed_delivery("a:1", "hello", letter=name, reason="blocked")
        listed = (await api.http.get("/v1/dead-letters?reason=blocked")).json()
        assert [each["letter"] for each in listed["dead_letters"]] == [name]
        assert listed["reasons"] == {"blocked": 1}
        path = "/v1/dead-letters/delivery:1%2F2-3"
        shown = (await api.http.get(path)).json()
        assert (shown["text"], shown["status"]) == ("hello", "parked")
        asked = await api.http.post(f"{path}/replay")
        assert (asked.status_code, asked.json()["status"]) == (202, "requested")
        assert not asked.json()["has_worker"]
        assert (await api.http.post(f"{path}/discard", json={"reason": " "})).status_code == 422
        gone = await api.http.post(f"{path}/discard", json={"reason": "sent by hand"})
        assert gone.json()["status"] == "discarded"
        assert (await api.http.get("/v1/dead-letters/nothing")).status_code == 404


class TestOperation:
    async def test_projections_groups_and_retention_say_how_they_are(self, api):
        await api.log.append(message("a:1", "x"))
        found = (await api.http.get("/v1/projections")).json()["partitions"]
        assert sum(each["lag_count"] for each in found) == 1
        assert (await api.http.get("/v1/groups")).json() == {"groups": []}
        plan = (await api.http.get("/v1/retention/plan?max_entries=0")).json()
        assert plan["goes_count"] == 0
        assert plan["held_by"] or plan["held_count"] == 0

    async def test_a_rebuild_is_begun_and_its_progress_told(self, api):
        await api.log.append(message("a:1", "x"))
        answer = await api.http.post("/v1/projections/history/rebuild")
        assert answer.status_code == 202
        progress = (await api.http.get(answer.headers["location"])).json()
        assert progress["is_running"]
        assert progress["entry_count"] >= 1
        assert (await api.http.post("/v1/projections/nothing/rebuild")).status_code == 404

    async def test_sql_runs_in_its_cage(self, api):
        await api.log.append([message("a:1", "x"), message("a:2", "y")])
        body = {"sql": "SELECT text FROM messages WHERE text = ? ", "parameters": ["y"]}
        answer = (await api.http.post("/v1/query", json=body)).json()
        assert answer["rows"] == [["y"]]
        assert answer["columns"] == [{"name": "text", "type": "string"}]
        csv = await api.http.post("/v1/query", json={**body, "format": "csv"})
        assert csv.text == '"text"\n"y"\n'
        refused = await api.http.post("/v1/query", json={"sql": "COPY events TO '/tmp/x'"})
        assert (refused.status_code, refused.json()["code"]) == (403, "query_refused")
        slow = {"sql": "SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b"}
        late = await api.http.post("/v1/query", json={**slow, "timeout_s": 0.3})
        assert (late.status_code, late.json()["code"]) == (422, "query_timeout")

    async def test_reports_come_as_rows_and_as_a_picture(self, api):
        await api.log.append([message("a:1", "x"), message("a:2", "y")])
        names = [each["name"] for each in (await api.http.get("/v1/reports")).json()["reports"]]
        assert "messages-per-day" in names
        rows = (await api.http.get("/v1/reports/messages-per-day?chat=a:1")).json()
        assert rows["row_count"] == 1
        png = await api.http.get("/v1/reports/messages-per-day?format=png")
        assert png.content.startswith(b"\x89PNG")
        wrong = await api.http.get("/v1/reports/messages-per-day?param=colour=red")
        assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid_query")
        assert (await api.http.get("/v1/reports/nothing")).status_code == 404


class TestService:
    async def test_it_says_that_it_lives_is_ready_and_what_it_counted(self, api):
        assert (await api.http.get("/health")).json() == {"status": "ok"}
        assert (await api.http.get("/ready")).json() == {"status": "ready", "is_degraded": False}
        await api.http.post("/v1/events", json={"events": [received("hi")]})
        metrics = (await api.http.get("/metrics")).text
        assert 'eventlog_http_appended_events_total{outcome="recorded"} 1' in metrics

    async def test_the_document_names_every_route(self, api):
        document = (await api.http.get("/openapi.json")).json()
        assert document["openapi"] == "3.1.0"
        assert "/v1/sessions/{session}/stream" in document["paths"]

    async def test_a_stream_asked_for_by_head_ends(self, api):
        answer = await api.http.head("/v1/events/stream")
        assert answer.headers["content-type"].startswith("text/event-stream")

    async def test_what_is_unknown_is_refused_with_its_place(self, api):
        answer = await api.http.get("/v1/sessions?colour=red")
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
        assert "colour" in answer.json()["detail"]
        assert (await api.http.get("/v1/nothing")).json()["code"] == "not_found"
        wrong = await api.http.delete("/v1/sessions")
        assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
        assert "GET" in wrong.headers["allow"]


def texts(page: dict) -> list[str]:
    return [each["event"]["text"] for each in page["messages"]]


async def follow(api: Running, cursor: str) -> dict:
    answer = await api.http.get(
        "/v1/conversations/a:1/messages", params={"cursor": cursor, "limit": 10}
    )
    assert answer.status_code == 200
    return answer.json()
