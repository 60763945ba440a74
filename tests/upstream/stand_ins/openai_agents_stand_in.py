"""A pytest plugin: the OpenAI Agents SDK's own tests find our session where its SQLite one was."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import agents
from stand_in_log import new_prefix, passing_on

from bridge.adapters.openai_agents import EventLogSession
from eventlog.log import EventLog


class StandIn:
    """Our session, made as `SQLiteSession` is; one database is one log."""

    def __init__(
        self, session_id: str, db_path: str | Path = ":memory:", *, session_settings: Any = None
    ) -> None:
        self.session_id = session_id
        made = EventLogSession(session_id, EventLog.in_memory(), session_settings=session_settings)
        self.session_settings = made.session_settings
        digest = hashlib.sha256(str(db_path).encode()).hexdigest()[:32]
        self.prefix = new_prefix() if db_path == ":memory:" else f"upstream-{digest}"

    def real(self, log: EventLog) -> EventLogSession:
        return EventLogSession(self.session_id, log, session_settings=self.session_settings)

    get_items = passing_on("get_items")
    add_items = passing_on("add_items")
    pop_item = passing_on("pop_item")
    clear_session = passing_on("clear_session")

    def close(self) -> None: ...


agents.SQLiteSession = StandIn  # type: ignore[misc, assignment]
