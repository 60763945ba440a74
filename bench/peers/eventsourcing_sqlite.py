"""eventsourcing ("pyeventsourcing"): aggregates whose events are in SQLite, its durable store here.

It has no store on Redis. A chat is an aggregate; the chats' aggregates are in its cache.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from bench.peers.peer import BATCH_MESSAGES, Kind, Peer, Place, Stopwatch, Way
from eventlog import MessageReceived


class Chat(Aggregate):
    """A chat that remembers how many messages it has."""

    count = 0

    @event("MessageReceived")
    def receive(self, message_id: str, sender: str, text: str, occurred_at: int) -> None:  # noqa: ARG002 - its event's fields
        """Take a message."""
        self.count += 1


def application(place: Place) -> Any:
    """Return an application on a file of its own."""
    return Application(
        env={
            "PERSISTENCE_MODULE": "eventsourcing.sqlite",
            "SQLITE_DBNAME": str(place.folder / "events.sqlite"),
        }
    )


def take(chat: Any, message: MessageReceived) -> None:
    """Give the aggregate the message."""
    chat.receive(message.id, message.sender, message.text, message.occurred_at)


async def one_by_one(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
    """A message, a save."""
    app = application(place)
    chats = {conversation: Chat() for conversation in {each.conversation for each in messages}}
    app.save(*chats.values())
    with watch.running():
        for message in messages:
            chat = chats[message.conversation]
            take(chat, message)
            app.save(chat)
    app.close()


async def in_batches(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
    """500 messages of whatever chats, a save of these chats."""
    app = application(place)
    chats: defaultdict[str, Any] = defaultdict(Chat)
    with watch.running():
        for start in range(0, len(messages), BATCH_MESSAGES):
            changed = {}
            for message in messages[start : start + BATCH_MESSAGES]:
                chat = chats[message.conversation]
                take(chat, message)
                changed[message.conversation] = chat
            app.save(*changed.values())
    app.close()


PEER = Peer(
    "eventsourcing, SQLite",
    ("eventsourcing",),
    "one machine, one writer at a time; a repeat is refused only where the caller knows the version",
    {
        Kind.ONE_SYNCED: Way("app.save", one_by_one, 0.02),
        Kind.BATCH_SYNCED: Way("app.save, 500 messages", in_batches),
    },
    is_equal=True,
)
