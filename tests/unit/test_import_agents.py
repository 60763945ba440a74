from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.importers import claude_code, openhands, tau_bench
from bridge.importers.items import Imported, Item, Rejected, Unit
from bridge.importers.records import BadRecord, as_text, moment_us
from bridge.importers.source import Source
from eventlog.codec import Codec
from eventlog.event import Event
from eventlog.vocabulary import (
    BridgeEvent,
    MessageReceived,
    MessageSent,
    SessionStarted,
    SessionTransitioned,
    ToolCalled,
    ToolReturned,
)

ROOT = Path(__file__).parent.parent
OPENHANDS = ROOT.parent / "examples" / "data" / "agent-openhands" / "output.jsonl"
CLAUDE = ROOT / "data" / "agent-claude-code"
TAU = ROOT / "data" / "agent-tau-bench" / "two-dialogues.json"

Parser = Callable[[Source], Iterator[Item]]


class Parsed:
    """All items of a file, in handy pieces."""

    def __init__(self, parser: Parser, path: Path) -> None:
        items = list(parser(Source(path)))
        self.units = [i for i in items if isinstance(i, Unit)]
        self.records = [i for i in items if isinstance(i, Imported)]
        self.rejected = [i for i in items if isinstance(i, Rejected)]
        self.events = [event for record in self.records for event in record.events]
        self.counts = Counter(kind for record in self.records for kind in record.kinds)

    def of(self, event_type: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, event_type)]


ALL = [
    (openhands.parse, OPENHANDS),
    (claude_code.parse, CLAUDE / "short.jsonl"),
    (claude_code.parse, CLAUDE / "subagents" / "agent-acompact-946d2b.jsonl"),
    (tau_bench.parse, TAU),
]


@pytest.mark.parametrize(("parser", "path"), ALL)
def test_events_are_fit_for_the_log_and_named_for_ever(parser, path):
    first, again = Parsed(parser, path), Parsed(parser, path)
    assert first.events == again.events
    ids = Counter(event.id for event in first.events)
    assert ids.most_common(1)[0][1] == 1
    codec = Codec()
    for event in first.events:
        assert codec.decode(codec.encode(event)) == event


@pytest.mark.parametrize(("parser", "path"), ALL)
def test_a_session_has_one_conversation(parser, path):
    pairs = {(event.session, event.conversation) for event in Parsed(parser, path).events}
    assert len(pairs) == len({session for session, _ in pairs})


@pytest.mark.parametrize(("parser", "path"), ALL)
def test_positions_grow_within_a_unit(parser, path):
    last = -1
    for item in parser(Source(path)):
        if isinstance(item, Unit):
            last = -1
        else:
            assert item.position > last
            last = item.position


@pytest.mark.parametrize(("parser", "path"), ALL)
def test_every_tool_answer_follows_its_call(parser, path):
    called: set[tuple[str | None, str]] = set()
    for event in Parsed(parser, path).events:
        if isinstance(event, ToolCalled):
            assert (event.session, event.call) not in called
            called.add((event.session, event.call))
        elif isinstance(event, ToolReturned):
            assert (event.session, event.call) in called


def test_openhands_sessions_end_as_the_source_says():
    parsed = Parsed(openhands.parse, OPENHANDS)
    assert [unit.label for unit in parsed.units] == [
        f"ponylang__ponyc-{n}" for n in (4595, 4593, 4588)
    ]
    ends = parsed.of(SessionTransitioned)
    assert [end.to_status for end in ends] == ["completed", "completed", "failed"]
    assert ends[2].reason.startswith("RuntimeError: Agent reached maximum iteration")
    start = parsed.of(SessionStarted)[0]
    assert (start.agent, start.project) == ("CodeActAgent", "ponylang/ponyc")
    assert start.occurred_at == moment_us("2025-04-30T16:32:54.707474Z")


def test_openhands_counts_and_types():
    parsed = Parsed(openhands.parse, OPENHANDS)
    assert parsed.counts["events"] == 49 + 70 + 103
    assert parsed.counts["by.action:run"] == parsed.counts["by.observation:run"] == 13 + 12 + 24
    assert len(parsed.of(MessageReceived)) == 3
    assert [m.message_type for m in parsed.of(MessageSent)] == ["response", "response"]
    ran = next(event for event in parsed.of(ToolReturned) if event.name == "run")
    assert ran.duration_ms == 619
    assert any(event.is_error for event in parsed.of(ToolReturned))
    assert {event.event_type for event in parsed.of(BridgeEvent)} == {
        "openhands.system",
        "openhands.recall",
        "openhands.error",
    }


def test_openhands_bad_lines_and_bad_steps_are_told_apart(tmp_path):
    good = json.loads(OPENHANDS.read_text(encoding="utf-8").splitlines()[0])
    good["history"] = good["history"][:3]
    good["history"][1] = {"id": "one"}
    path = tmp_path / "output.jsonl"
    path.write_text(
        f'{{"instance_id": 7}}\n{json.dumps(good)}\n{{"instance_id": "x", "history": []}}\n'
    )
    parsed = Parsed(openhands.parse, path)
    assert [(r.line, r.reason.split(" - ")[0]) for r in parsed.rejected] == [
        (1, "Expected `str`, got `int`"),
        (2, "step 2 of the history: Expected `int`, got `str`"),
        (3, "a session without history"),
    ]
    assert parsed.counts["events"] == 2


def test_two_runs_of_one_instance_are_two_sessions(tmp_path):
    record = json.loads(OPENHANDS.read_text(encoding="utf-8").splitlines()[0])
    record["history"] = record["history"][:1]
    again = json.loads(json.dumps(record).replace("2025-04-30T16", "2025-05-01T09"))
    path = tmp_path / "output.jsonl"
    path.write_text(f"{json.dumps(record)}\n{json.dumps(again)}\n")
    assert len({unit.names for unit in Parsed(openhands.parse, path).units}) == 2


def test_claude_code_blocks_become_events():
    parsed = Parsed(claude_code.parse, CLAUDE / "short.jsonl")
    assert dict(parsed.counts) == {
        "records.file-history-snapshot": 1,
        "records.no_timestamp": 1,
        "records.progress": 3,
        "records.user": 4,
        "records.assistant": 5,
        "records.system": 2,
        "text_blocks": 3,
        "tool_use": 2,
        "tool_result": 2,
        "tool_error": 2,
    }
    assert all(event.is_error for event in parsed.of(ToolReturned))
    assert json.loads(parsed.of(ToolCalled)[0].arguments)["command"].startswith("mix phx.server")
    assert parsed.of(MessageReceived)[0].text == "mix phx.server doesnt seem to start"
    assert [e.conversation for e in parsed.events[:1]] == [
        "claude-code:55604662-cf2a-4331-851a-ec234028f8ca"
    ]


def test_claude_code_records_can_be_counted_from_the_events():
    parsed = Parsed(claude_code.parse, CLAUDE / "short.jsonl")
    records = {event.correlation_id for event in parsed.events if event.correlation_id}
    kinds = Counter(str(record).split(":")[0] for record in records)
    assert kinds == {
        "file-history-snapshot": 1,
        "progress": 3,
        "user": 4,
        "assistant": 5,
        "system": 2,
    }


def test_a_claude_code_subagent_is_a_session_of_its_own():
    parsed = Parsed(claude_code.parse, CLAUDE / "subagents" / "agent-acompact-946d2b.jsonl")
    start = parsed.of(SessionStarted)[0]
    assert start.session == "claude-code:ae4a77f8-aedd-4bc1-888f-c94edc91af04/acompact-946d2b"
    assert start.metadata["parent_session"] == "claude-code:ae4a77f8-aedd-4bc1-888f-c94edc91af04"


def claude_line(uuid: str, second: int, content: Any, kind: str = "user") -> str:
    return json.dumps(
        {
            "type": kind,
            "uuid": uuid,
            "sessionId": "s",
            "timestamp": f"2026-02-10T21:00:{second:02}.000Z",
            "message": {"role": kind, "content": content},
        }
    )


def test_claude_code_keeps_file_order_and_each_record_its_time(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text("\n".join(claude_line(f"u{n}", n, "x") for n in (1, 5, 3, 4, 2)))
    parsed = Parsed(claude_code.parse, path)
    assert parsed.counts["order_inversions"] == 2
    seconds = [event.occurred_at // 1_000_000 % 60 for event in parsed.of(MessageReceived)]
    assert seconds == [1, 5, 3, 4, 2]


def test_a_claude_code_record_of_several_blocks_gives_an_event_each(tmp_path):
    blocks = [
        {"type": "text", "text": "look"},
        {"type": "image", "source": {"data": "…"}},
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "done"}]},
    ]
    path = tmp_path / "s.jsonl"
    path.write_text(claude_line("u", 1, blocks))
    parsed = Parsed(claude_code.parse, path)
    assert [event.type for event in parsed.events] == [
        "session.started",
        "message.received",
        "bridge.event",
        "tool.returned",
    ]
    assert parsed.of(ToolReturned)[0].result == "done"
    assert len({event.correlation_id for event in parsed.events[1:]}) == 1


@pytest.mark.parametrize("content", [None, [], ""])
def test_a_claude_code_message_without_content_is_still_an_event(tmp_path, content):
    path = tmp_path / "s.jsonl"
    path.write_text(claude_line("u", 1, content, kind="assistant"))
    parsed = Parsed(claude_code.parse, path)
    assert [event.event_type for event in parsed.of(BridgeEvent)] == ["claude-code.assistant"]


def test_bad_claude_code_lines_are_rejected(tmp_path):
    path = tmp_path / "s.jsonl"
    lines = [
        claude_line("a", 1, "x"),
        "{",
        '{"type": 3}',
        claude_line("b", 2, 17),
        claude_line("c", 3, "y"),
    ]
    path.write_text("\n".join(lines))
    parsed = Parsed(claude_code.parse, path)
    assert [r.line for r in parsed.rejected] == [2, 3, 4]
    assert [m.text for m in parsed.of(MessageReceived)] == ["x", "y"]


def test_tau_bench_counts_and_outcomes():
    parsed = Parsed(tau_bench.parse, TAU)
    assert parsed.counts["sessions"] == 2
    assert parsed.counts["reward1"] == 1
    assert parsed.counts["tool_calls"] == parsed.counts["roles.tool"] == 11
    assert parsed.counts["tool_errors"] == sum(e.is_error for e in parsed.of(ToolReturned)) == 1
    assert parsed.counts["null_content"] == 11
    ends = parsed.of(SessionTransitioned)
    assert [(end.to_status, end.reason) for end in ends] == [
        ("completed", "reward 1"),
        ("failed", "reward 0"),
    ]


def test_tau_bench_times_are_made_up_in_order():
    parsed = Parsed(tau_bench.parse, TAU)
    for name in {event.session for event in parsed.events}:
        times = [event.occurred_at for event in parsed.events if event.session == name]
        assert times == sorted(times)
    assert parsed.events[0].occurred_at == moment_us("2024-05-15T20:12:00Z") + 3 * 86_400_000_000


def test_a_damaged_tau_bench_file_is_rejected_whole(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('[{"task_id": 1,')
    assert [r.line for r in Parsed(tau_bench.parse, path).rejected] == [1]


def test_a_damaged_tau_bench_dialogue_leaves_the_others(tmp_path):
    dialogues = json.loads(TAU.read_text(encoding="utf-8"))
    dialogues.insert(1, {"task_id": "one"})
    dialogues[2]["traj"][1] = {"content": "no role"}
    path = tmp_path / "x.json"
    path.write_text(json.dumps(dialogues))
    parsed = Parsed(tau_bench.parse, path)
    assert [r.reason.split(":")[0] for r in parsed.rejected] == [
        "dialogue 2",
        "dialogue 3, message 2",
    ]
    assert parsed.counts["sessions"] == 2


def test_a_moment_without_a_zone_is_utc():
    assert moment_us("1970-01-01T00:00:01.5") == 1_500_000
    assert moment_us("1970-01-01T01:00:00+01:00") == 0
    with pytest.raises(BadRecord):
        moment_us("yesterday")


def test_content_as_text():
    assert as_text("x") == "x"
    assert as_text([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]) == "a\nb"
    assert as_text([{"type": "image"}]) == '[{"type":"image"}]'
