"""Where a user writes: which conversation that is, and whose session in it. Pure."""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

from bridge.given import id_text
from eventlog.errors import InvalidEvent
from eventlog.event import MAX_NAME_CHARACTERS
from eventlog.ids import new_event_id
from eventlog.partition import Partitions, partition_of
from eventlog.vocabulary import conversation_entity, member_key


class Place(NamedTuple):
    """A conversation, or with `user` that user's own share in it."""

    conversation: str
    user: str | None = None

    @property
    def key(self) -> str:
        """The document that says which session it is in."""
        return member_key(self.conversation, self.user)

    @property
    def entity(self) -> str:
        """The entity whose version says whether that changed."""
        return conversation_entity(self.conversation, self.user)


def place_of(
    platform: str, user_id: str | int, chat_id: str | int | None = None, *, is_shared: bool = False
) -> Place:
    """Return where a user's session is kept.

    Without a chat, or in one of the user's own, the conversation is the session's; in any other chat
    each user has a session of their own, unless all share one. Raises InvalidEvent for a platform
    with a colon, and for what is no id.
    """
    if not isinstance(platform, str) or not platform or ":" in platform:
        raise InvalidEvent(
            f"{platform!r} is no name of a platform.", remedy="Use one without a colon: telegram."
        )
    user = id_text("user", user_id)
    chat = user if chat_id is None else id_text("chat", chat_id)
    conversation = f"{platform}:{chat}"
    return Place(conversation, None if is_shared or chat == user else user)


def message_event_id(conversation: str, message_id: str, *, is_sent: bool = False) -> str:
    """Return the event id of a platform's message: equal for a redelivery, and for nothing else.

    A platform may number what it takes apart from what it gives.

    >>> message_event_id("telegram:42", "991")
    'telegram:42:991'
    """
    escaped = message_id.replace("%", "%25").replace(":", "%3A")
    event_id = f"{conversation}:{escaped}{'%sent' if is_sent else ''}"
    if len(event_id) > MAX_NAME_CHARACTERS:
        event_id = f"sha256:{sha256(event_id.encode()).hexdigest()}"
    return event_id


def new_session_id(conversation: str, partition_count: int) -> str:
    """Return a fresh UUID that falls into the conversation's partition.

    So a session is found by its id alone. It takes as many draws as there are partitions, of a
    microsecond each.
    """
    partition = Partitions(partition_count)[conversation]
    while True:
        drawn = new_event_id()
        if partition_of(drawn, partition_count) == partition:
            return drawn
