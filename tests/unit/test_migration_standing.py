"""Where an imported session is brought to: as far as its source says, and no further."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.importers.migration.records import SessionRecord
from bridge.importers.migration.standing import (
    Standing,
    current_sessions,
    map_current,
    settle,
    standing_of,
)
from eventlog.session import SessionStatus
from projections.views.conversations import Conversation
from projections.views.sessions import Session


def source(status: SessionStatus = "active", number: int = 1, **fields: Any) -> Standing:
    given = SessionRecord("s1", "telegram:1", status, 10, 50, 60, None, True, None)
    return Standing(given._replace(**fields), f"db:{number}", number)


def told(found: Standing, known: Session | None) -> list[tuple[str, str, int]]:
    change = settle(found, known)
    events = change.events if change else []
    return [(e.type, getattr(e, "to_status", ""), e.occurred_at) for e in events]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("pending", []),
        ("active", [("session.touched", "", 50)]),
        ("dormant", [("session.touched", "", 50), ("session.transitioned", "dormant", 50)]),
        ("completed", [("session.transitioned", "completed", 60)]),
        ("failed", [("session.transitioned", "failed", 60)]),
    ],
)
def test_from_its_start_to_each_status(status, expected):
    begun = source(status)
    assert told(begun, begun.as_started) == expected


def test_messages_imported_since_its_start_do_not_hold_it_back():
    known = Session("s1", status="active", version=1, started_at=10, last_activity_at=999)
    assert told(source("completed"), known) == [("session.transitioned", "completed", 60)]


def test_what_stands_already_is_left():
    known = Session("s1", status="active", version=2, started_at=10, last_activity_at=50)
    assert settle(source(), known) is None


def test_what_the_new_system_did_later_stands():
    known = Session("s1", status="dormant", version=3, started_at=10, last_activity_at=999)
    assert settle(source("active"), known) is None


def test_a_source_that_went_on_moves_it():
    known = Session("s1", status="active", version=2, started_at=10, last_activity_at=50)
    later = source("dormant", last_us=80)
    assert told(later, known) == [
        ("session.touched", "", 80),
        ("session.transitioned", "dormant", 80),
    ]


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_the_end_is_final(status):
    known = Session("s1", status=status, version=2, last_activity_at=50)
    assert settle(source("active", last_us=999), known) is None


def test_one_that_was_refused_is_not_moved():
    assert settle(source("failed"), None) is None


def test_of_two_records_the_last_active_counts():
    found = standing_of([source(last_us=9), source("failed", 2, last_us=8)])
    assert [each.record.status for each in found.values()] == ["active"]
    found = standing_of([source(), source("failed", 2)])
    assert [each.record.status for each in found.values()] == ["failed"]


def test_a_conversation_is_in_the_session_that_was_last_active_and_has_not_ended():
    found = current_sessions(
        [
            source(session="old", last_us=5),
            source("dormant", session="last", last_us=7),
            source("completed", session="ended", last_us=9),
            source(session="alone", conversation="alone", has_chat=False),
        ]
    )
    assert [each.source.record.session for each in found.values()] == ["last"]


def test_members_of_a_group_have_a_session_each():
    found = current_sessions(
        [source(session="a", member="ann", last_us=5), source(session="b", member="bob")]
    )
    named = {(each.user, each.source.record.session) for each in found.values()}
    assert named == {(None, "b"), ("ann", "a"), ("bob", "b")}


def test_a_conversation_is_mapped_unless_it_went_on():
    [current] = current_sessions([source()]).values()
    assert map_current(current, None) is not None
    assert map_current(current, Conversation("c", session="s1", version=1)) is None
    assert map_current(current, Conversation("c", session="x", updated_at=99, version=1)) is None
    change = map_current(current, Conversation("c", session="x", updated_at=9, version=4))
    assert change is not None
    assert change.expected_version == 4
