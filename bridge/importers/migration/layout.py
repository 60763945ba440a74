"""What tables and fields are called: the popoto-era `telegram_history` layout, and its relatives.

A field's first name is the one that the bridges of requirement A use; the others are spellings of
the same thing that were met elsewhere.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["message", "session", "dead_letter", "bridge_event", "skip"]

_CHAT = ("chat_id", "conversation", "conversation_id", "platform_conversation_id", "chat", "peer")
_TIME = ("timestamp", "created_at", "occurred_at", "ts", "time", "date", "sent_at", "at")
_SESSION = ("session_id", "session", "session_key")
_SENDER = ("sender", "sender_name", "sender_id", "user_id", "username", "author", "from_user")
_PROJECT = ("project_key", "project")
_TEXT = ("content", "text", "content_text", "message_text", "body", "message")

SPELLINGS: dict[Kind, dict[str, tuple[str, ...]]] = {
    "message": {
        "conversation": _CHAT,
        "time": _TIME,
        "text": _TEXT,
        "message_id": ("message_id", "platform_message_id", "external_id", "msg_id"),
        "direction": (
            "direction",
            "is_outgoing",
            "outgoing",
            "from_me",
            "is_own",
            "is_bot",
            "role",
        ),
        "sender": _SENDER,
        "message_type": ("message_type", "content_type", "msg_type"),
        "session": _SESSION,
        "reply_to": ("reply_to", "reply_to_message_id", "reply_to_id"),
        "platform": ("platform",),
        "attachments": ("attachments",),
    },
    "session": {
        "session": (*_SESSION, "id"),
        "conversation": _CHAT,
        "status": ("status", "state"),
        "time": ("started_at", *_TIME),
        "last_activity": ("last_activity", "last_activity_at", "updated_at", "last_seen"),
        "ended_at": ("completed_at", "ended_at", "finished_at"),
        "project": _PROJECT,
        "user": ("sender", "user_id", "user", "sender_id"),
        "agent": ("agent_id", "agent"),
        "mode": ("mode",),
        "branch_name": ("branch_name", "branch"),
        "text": ("message_text", "text"),
        "reason": ("error", "reason", "status_reason"),
        "platform": ("platform",),
    },
    "dead_letter": {
        "letter": ("letter_id", "letter", "id"),
        "conversation": _CHAT,
        "time": ("created_at", "failed_at", "first_seen", *_TIME),
        "text": ("text", "content", "message", "body"),
        "reply_to": ("reply_to", "reply_to_message_id", "reply_to_id"),
        "attempts": ("attempts", "attempt", "retries", "retry_count"),
        "reason": ("reason",),
        "error": ("error", "last_error"),
        "recipient": ("recipient",),
        "session": _SESSION,
        "platform": ("platform",),
    },
    "bridge_event": {
        "event_type": ("event_type", "type", "event"),
        "conversation": _CHAT,
        "time": _TIME,
        "project": _PROJECT,
        "session": _SESSION,
        "data": ("data", "payload", "details"),
        "platform": ("platform",),
    },
}
"""Kind → field → the columns or keys it may be in, best first. What is in none of them is kept as
`metadata` or `data`."""

NEEDED: dict[Kind, tuple[str, ...]] = {
    "message": ("conversation", "time", "text"),
    "session": ("session", "status", "time"),
    "dead_letter": ("conversation", "time", "text"),
    "bridge_event": ("time", "event_type"),
    "skip": (),
}
"""Fields without which a table is not of the kind."""

TABLES: dict[str, Kind] = {
    **dict.fromkeys(
        ("messages", "message", "telegram_messages", "telegram_message", "telegrammessage"),
        "message",
    ),
    **dict.fromkeys(
        ("sessions", "session", "agent_sessions", "agent_session", "agentsession"), "session"
    ),
    **dict.fromkeys(("dead_letters", "dead_letter", "deadletter", "deadletters"), "dead_letter"),
    **dict.fromkeys(("bridge_events", "bridge_event", "bridgeevent", "events"), "bridge_event"),
    **dict.fromkeys(("links", "link", "chats", "chat"), "bridge_event"),
}
"""Table name in small letters → what its rows are."""

EVENT_TYPES = {"links": "link", "link": "link", "chats": "chat", "chat": "chat"}
"""What the rows of tables are called that are events without saying of which type."""

EXTRA_TIMES = {"chats": ("updated_at",), "chat": ("updated_at",)}
"""Where such tables have the time under a name that elsewhere means something else."""

OWN_NAMES = ("valor", "bot", "assistant", "agent")
"""Who the bridge itself is, where no direction says so; small letters."""


class Recognised(NamedTuple):
    """A table's kind, which column each field is in, and fields with a fixed value."""

    kind: Kind
    columns: dict[str, str]
    constants: dict[str, str]
    missing: tuple[str, ...]
    """Needed fields that are in no column."""


def recognise(
    table: str, columns: list[str], kind: Kind | None = None, given: dict[str, str] | None = None
) -> Recognised | None:
    """Return how a table of these columns is read, None for one whose name says nothing.

    `kind` and `given` (field → column) go before what the names say.
    """
    name = table.lower()
    kind = kind or TABLES.get(name)
    if kind is None:
        return None
    by_name = {column.lower(): column for column in columns}
    found = dict(given or {})
    taken = {column.lower() for column in found.values()}
    for field, spellings in SPELLINGS.get(kind, {}).items():
        more = EXTRA_TIMES.get(name, ()) if field == "time" else ()
        free = (s for s in (*spellings, *more) if s in by_name and s not in taken)
        spelling = None if field in found else next(free, None)
        if spelling is not None:
            found[field] = by_name[spelling]
            taken.add(spelling)
    constants = {}
    if kind == "bridge_event" and name in EVENT_TYPES and "event_type" not in (given or {}):
        found.pop("event_type", None)  # a chat's `type` is no event's
        constants["event_type"] = EVENT_TYPES[name]
    needed = NEEDED[kind]
    missing = tuple(f for f in needed if f not in found and f not in constants)
    return Recognised(kind, found, constants, missing)
