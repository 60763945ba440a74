from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.importers import neutral
from bridge.importers.items import Imported, Rejected, Unit
from bridge.importers.neutral import RecentIds
from bridge.importers.source import Source


def line(number: int, kind: str = "msg.in", ts: int = 1_735_689_600_000, **keys: Any) -> str:
    given = {"text": "hi", "sender": "u1"} if kind.startswith("msg") else {}
    return json.dumps({"id": f"e{number}", "ts": ts, "kind": kind, "chat": "c1", **given, **keys})


def read(folder: Path, *lines: str | bytes) -> list[Imported | Rejected]:
    path = folder / "events.jsonl"
    path.write_bytes(b"".join((x.encode() if isinstance(x, str) else x) + b"\n" for x in lines))
    return [i for i in neutral.parse(Source(path)) if isinstance(i, Imported | Rejected)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (line(1), {"type": "message.received", "text": "hi", "sender": "u1"}),
        (line(1, "msg.out", session="s"), {"type": "message.sent", "session": "s"}),
        (line(1, "session.pending", session="s"), {"type": "session.started", "status": "pending"}),
        (
            line(1, "session.running", session="s"),
            {"type": "session.transitioned", "to_status": "active", "reason": "running"},
        ),
        (line(1, "session.active", session="s"), {"to_status": "active", "reason": None}),
        (line(1, "session.dormant", session="s"), {"to_status": "dormant"}),
        (line(1, "session.completed", session="s"), {"to_status": "completed"}),
        (line(1, "session.failed", session="s"), {"to_status": "failed"}),
        (
            line(1, "tool.call", session="s", call="t", name="grep", args="{}"),
            {"type": "tool.called", "call": "t", "name": "grep", "arguments": "{}"},
        ),
        (
            line(1, "tool.result", session="s", call="t", name="grep", error=True, result="no"),
            {"type": "tool.returned", "is_error": True, "result": "no"},
        ),
        (
            line(
                1,
                "delivery.failed",
                ref="m1",
                reason="expired",
                code="4.4.7",
                transient=True,
                attempt=2,
            ),
            {"type": "delivery.failed", "delivery": "m1", "permanent": False, "attempt": 2},
        ),
    ],
)
def test_kinds(tmp_path, text, expected):
    [item] = read(tmp_path, text)
    assert isinstance(item, Imported)
    [event] = item.events
    assert {key: getattr(event, key) for key in expected} == expected
    assert (event.id, event.conversation) == ("e1", "c1")
    assert event.occurred_at == 1_735_689_600_000_000
    assert item.kinds == (json.loads(text)["kind"],)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (line(2, "msg.telepathy"), "unknown kind 'msg.telepathy'"),
        ('{"id": "e2"', "Input data was truncated"),
        ('{"id": "e2", "ts": 1, "kind": "msg.in"}', "Object missing required field `chat`"),
        (line(2, text=None), "msg.in without 'text'"),
        (line(2, "session.failed"), "session.failed without 'session'"),
        (line(2, ts="noon"), "Expected `int`, got `str`"),
        (line(2).encode().replace(b"hi", b"\xff"), "not UTF-8 text"),
    ],
)
def test_bad_lines(tmp_path, bad, reason):
    first, rejected, last = read(tmp_path, line(1), bad, line(3))
    assert isinstance(first, Imported)
    assert isinstance(rejected, Rejected)
    assert isinstance(last, Imported)
    assert (rejected.line, rejected.reason.split(" - ")[0]) == (2, reason)


def test_a_redelivered_line_is_a_duplicate(tmp_path):
    items = read(tmp_path, line(1), line(2), line(1), line(3))
    assert [i.kinds for i in items if isinstance(i, Imported)][2] == ("duplicates",)
    assert [len(i.events) for i in items if isinstance(i, Imported)] == [1, 1, 0, 1]


def test_compressed_lines_read_the_same(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(f"{line(1)}\n\n{line(2)}\n".encode()))
    (tmp_path / "b.jsonl").write_text(f"{line(1)}\n\n{line(2)}\n")
    packed, plain = (list(neutral.parse(Source(tmp_path / n))) for n in ("a.jsonl.gz", "b.jsonl"))
    assert packed == plain
    assert [i.line for i in packed if isinstance(i, Imported)] == [1, 3]


def test_the_name_survives_a_correction_of_the_first_line(tmp_path):
    def names(*lines: str) -> tuple[str, ...]:
        path = tmp_path / "x.jsonl"
        path.write_text("\n".join(lines))
        [unit] = [i for i in neutral.parse(Source(path)) if isinstance(i, Unit)]
        return unit.names

    assert names("{", line(2), line(3))[0] in names(line(1), line(2), line(3))


arrivals = st.lists(
    st.tuples(st.integers(0, 20_000), st.integers(0, 60_000), st.booleans()), max_size=80
)


@given(arrivals)
def test_a_repeat_within_the_window_is_always_seen(events):
    """Events at growing times, some sent again up to a minute later: exactly those are dropped."""
    seen = RecentIds()
    now_ms, lines = 0, []
    for number, (gap_ms, delay_ms, is_repeated) in enumerate(events):
        now_ms += gap_ms
        lines.append((now_ms, number, now_ms))
        if is_repeated:
            lines.append((now_ms + delay_ms, number, now_ms))
    lines.sort(key=lambda entry: entry[0])
    counts = Counter(seen.seen(str(number), ts_ms) for _, number, ts_ms in lines)
    assert counts[False] == len(events)


def test_memory_is_bounded_whatever_the_rate():
    seen = RecentIds(capacity=10)
    for number in range(1000):
        seen.seen(str(number), 0)
    assert len(seen) <= 20
