from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.coding_agent.reading import (
    Place,
    Prompt,
    choose_new,
    event_id,
    judge_session,
    match_prompts,
    read_events,
)
from bridge.coding_agent.shapes import AgentMessage, decode_snapshot
from eventlog import Event, MessageReceived, MessageSent, ToolCalled, ToolReturned
from tests.coding_agent import frames, recording

PLACE = Place("ticket:1", "s1", "coder", now_us=7, max_text_bytes=1000)


def decoded(*messages: dict[str, Any]) -> list[AgentMessage]:
    snapshot = decode_snapshot(json.dumps(messages).encode())
    assert snapshot is not None
    assert snapshot.unreadable_count == 0
    return snapshot.messages


def user(name: str, text: str = "hi", **part: Any) -> dict[str, Any]:
    return {"info": {"id": name, "role": "user"}, "parts": [{"type": "text", "text": text, **part}]}


def answer(name: str, *parts: dict[str, Any], **info: Any) -> dict[str, Any]:
    return {"info": {"id": name, "role": "assistant", **info}, "parts": list(parts)}


def tool(status: str, **state: Any) -> dict[str, Any]:
    return {"type": "tool", "callID": "c", "tool": "bash", "state": {"status": status, **state}}


DONE = {"time": {"created": 1, "completed": 2}}


class TestSnapshots:
    @pytest.mark.parametrize("body", [b"", b"{", b"{}", b"null", b"[1]", b"[" * 5000, b"\xff[]"])
    def test_what_is_no_list_of_messages_is_none(self, body: bytes):
        assert decode_snapshot(body) is None

    def test_a_message_of_another_shape_is_left_out_and_counted(self):
        snapshot = decode_snapshot(json.dumps([{"info": {}}, user("u")]).encode())
        assert snapshot is not None
        assert [each.info.id for each in snapshot.messages] == ["u"]
        assert snapshot.unreadable_count == 1

    def test_half_a_surrogate_pair_is_mended(self):
        body = rb'[{"info":{"id":"u","role":"user"},"parts":[{"type":"text","text":"a\ud83e"}]}]'
        snapshot = decode_snapshot(body)
        assert snapshot is not None
        assert snapshot.messages[0].parts[0].text == "a?"

    def test_the_recording_is_read_whole(self):
        events = read_events(decoded(*recording()), {}, PLACE)
        assert [type(event).type.fget(event) for event in events] == [  # type: ignore[attr-defined]
            "message.received",
            "message.sent",
            *["tool.called", "tool.returned"] * 3,
            "message.sent",
            *["tool.called", "tool.returned"] * 2,
            "message.sent",
            "message.sent",
        ]
        assert len({event.id for event in events}) == len(events)


class TestEvents:
    def test_what_was_settled_in_one_frame_is_the_same_in_all_that_follow(self):
        settled: dict[str, Event] = {}
        for frame in frames(recording()):
            found = {event.id: event for event in read_events(decoded(*frame), {}, PLACE)}
            assert settled.items() <= found.items()
            settled = found
        assert len(settled) == 15

    def test_an_answer_is_settled_by_its_end_or_by_the_next_answer_not_by_a_question(self):
        said = answer("a", {"type": "text", "text": "hel"})
        assert read_events(decoded(said), {}, PLACE) == []
        assert read_events(decoded(said, user("u")), {"u": "p"}, PLACE) == []
        assert len(read_events(decoded(said, answer("b")), {}, PLACE)) == 1
        assert len(read_events(decoded({**said, "info": {**said["info"], **DONE}}), {}, PLACE)) == 1

    def test_a_question_is_settled_when_something_follows(self):
        assert read_events(decoded(user("u")), {}, PLACE) == []
        (event,) = read_events(decoded(user("u"), answer("a")), {}, PLACE)
        assert isinstance(event, MessageReceived)

    def test_what_the_agent_added_for_itself_is_nobody_s_word(self):
        question = user("u", "secret", synthetic=True)
        said = answer("a", {"type": "text", "text": "x", "ignored": True}, **DONE)
        thought = answer("b", {"type": "reasoning", "text": "hm"}, {"type": "step-start"}, **DONE)
        assert read_events(decoded(question, said, thought), {}, PLACE) == []

    def test_a_tool_is_called_when_its_arguments_are_whole(self):
        assert read_events(decoded(answer("a", tool("pending", input={}))), {}, PLACE) == []
        (event,) = read_events(decoded(answer("a", tool("running", input={"a": 1}))), {}, PLACE)
        assert isinstance(event, ToolCalled)
        assert (event.name, event.arguments) == ("bash", '{"a":1}')

    @pytest.mark.parametrize(
        ("time", "duration_ms"),
        [({}, None), ({"start": 5, "end": 12.5}, 7), ({"start": 9, "end": 3}, 0)],
    )
    def test_a_tool_lasts_from_its_start_to_its_end(self, time: Any, duration_ms: int | None):
        message = answer("a", tool("error", error="no", time=time))
        _, returned = read_events(decoded(message), {}, PLACE)
        assert isinstance(returned, ToolReturned)
        assert (returned.is_error, returned.result) == (True, "no")
        assert returned.duration_ms == duration_ms

    def test_a_file_is_a_reference_and_data_is_left_out(self):
        link = {"type": "file", "url": "https://x/1", "filename": "1", "mime": "text/plain"}
        blob = {"type": "file", "url": "data:text/plain;base64,aGk="}
        (event,) = read_events(decoded(answer("a", link, blob, **DONE)), {}, PLACE)
        assert isinstance(event, MessageSent)
        assert [each.url for each in event.attachments] == ["https://x/1"]

    @pytest.mark.parametrize("sign", ["x", "\0", "🧮"])
    def test_a_text_that_no_event_could_hold_is_cut_and_says_so(self, sign: str):
        (event,) = read_events(
            decoded(answer("a", {"type": "text", "text": sign * 5000}, **DONE)), {}, PLACE
        )
        assert isinstance(event, MessageSent)
        assert event.text.startswith(sign * 100)
        assert event.text.endswith("more characters)")
        assert len(json.dumps(event.text, ensure_ascii=False)) < 1100

    @pytest.mark.parametrize("ms", [-1, 1e300, None])
    def test_a_time_that_is_none_is_the_reader_s(self, ms: Any):
        said = answer("a", {"type": "text", "text": "x"}, time={"created": ms}, error="e")
        assert read_events(decoded(said), {}, PLACE)[0].occurred_at == 7

    def test_ids_fit_however_long_the_agent_s_are(self):
        assert event_id("s", "a", "called") == "agent:s:a:called"
        assert len(event_id("s" * 512, "a")) < 512
        assert event_id("s" * 512, "a") != event_id("s" * 512, "b")


class TestNew:
    def events(self, *names: str) -> list[Event]:
        return [MessageSent(conversation="c", id=name, text="") for name in names]

    def test_what_is_known_is_left_out(self):
        new = choose_new(self.events("a", "b", "c"), {"b"}, is_beginning_known=True)
        assert [event.id for event in new] == ["a", "c"]

    def test_what_comes_before_all_that_is_remembered_was_recorded_then(self):
        new = choose_new(self.events("a", "b", "c"), {"b"}, is_beginning_known=False)
        assert [event.id for event in new] == ["c"]
        new = choose_new(self.events("a", "b"), set(), is_beginning_known=False)
        assert [event.id for event in new] == ["a", "b"]


class TestPrompts:
    def test_a_mark_tells(self):
        marked = user("u", "changed", metadata={"eventlog_message": "p1"})
        assert match_prompts(decoded(marked), []) == {"u": "p1"}

    def test_without_marks_the_texts_do_in_order_each_once(self):
        messages = decoded(
            user("u1", "yes"), user("u2", "no"), user("u3", "yes"), user("u4", "yes")
        )
        prompts = [Prompt("p1", "yes"), Prompt("p2", "yes")]
        assert match_prompts(messages, prompts) == {"u1": "p1", "u3": "p2"}

    def test_what_was_said_elsewhere_is_no_prompt(self):
        assert match_prompts(decoded(user("u", "yes")), [Prompt("p", "yes")], {"u"}) == {}


class TestVerdicts:
    @pytest.mark.parametrize(
        ("messages", "status", "is_sure"),
        [
            ([], "running", True),
            ([user("u")], "running", True),
            ([answer("a")], "running", True),
            ([answer("a", tool("running"), **DONE)], "running", True),
            ([answer("a", **DONE)], "completed", True),
            ([answer("a", tool("completed"), **DONE)], "completed", True),
            ([answer("a", finish="stop", **DONE)], "completed", True),
            # Some agents go on after these.
            ([answer("a", tool("completed"), finish="stop", **DONE)], "completed", False),
            ([answer("a", tool("error"), finish="tool-calls", **DONE)], "completed", False),
            ([answer("a", finish="unknown", **DONE)], "completed", False),
            ([user("u"), answer("a", parentID="x", finish="stop", **DONE)], "completed", False),
            ([answer("a", error={"name": "E"}, **DONE)], "failed", False),
            # A tool that an agent left running when it was restarted is nobody's any more.
            ([answer("a", tool("running")), answer("b", **DONE)], "completed", True),
            ([answer("a", finish="stop", **DONE), user("u")], "running", True),
        ],
    )
    def test_the_last_message_tells(self, messages: Any, status: str, is_sure: bool):
        verdict = judge_session(decoded(*messages))
        assert (verdict.status, verdict.is_sure) == (status, is_sure)

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            ({"name": "APIError", "data": {"message": "over\nloaded"}}, "APIError: over loaded"),
            ({"name": "MessageAbortedError", "data": {}}, "MessageAbortedError"),
            ({"message": "no"}, "no"),
            ({}, "the agent failed"),
            ("plain", "plain"),
        ],
    )
    def test_an_error_is_named_on_one_line(self, error: Any, reason: str):
        assert judge_session(decoded(answer("a", error=error))).reason == reason

    def test_no_frame_of_the_recording_but_the_last_is_an_end(self):
        *before, last = frames(recording())
        assert judge_session(decoded(*last)).status == "completed"
        for frame in before:
            verdict = judge_session(decoded(*frame))
            assert verdict.status == "running" or not verdict.is_sure
