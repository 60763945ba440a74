"""The judge of runs finds what is wrong with them: each anomaly, planted in a clean history."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from tests.fault.handling_anomalies import anomalies
from tests.fault.handling_history import (
    NS_PER_MS,
    Attempt,
    History,
    Journal,
    Logged,
    Sent,
    Span,
    read_journal,
)

SENT = [
    Sent("a1", "a", 1, is_acknowledged=True, results=2),
    Sent("a2", "a", 2, is_acknowledged=True),
    Sent("a3", "a", 3, is_acknowledged=False, results=1),
    Sent("a4", "a", 4, is_acknowledged=True, is_hopeless=True),
    Sent("a5", "a", 5, is_acknowledged=True, echoes=1),
    Sent("b1", "b", 1, is_acknowledged=True, results=1),
    Sent("b2", "b", 2, is_acknowledged=False),
]
LOG = [
    Logged("entry", "a1", "a", 0, 1, at_ms=1000),
    Logged("entry", "a2", "a", 0, 2, at_ms=1000),
    Logged("entry", "a3", "a", 0, 3, at_ms=1000),
    Logged("entry", "a4", "a", 0, 4, at_ms=1000),
    Logged("entry", "a5", "a", 0, 5, at_ms=1000),
    Logged("result", "a1", "a", 0, 6, at_ms=2010, number=1),
    Logged("result", "a1", "a", 0, 7, at_ms=2010, number=2),
    Logged("result", "a3", "a", 0, 8, at_ms=4010, number=1),
    Logged("letter", "a4", "a", 0, 9, at_ms=6010, reason="RuntimeError"),
    Logged("entry", "b1", "b", 1, 1, at_ms=1000),
    Logged("result", "b1", "b", 1, 2, at_ms=2010, number=1),
    Logged("echo", "a5", "echo of a", 1, 3, at_ms=7000, number=1),
]


def attempt(process: str, key: str, begun_ms: int, ended_ms: int | None, end: Any) -> Attempt:
    ended_ns = None if ended_ms is None else ended_ms * NS_PER_MS
    return Attempt(process, key, begun_ms * NS_PER_MS, ended_ns, end)


ATTEMPTS = [
    attempt("p", "a1", 1900, 2000, "ok"),
    attempt("p", "b1", 1950, 2000, "ok"),
    attempt("p", "a2", 2020, 3000, "ok"),
    attempt("p", "a3", 3001, 3300, "error"),
    attempt("q", "a3", 3500, 4000, "ok"),
    attempt("q", "a4", 4020, 5000, "error"),
    attempt("q", "a4", 5020, 6000, "error"),
    attempt("q", "a5", 6020, 6900, "ok"),
]


def signs(from_ms: int, to_ms: int) -> list[int]:
    """Return signs of life without a gap."""
    return [ms * NS_PER_MS for ms in range(from_ms, to_ms + 1, 20)]


def journal(process: str, attempts: list[Attempt] | None = None, **fields: Any) -> Journal:
    own = [each for each in attempts or ATTEMPTS if each.process == process]
    return Journal(process, own, signs(1800, 7200), **fields)


CLEAN = History(SENT, LOG, [journal("p"), journal("q")])


def but(**changes: Any) -> History:
    """Return the clean history with something else about it."""
    return dataclasses.replace(CLEAN, **changes)


def with_attempts(*more: Attempt, without: tuple[str, ...] = (), **fields: Any) -> History:
    """Return the clean history with other attempts."""
    kept = [each for each in ATTEMPTS if each.key not in without]
    attempts = [*kept, *more]
    names = sorted({each.process for each in attempts} | {"p", "q"})
    return but(journals=[journal(name, attempts) for name in names], **fields)


def without(kind: str, key: str) -> list[Logged]:
    return [each for each in LOG if (each.kind, each.key) != (kind, key)]


def swapped(first: int, second: int, log: list[Logged] = LOG) -> list[Logged]:
    """Return the log with two of its events in each other's place."""
    changed = list(log)
    one, other = log[first], log[second]
    changed[first] = one._replace(sequence=other.sequence, at_ms=other.at_ms)
    changed[second] = other._replace(sequence=one.sequence, at_ms=one.at_ms)
    return changed


def found(history: History) -> set[str]:
    return {each.name for each in anomalies(history)}


def test_a_clean_history_is_clean():
    assert anomalies(CLEAN) == []


def test_what_was_not_acknowledged_may_be_in_the_log_or_not():
    assert found(but(log=without("entry", "b2"))) == set()
    assert "a3" in {each.key for each in LOG}


@pytest.mark.parametrize(
    ("history", "names"),
    [
        pytest.param(
            with_attempts(without=("b1",), log=[e for e in LOG if e.key != "b1"]),
            {"lost"},
            id="an acknowledged append is not in the log",
        ),
        pytest.param(
            but(unsettled={"a5"}), {"unfinished"}, id="an entry is never acknowledged by the group"
        ),
        pytest.param(
            but(leftovers=["a record"]), {"unfinished"}, id="something is kept of what is done"
        ),
        pytest.param(
            but(log=[*LOG, LOG[0]._replace(sequence=10)]),
            {"duplicated"},
            id="an entry stands in the log twice",
        ),
        pytest.param(
            but(log=[*LOG, LOG[10]._replace(sequence=4, at_ms=7000)]),
            {"duplicated"},
            id="a result stands in the log twice",
        ),
        pytest.param(
            but(log=[*LOG, LOG[8]._replace(sequence=10)]),
            {"duplicated"},
            id="two letters of one entry",
        ),
        pytest.param(
            but(log=[*LOG, Logged("letter", "b1", "b", 1, 4, 7000, reason="worker_died")]),
            {"duplicated", "parked_wrongly"},
            id="both handled and parked",
        ),
        pytest.param(
            but(log=[*LOG, Logged("result", "z9", "a", 0, 10, 7000, number=1)]),
            {"phantom"},
            id="a result of nothing that was sent",
        ),
        pytest.param(
            but(log=[*LOG, Logged("result", "a4", "a", 0, 9, 6005, number=1)]),
            {"phantom", "duplicated"},
            id="a result of an entry that was never handled well",
        ),
        pytest.param(
            but(log=[*LOG, Logged("result", "b1", "b", 1, 4, 7000, number=2)]),
            {"phantom"},
            id="a result more than the handler makes",
        ),
        pytest.param(
            with_attempts(without=("a4",)), {"phantom"}, id="parked without ever being tried"
        ),
        pytest.param(
            with_attempts(
                attempt("p", "b1", 1950, 2000, "error"),
                without=("b1",),
                log=[
                    *without("result", "b1"),
                    Logged("letter", "b1", "b", 1, 4, 2010, reason="log_unavailable"),
                ],
            ),
            {"parked_wrongly"},
            id="parked though it could be handled",
        ),
        pytest.param(
            with_attempts(attempt("p", "a2", 2020, 3000, "error"), without=("a2",)),
            {"acknowledged_unhandled", "retried_out_of_order"},
            id="done with, yet no attempt ended well",
        ),
        pytest.param(
            with_attempts(without=("a5",), log=without("echo", "a5")),
            {"acknowledged_unhandled"},
            id="done with, yet never tried",
        ),
        pytest.param(
            but(log=without("result", "b1")), {"handled_unrecorded"}, id="a result is missing"
        ),
        pytest.param(
            but(log=without("echo", "a5")), {"handled_unrecorded"}, id="an echo is missing"
        ),
        pytest.param(
            but(sent=[SENT[0]._replace(number=2), SENT[1]._replace(number=1), *SENT[2:]]),
            {"reordered"},
            id="appended in another order than sent",
        ),
        pytest.param(but(log=swapped(6, 7)), {"reordered"}, id="results in another order"),
        pytest.param(
            with_attempts(
                attempt("p", "a2", 1850, 1890, "ok"),
                without=("a2",),
            ),
            {"reordered", "retried_out_of_order"},
            id="handled in another order",
        ),
        pytest.param(
            with_attempts(attempt("q", "a5", 5005, 5015, "ok"), without=("a5",)),
            {"retried_out_of_order"},
            id="begun while the one before waited for another attempt",
        ),
        pytest.param(
            with_attempts(attempt("p", "a2", 2005, 3000, "ok"), without=("a2",)),
            {"retried_out_of_order"},
            id="begun before the results of the one before were written",
        ),
        pytest.param(
            with_attempts(attempt("r", "a2", 2900, 3100, "ok")),
            {"overlapping"},
            id="two live owners at one entry",
        ),
        pytest.param(
            with_attempts(attempt("p", "a1", 1950, 1990, "called off")),
            {"overlapping"},
            id="one process at one entry twice at once",
        ),
    ],
)
def test_an_anomaly_is_found(history: History, names: set[str]):
    assert found(history) == names, anomalies(history)


# --- what may be ----------------------------------------------------------------------------------

ZOMBIE = attempt("r", "a2", 2900, 3100, "ok")
"""Overlaps with the attempts of p at a2 and at a3."""


def with_zombie(signs_ns: list[int], **fields: Any) -> History:
    has_faulty_link = bool(fields.pop("has_faulty_link", False))
    zombie = Journal("r", [ZOMBIE], signs_ns, has_faulty_link)
    return but(journals=[journal("p"), journal("q"), zombie], **fields)


def test_who_was_paused_may_overlap_with_its_successor_until_it_knows():
    paused = [*signs(1800, 2000), *signs(2800, 7200)]
    assert found(with_zombie(paused)) == set()
    assert found(with_zombie(paused, grace_ns=50 * NS_PER_MS)) == {"overlapping"}


def test_a_short_silence_is_no_pause():
    assert found(with_zombie([*signs(1800, 2700), *signs(2880, 7200)])) == {"overlapping"}


def test_while_the_server_was_away_owners_may_overlap():
    outage = Span(2500 * NS_PER_MS, 2600 * NS_PER_MS)
    assert found(with_zombie(signs(1800, 7200), outages=[outage])) == set()


def test_who_has_a_faulty_link_may_overlap_with_others_but_never_with_itself():
    assert found(with_zombie(signs(1800, 7200), has_faulty_link=True)) == set()
    twice = [attempt("p", "b1", 1950, 2000, "ok"), attempt("p", "b1", 1960, 1970, "called off")]
    kept = [each for each in ATTEMPTS if each.key != "b1"]
    journals = [journal("p", [*kept, *twice], has_faulty_link=True), journal("q")]
    assert found(but(journals=journals)) == {"overlapping"}


def test_what_a_killed_process_ran_ends_with_it():
    killed = attempt("r", "a2", 2010, None, None)
    dead = Journal("r", [killed], [*signs(1800, 2000), 2015 * NS_PER_MS])
    alive = dead._replace(signs_ns=signs(1800, 2500))
    assert found(but(journals=[journal("p"), journal("q"), dead])) == set()
    assert found(but(journals=[journal("p"), journal("q"), alive])) == {"overlapping"}


def test_after_a_crash_entries_may_be_handled_again_in_their_order():
    again = [attempt("q", "a2", 3310, 3320, "ok"), attempt("q", "a3", 3330, 3340, "error")]
    assert found(with_attempts(*again)) == set()


def test_a_journal_is_read_up_to_its_last_whole_line():
    records = [
        {"what": "alive", "at_ns": 1},
        {"what": "begin", "at_ns": 2, "key": "a1", "attempt": 1},
        {"what": "begin", "at_ns": 3, "key": "b1", "attempt": 2},
        {"what": "ok", "at_ns": 4, "attempt": 1},
        {"what": "error", "at_ns": 5, "attempt": 2},
    ]
    lines = [json.dumps(record) + "\n" for record in records]
    lines[-1] = lines[-1][:10]
    read = read_journal("p", lines)
    assert read.attempts == [Attempt("p", "a1", 2, 4, "ok"), Attempt("p", "b1", 3)]
    assert read.signs_ns == [1, 2, 3, 4]
