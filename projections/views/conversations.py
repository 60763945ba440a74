"""Conversations: which session a conversation is in now, and which it was in before."""

from __future__ import annotations

import msgspec

from eventlog.entry import Entry
from eventlog.log import EventLog
from eventlog.vocabulary import (
    ConversationChange,
    ConversationCleared,
    ConversationCompacted,
    ConversationMapped,
    member_key,
)
from projections.projection import DocumentProjection, IndexEntry
from projections.reading.live import Consistency, LiveDocuments
from projections.reading.paging import Page
from projections.storing.store import ModelStore

PAST_SESSION_LIMIT = 50
"""Past sessions kept per conversation; `past_count` goes on, and the log has them all."""


class Conversation(msgspec.Struct, omit_defaults=True):
    """A conversation, or one user in it, and its sessions. `updated_at` is µs UTC."""

    conversation: str
    session: str | None = None
    """The current session; None when there is none, or none any more."""
    past: list[str] = []
    """Sessions it was in before, oldest first, the last few."""
    past_count: int = 0
    updated_at: int = 0
    version: int = 0
    """How often conversation.* events changed it: what `append(expected_version=…)` compares."""
    user: str | None = None
    """Whose session it is, where the members of a group have one each."""


class ConversationsProjection(DocumentProjection[Conversation]):
    """Folds the mapping events: they alone are the truth, a session that starts maps nothing."""

    name = "conversations"
    version = 2
    types = (ConversationMapped, ConversationCleared, ConversationCompacted)
    state_type = Conversation

    def key(self, event: ConversationChange) -> str:
        """Return the conversation, or the user in it."""
        return member_key(event.conversation, event.user)

    def initial(self, key: str) -> Conversation:
        """Return a conversation that no session belongs to."""
        return Conversation(key)

    def apply(self, state: Conversation, entry: Entry) -> Conversation:
        """Return the conversation after the entry."""
        event = entry.event
        assert isinstance(event, ConversationChange)
        state.conversation, state.user = event.conversation, event.user
        following = None if isinstance(event, ConversationCleared) else event.session
        if state.session is not None and state.session != following:
            state.past = [*state.past, state.session][-PAST_SESSION_LIMIT:]
            state.past_count += 1
        state.session = following
        state.updated_at = max(state.updated_at, event.occurred_at)
        state.version += 1
        return state

    def index(self, key: str, state: Conversation) -> list[IndexEntry]:  # noqa: ARG002 - by state alone
        """Return the list of mapped conversations, by last change in ms."""
        return [] if state.session is None else [("mapped", state.updated_at // 1000)]

    def idle_since(self, state: Conversation) -> int:
        """Return when its session last changed."""
        return state.updated_at

    def stays_with(self, state: Conversation) -> tuple[str, str] | None:
        """Return its session: as long as something happens in that, it is asked for."""
        return None if state.session is None else ("sessions", state.session)


CONVERSATIONS = ConversationsProjection()


class Conversations:
    """Questions about conversations. Every call may raise LogUnavailable."""

    def __init__(self, log: EventLog, store: ModelStore | None = None) -> None:
        self._log = log
        self._documents = LiveDocuments(log, CONVERSATIONS, store)

    async def get(
        self, conversation: str, *, user: str | None = None, consistency: Consistency = "live"
    ) -> Conversation | None:
        """Return the conversation, or a user's own share in it, or None where it was never mapped."""
        partition = self._log.partition_of(conversation)
        return await self._documents.get(partition, member_key(conversation, user), consistency)

    async def list(
        self,
        *,
        limit: int = 50,
        cursor: str | None = None,
        consistency: Consistency = "live",
    ) -> Page[Conversation]:
        """Return the conversations that have a session, last changed first.

        Raises InvalidCursor.
        """
        return await self._documents.page("mapped", limit, cursor, consistency)
