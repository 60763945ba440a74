"""OpenAI Agents' `RedisSession`: a conversation's items in a list."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from agents.extensions.memory import RedisSession
from redis.asyncio import BlockingConnectionPool, Redis

from bench.peers.peer import BATCH_MESSAGES, TASKS, Kind, Peer, Place, Stopwatch, Way
from eventlog import MessageReceived

CONNECTIONS = 100


def item(message: MessageReceived) -> dict[str, Any]:
    """Return the message as an item of a session."""
    return {"role": "user", "content": message.text, "id": message.id, "name": message.sender}


class Open:
    """Sessions on one client, each made once, as a bot keeps them."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._sessions: dict[str, Any] = {}

    def of(self, conversation: str) -> Any:
        """Return the conversation's session."""
        found = self._sessions.get(conversation)
        if found is None:
            found = RedisSession(session_id=conversation, redis_client=self._client)
            self._sessions[conversation] = found
        return found


async def one_by_one(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
    """`add_items` of one item, one after the other."""
    async with Redis.from_url(place.url) as client:
        sessions = Open(client)
        with watch.running():
            for message in messages:
                await sessions.of(message.conversation).add_items([item(message)])


async def from_tasks(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
    """`add_items` of one item, by 1,000 tasks."""

    async def task(first: int) -> None:
        for message in messages[first::TASKS]:
            await sessions.of(message.conversation).add_items([item(message)])

    pool = BlockingConnectionPool.from_url(place.url, max_connections=CONNECTIONS, timeout=None)
    async with Redis.from_pool(pool) as client:
        sessions = Open(client)
        with watch.running():
            await asyncio.gather(*(task(n) for n in range(TASKS)))


async def in_lists(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
    """`add_items` of a conversation's items, up to 500 a call."""
    async with Redis.from_url(place.url) as client:
        sessions = Open(client)
        with watch.running():
            chats: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
            for message in messages:
                chats[message.conversation].append(item(message))
            for chat, items in chats.items():
                for start in range(0, len(items), BATCH_MESSAGES):
                    await sessions.of(chat).add_items(items[start : start + BATCH_MESSAGES])


PEER = Peer(
    "RedisSession",
    ("openai-agents",),
    "one list per session and no log of all; repeats are recorded again; no expected version; "
    "nothing to subscribe to",
    {
        Kind.ONE: Way("add_items", one_by_one, 0.1),
        Kind.TASKS: Way("add_items", from_tasks, 0.1),
        Kind.BATCH: Way("add_items, a chat's items", in_lists),
    },
)
