"""Conversations: the list, found by name, and what was said in one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from starlette.responses import Response

from projections.views.activity import Activity, ConversationActivity
from projections.views.conversations import Conversations
from projections.views.sessions import Sessions
from service.http.dashboard import chats, words
from service.http.dashboard.page import Ask, not_found
from service.http.dashboard.transcript import items_of
from service.wiring import Service

PAGE_CONVERSATIONS = 50
SEARCHED = 2000
"""Conversations that a search looks through, the last active ones."""
SEARCH_PAGE = 500


class Found(NamedTuple):
    """The list, or what a search found."""

    conversations: Sequence[ConversationActivity]
    cursor: str | None
    is_searched_through: bool
    """Whether a search has seen every conversation."""


async def gather(service: Service, name: str | None, cursor: str | None) -> Found:
    """Return a page of conversations, last active first; with a name those that begin with it.

    One of exactly that name is always found. Others are looked for among the last active ones.
    """
    view = Activity(service.log)
    if name is None:
        page = await view.conversations(limit=PAGE_CONVERSATIONS, cursor=cursor)
        return Found(page.items, page.cursor, True)
    exact = await view.of_conversation(name)
    found = [] if exact is None or cursor is not None else [exact]
    following, seen = cursor, 0
    while seen < SEARCHED and len(found) < PAGE_CONVERSATIONS:
        page = await view.conversations(limit=SEARCH_PAGE, cursor=following)
        found += fitting(page.items, name)
        seen += SEARCH_PAGE
        following = page.cursor
        if following is None:
            break
    return Found(found, following, following is None)


def fitting(items: Sequence[ConversationActivity], name: str) -> list[ConversationActivity]:
    """Return those whose name begins with it, or has it after a colon; not the one of just that name.

    Pure.
    """
    wanted = name.casefold()
    return [
        each
        for each in items
        if each.conversation != name
        and (
            (here := each.conversation.casefold()).startswith(wanted)
            or any(part.startswith(wanted) for part in here.split(":")[1:])
        )
    ]


def sentence(found: Found, name: str | None, now_us: int) -> str:
    """Return how things are. Pure."""
    shown = len(found.conversations)
    if name is not None:
        how_far = "" if found.is_searched_through else f" among the {SEARCHED:,} looked through"
        return f"{words.count(shown, 'conversation')} {'fits' if shown == 1 else 'fit'} “{name}”{how_far}."
    if not shown:
        return "No conversation yet. The first message makes one."
    latest_ms = max(0, now_us - found.conversations[0].last_at) / 1000
    return f"Last active first; the latest was active {words.lasting(latest_ms)} ago."


async def conversations_page(ask: Ask) -> Response:
    """Return the list."""
    name, cursor = ask.query("name"), ask.query("cursor")
    found = await gather(ask.service, name, cursor)
    return await ask.page(
        "conversations.html",
        found=found,
        name=name,
        cursor=cursor,
        sentence=sentence(found, name, ask.now_us),
    )


async def conversation_page(ask: Ask) -> Response:
    """Return what was said in a conversation, and what was done in between."""
    service, name = ask.service, ask.path("conversation")
    activity = await Activity(service.log).of_conversation(name)
    if activity is None:
        raise not_found(
            f"nothing was ever said in {name!r}.", "Look for it in the list of conversations."
        )
    place = await chats.stream_place(ask.shared, name)
    cursor = ask.query("cursor")
    passage = await chats.of_conversation(service, name, cursor)
    sessions = await Sessions(service.log).list(conversation=name, limit=8)
    return await ask.page(
        "conversation.html",
        name=name,
        activity=activity,
        mapped=await Conversations(service.log).get(name),
        sessions=sessions.items,
        items=items_of(passage.happened),
        older=passage.older,
        earlier_count=passage.earlier_count,
        cursor=cursor,
        is_live=cursor is None,
        place=place,
    )
