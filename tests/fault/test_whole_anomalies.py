"""Each rule of the fault run finds what it is for, planted in a clean history, and nothing else does."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.fault.anomaly import Anomaly
from tests.fault.whole.anomalies import RULES, anomalies
from tests.fault.whole.history import (
    Attempt,
    History,
    Logged,
    Look,
    Need,
    Place,
    Position,
    Sight,
    Write,
    read,
)


def write(key: str, number: int, outcome: Any = "acknowledged", sequence: int = 0) -> Write:
    place = Place(0, sequence) if sequence else None
    return Write(key, "a", number, outcome, place, line=f"p:{number} {key}")


def logged(sequence: int, key: str, kind: Any = "write", *, is_queued: bool = False) -> Logged:
    return Logged(Place(0, sequence), kind, key, "a", f"{kind} {key}", is_queued)


def sight(sequence: int, key: str, at_ns: int, kind: str = "write") -> Sight:
    return Sight("watching", Place(0, sequence), f"{kind} {key}", "a", at_ns, f"w:{at_ns} {key}")


CLEAN = History(
    writes=[
        write("a1", 1, sequence=1),
        write("a2", 2, "indeterminate"),
        write("a2", 2, sequence=2),
        write("a3", 3, "indeterminate"),
        write("a4", 4),
        write("a5", 5, "refused"),
    ],
    log=[
        logged(1, "a1"),
        logged(2, "a2", is_queued=True),
        logged(3, "a4"),
        logged(4, "a2", "sent"),
    ],
    heads={0: 4, 1: 0},
    sights=[
        sight(1, "a1", 10),
        sight(2, "a2", 20),
        sight(1, "a1", 25),
        sight(3, "a4", 30),
        sight(4, "a2", 40, "sent"),
    ],
    attempts=[Attempt("a2", "a", 21, False, "s:1"), Attempt("a2", "a", 22, True, "s:2")],
    looks=[Look("a1", True)],
    positions=[Position("head 0", 1, 5), Position("head 0", 4, 50), Position("head 1", 0, 50)],
    needs=[Need(0, "watching", 3, 3), Need(0, "delivery", 5, 3)],
    whole_readers={"watching"},
)


def changed(**fields: Any) -> History:
    return dataclasses.replace(CLEAN, **fields)


def without(items: Any, *places: int) -> list[Any]:
    return [item for n, item in enumerate(items) if n not in places]


def found(history: History) -> list[Anomaly]:
    return anomalies(history)


PLANTED: dict[str, tuple[str, History, str]] = {
    "acknowledged and not there": (
        "lost write",
        changed(writes=[*CLEAN.writes, write("a6", 6)]),
        "a6 was acknowledged and is nowhere",
    ),
    "acknowledged elsewhere": (
        "lost write",
        changed(writes=[write("a1", 1, sequence=3), *CLEAN.writes[1:]]),
        "a1 is not where",
    ),
    "a write twice": (
        "duplicate",
        changed(
            log=[*CLEAN.log, logged(5, "a1")],
            heads={0: 5},
            sights=[*CLEAN.sights, sight(5, "a1", 50)],
        ),
        "write of a1 is there 2 times",
    ),
    "a place twice": (
        "duplicate",
        changed(log=[*CLEAN.log, CLEAN.log[0]]),
        "Place(partition=0, sequence=1) is there 2 times",
    ),
    "sent twice": (
        "duplicate",
        changed(
            log=[*CLEAN.log, logged(5, "a2", "sent")],
            heads={0: 5},
            sights=[*CLEAN.sights, sight(5, "a2", 50, "sent")],
        ),
        "sent of a2 is there 2 times",
    ),
    "logged in another order": (
        "reorder",
        changed(writes=[write("a1", 9, sequence=1), *CLEAN.writes[1:]]),
        "in the log",
    ),
    "handled in another order": (
        "reorder",
        changed(sights=[*CLEAN.sights[1:3], *CLEAN.sights[3:]]),
        "in what watching was given",
    ),
    "sent in another order": (
        "reorder",
        changed(attempts=[*CLEAN.attempts, Attempt("a1", "a", 99, True, "s:3")]),
        "in deliveries",
    ),
    "a sequence is missing": (
        "gap",
        changed(
            writes=[w for w in CLEAN.writes if w.key != "a4"],
            log=without(CLEAN.log, 2),
            sights=[s for s in CLEAN.sights if s.place.sequence != 3],
        ),
        "partition 0 lacks 1 of 4, 3 first",
    ),
    "the head is beyond the last": ("gap", changed(heads={0: 5}), "5 first"),
    "never handled": ("unseen", changed(sights=CLEAN.sights[:-1]), "was never given a2"),
    "never sent": (
        "unseen",
        changed(
            log=[*CLEAN.log, Logged(Place(1, 1), "write", "a3", "b", "write a3", is_queued=True)],
            heads={0: 4, 1: 1},
            sights=[*CLEAN.sights, Sight("watching", Place(1, 1), "write a3", "b", 60)],
        ),
        "a3 was queued and neither sent nor given up",
    ),
    "not found": (
        "unseen",
        changed(looks=[Look("a1", False, "b:7")]),
        "a1 was acknowledged and then",
    ),
    "nobody wrote it": (
        "phantom",
        changed(
            log=[*CLEAN.log, logged(5, "z")],
            heads={0: 5},
            sights=[*CLEAN.sights, sight(5, "z", 50)],
        ),
        "z was never offered",
    ),
    "it was refused": (
        "phantom",
        changed(
            log=[*CLEAN.log, logged(5, "a5")],
            heads={0: 5},
            sights=[*CLEAN.sights, sight(5, "a5", 50)],
        ),
        "a5 was refused",
    ),
    "recorded as sent and never tried": (
        "phantom",
        changed(attempts=CLEAN.attempts[:1]),
        "never taken",
    ),
    "handled and not there": (
        "phantom",
        changed(sights=[*CLEAN.sights, sight(9, "a9", 60)]),
        "write a9, which is not in the log",
    ),
    "a position goes back": (
        "non-monotonic position",
        changed(positions=[*CLEAN.positions, Position("head 0", 3, 60, "watch:9")]),
        "head 0 went back from 4 to 3",
    ),
    "trimmed too much": (
        "trimmed-but-needed",
        changed(needs=[*CLEAN.needs, Need(0, "delivery", 3, 4, "watch:9")]),
        "delivery needs 3 of partition 0, which begins at 4",
    ),
}


def test_nothing_is_found_in_a_clean_history() -> None:
    assert found(CLEAN) == []


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_anomaly_is_found_and_no_other(name: str) -> None:
    rule, history, about = PLANTED[name]
    (anomaly,) = found(history)
    assert anomaly.name == rule
    assert about in anomaly.about


def test_every_rule_has_been_shown_to_fire() -> None:
    assert {rule for rule, _, _ in PLANTED.values()} == RULES.keys()


def test_what_journals_say_is_put_together_and_a_cut_line_is_left_out() -> None:
    lines = [
        '{"what": "offer", "at_ns": 1, "writes": [["k1", "c", 1], ["k2", "c", 2]]}\n',
        '{"what": "answer", "at_ns": 2, "outcome": "indeterminate", "keys": ["k1", "k2"],'
        ' "error": "log_unavailable"}\n',
        '{"what": "offer", "at_ns": 3, "writes": [["k1", "c", 1]]}\n',
        '{"what": "answer", "at_ns": 4, "outcome": "acknowledged", "keys": ["k1"],'
        ' "places": [[0, 7]]}\n',
        '{"what": "offer", "at_ns": 5, "wri',
        "\n",
        '{"what": "trimmed", "at_ns": 6, "count": 1}\n',
    ]
    recorded = read([("p.jsonl", lines)])
    assert [(each.key, each.outcome, each.place) for each in recorded.writes] == [
        ("k1", "acknowledged", Place(0, 7)),
        ("k2", "indeterminate", None),
    ]
    assert recorded.writes[0].line.startswith("p.jsonl:3 ")
    assert recorded.errors == {"log_unavailable": 1}
