"""Conversations: the list, what was said, and the session each is in."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from eventlog.event import Name
from eventlog.vocabulary import MessageType
from projections.views.conversations import Conversation, Conversations
from projections.views.history import History
from service.http.entries import EntryDocument, entry_json
from service.http.listing import Cursor, OfConversation, OnPage
from service.http.operation import Routes
from service.http.refusal import Refusal
from service.wiring import Service

routes = Routes("conversations")


class ConversationList(msgspec.Struct, frozen=True):
    """Conversations that have a session, last changed first."""

    conversations: list[Conversation]
    cursor: str | None


class OfMember(OfConversation, frozen=True, kw_only=True):
    """A conversation, or one user's own share in it."""

    user: Name | None = None


class WhichMessages(OnPage, frozen=True, kw_only=True):
    """Which messages of a conversation."""

    conversation: Name
    begin: Literal["last", "first"] = "last"
    """From which end, where there is no cursor."""
    sender: str | None = None
    message_type: MessageType | None = None
    event_type: Literal["message.received", "message.sent"] | None = None
    cursor: Cursor | None = None
    """A page's `older` or `newer`, which keeps its filter."""


class Messages(msgspec.Struct, frozen=True):
    """Messages, oldest first."""

    messages: list[EntryDocument]
    older: str | None
    """The cursor of the page before; None where there is none."""
    newer: str
    """The cursor of the page after, also of what is yet to be said."""
    earlier_count: int
    later_count: int


class Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which session a conversation goes on in."""

    session: Name
    user: Name | None = None


class Deleted(msgspec.Struct, frozen=True):
    """Whether there was anything."""

    deleted: bool


class Compact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """In which session to go on; a fresh one where none is named."""

    session: Name | None = None
    user: Name | None = None


class Remapped(msgspec.Struct, frozen=True):
    """The session that a conversation goes on in."""

    session: str


@routes.get("/v1/conversations")
async def list_conversations(service: Service, asked: OnPage) -> ConversationList:
    """List conversations that have a session, last changed first."""
    page = await service.bridge.conversations.list(limit=asked.limit, cursor=asked.cursor)
    return ConversationList(page.items, page.cursor)


@routes.get("/v1/conversations/{conversation}")
async def get_conversation(service: Service, asked: OfMember) -> Conversation:
    """Return the session a conversation is in, and those it was in before."""
    found = await Conversations(service.log).get(asked.conversation, user=asked.user)
    if found is None:
        raise Refusal(
            "not_found",
            f"conversation {asked.conversation!r} was never in a session.",
            remedy="Its messages, if any, are under `/messages`.",
        )
    return found


@routes.get("/v1/conversations/{conversation}/messages", answer=Messages)
async def list_messages(service: Service, asked: WhichMessages) -> Any:
    """Return what was said in a conversation, back into the archive, oldest first.

    `older` and `newer` page both ways, without seam or repeat while messages are added.
    """
    view = History(service.log, past=service.past)
    ask = view.first if asked.begin == "first" else view.last
    page = await ask(
        asked.conversation,
        asked.limit,
        cursor=asked.cursor,
        sender=asked.sender,
        message_type=asked.message_type,
        event_type=asked.event_type,
    )
    return {
        "messages": [entry_json(service.log, entry) for entry in page.entries],
        "older": page.older,
        "newer": page.newer,
        "earlier_count": page.earlier_count,
        "later_count": page.later_count,
    }


@routes.put("/v1/conversations/{conversation}/session")
async def map_conversation(service: Service, asked: OfConversation, body: Mapping) -> Remapped:
    """Let a conversation go on in a session, whatever it was in before."""
    await service.bridge.conversations.set(asked.conversation, body.session, user=body.user)
    return Remapped(body.session)


@routes.delete("/v1/conversations/{conversation}/session")
async def clear_conversation(service: Service, asked: OfMember) -> Deleted:
    """Leave a conversation without a session."""
    found = await service.bridge.conversations.delete(asked.conversation, user=asked.user)
    return Deleted(found)


@routes.post("/v1/conversations/{conversation}/compact")
async def compact_conversation(service: Service, asked: OfConversation, body: Compact) -> Remapped:
    """Let a conversation go on in a fresh session; the old one is kept."""
    fresh = await service.bridge.conversations.compact(
        asked.conversation, body.session, user=body.user
    )
    return Remapped(fresh)
