"""A pytest plugin: the Claude Agent SDK's own tests find our store where its in-memory one was."""

from __future__ import annotations

import claude_agent_sdk
from claude_agent_sdk import SessionKey, SessionStore, SessionStoreEntry
from stand_in_log import in_another_thread, new_prefix, passing_on

from bridge.adapters.claude_agent_sdk import EventLogSessionStore
from eventlog.log import EventLog


class StandIn(SessionStore):
    """Our store, made as `InMemorySessionStore` is; each has a log of its own."""

    def __init__(self) -> None:
        self.prefix = new_prefix()

    def real(self, log: EventLog) -> EventLogSessionStore:
        return EventLogSessionStore(log)

    append = passing_on("append")
    load = passing_on("load")
    list_sessions = passing_on("list_sessions")
    list_session_summaries = passing_on("list_session_summaries")
    delete = passing_on("delete")
    list_subkeys = passing_on("list_subkeys")

    def get_entries(self, key: SessionKey) -> list[SessionStoreEntry]:
        return in_another_thread(self.load(key)) or []


claude_agent_sdk.InMemorySessionStore = StandIn  # type: ignore[misc, assignment]
