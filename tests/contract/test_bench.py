"""The benchmarks run: a part that nobody runs for a month must not have broken meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench import query
from bench.__main__ import PARTS, main
from bench.peers import contest
from bench.peers.peer import Kind
from bench.row import Row, cost_row, row_of
from bench.table import table

CHEAP = ("append", "project", "handle", "memory", "start")
EVENTS = 200

NEUTRAL: list[dict[str, Any]] = [
    {"id": f"{chat}-{n}", "ts": 1_735_689_600_000 + 1000 * n, "chat": f"chat-{chat}", **event}
    for chat in range(4)
    for n, event in enumerate(
        (
            {"kind": "session.pending", "session": f"s-{chat}"},
            {"kind": "msg.in", "session": f"s-{chat}", "sender": "ann", "text": "anyone?"},
            # An answer that overtook its call, and one that nobody called for.
            {"kind": "tool.result", "session": f"s-{chat}", "call": "1", "name": "find"},
            {"kind": "tool.call", "session": f"s-{chat}", "call": "1", "name": "find"},
            {"kind": "tool.result", "session": f"s-{chat}", "call": "1", "name": "find"},
            {"kind": "msg.out", "session": f"s-{chat}", "text": "yes"},
            {"kind": "delivery.failed", "ref": f"{chat}-5", "reason": "userunknown"},
        )
    )
]
"""Lines as `eventlog import` takes them; what will never arrive is parked on the way."""


def test_cheap_parts_give_rows_with_what_they_were_measured_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.json"
    main(["--events", str(EVENTS), "--json", str(file), *CHEAP])
    found = msgspec.json.decode(file.read_bytes())
    assert found["machine"]["cores"] >= 1
    assert found["versions"]["redis"]
    assert found["method"]
    names = {row["name"].split(",")[0] for row in found["rows"]}
    assert names >= {"append", "project", "handle", "memory", "start"}
    assert all(row["ratio"] > 0 for row in found["rows"])
    printed = capsys.readouterr().out
    assert all(row["name"] in printed for row in found["rows"])


def test_peers_are_measured_and_who_is_absent_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    rows = contest.run(100, ["redis_py", "json_lines", "no_such_peer"])
    assert {row.limit_name.split(":")[0] for row in rows} == {"redis-py", "JSON lines, flock"}
    assert {row.name.split(":")[0] for row in rows} == set(Kind)
    assert "without no_such_peer" in capsys.readouterr().err


def test_reports_are_asked_of_a_file_and_agree_with_a_plain_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "TAIL_EVENTS", EVENTS)
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"\n".join(map(msgspec.json.encode, NEUTRAL)))
    names = [row.name for row in query.run(file)]
    assert "report dead-letters" in names
    assert "reports, geometric mean" in names


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["append"], "--from is for archive and query"),
        (["--events", "10", "query"], "leave --events and --quick out"),
        (["--quick", "archive"], "leave --events and --quick out"),
        (["query"], "is no file or folder"),
    ],
)
def test_what_cannot_be_taken_from_a_file_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    with pytest.raises(SystemExit):
        main(["--from", str(tmp_path / "none.jsonl"), *words])
    assert said in capsys.readouterr().err


def test_every_part_has_a_quick_size() -> None:
    assert all(part.quick_event_count < part.event_count for part in PARTS.values())


def test_a_row_is_the_ratio_of_medians_with_the_rounds_spread() -> None:
    row = row_of("ours", [10, 30, 20], "theirs", [10, 10, 20], 2.5)
    assert (row.ratio, row.spread, row.is_met) == (2.0, (1.0, 3.0), False)
    cost = cost_row("ours", [2.0, 4.0], "at most", [4.0, 4.0], 1.0)
    assert (cost.spread, cost.is_met) == ((0.5, 1.0), True)
    assert row_of("ours", [1], "theirs", [1]).spread is None
    assert "≥ 2.50 !" in table([row])
    assert table([]).startswith("what")
    assert Row("a", 1, "b", 1, 1, None).is_met
