"""A record by field as events; the same for SQLite rows and JSON lines.

Every event of a record has the record's place in `correlation_id` (`sqlite:…:messages:17`), by which
it is found and counted again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping as Values
from datetime import UTC, tzinfo
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from bridge.event_buffer import CHATLESS
from bridge.importers.fingerprint import fingerprint
from bridge.importers.migration.layout import OWN_NAMES
from bridge.importers.migration.values import (
    SPOKEN_BY_BOT,
    Direction,
    count_of,
    direction_of,
    instant_us,
    is_blank,
    message_type_of,
    optional_text,
    text_of,
)
from bridge.importers.records import BadRecord
from bridge.place import message_event_id
from consumers.delivery import DELIVERY_GROUP
from eventlog.event import Event
from eventlog.session import SessionStatus
from eventlog.vocabulary import (
    Attachment,
    BridgeEvent,
    DeadLetterParked,
    MessageReceived,
    MessageSent,
    MessageType,
    SessionStarted,
)


class Reading(NamedTuple):
    """What holds for all records of a source."""

    platform: str = "telegram"
    zone: tzinfo = UTC
    """Of times that name none."""
    own_names: frozenset[str] = frozenset(OWN_NAMES)
    """Senders that are the bridge itself, where no direction says so; small letters."""


class SessionRecord(NamedTuple):
    """A session as a record tells it. Times are µs UTC."""

    session: str
    conversation: str
    status: SessionStatus
    started_us: int
    last_us: int
    """Its last sign of life."""
    ended_us: int
    reason: str | None
    has_chat: bool
    member: str | None
    """Its user, where the chat is not theirs alone."""


def conversation_of(values: Values[str, Any], reading: Reading) -> str | None:
    """Return `platform:chat`, None where there is no chat. Raises BadRecord."""
    chat = values.get("conversation")
    if isinstance(chat, dict | list):
        raise BadRecord("a chat that is no id")
    return _conversation(chat, text_of(values.get("platform")), reading.platform)


@lru_cache(maxsize=10_000, typed=True)
def _conversation(chat_id: Any, platform: str, default: str) -> str | None:
    chat = text_of(chat_id).strip()
    if not chat:
        return None
    prefix = f"{platform.strip().lower() or default}:"
    return chat if chat.startswith(prefix) else prefix + chat


def message(values: Values[str, Any], origin: str, reading: Reading) -> Event:
    """Return a message; what is in no field of its own is metadata. Raises BadRecord."""
    conversation = _chat(values, reading)
    sender = optional_text(values.get("sender"))
    message_type, unknown_type = _message_type(values.get("message_type"))
    metadata = _left(values)
    if unknown_type:
        metadata["message_type"] = unknown_type
    attachments = _attachments(values.get("attachments"))
    if not attachments and not is_blank(values.get("attachments")):
        metadata["attachments"] = text_of(values["attachments"])
    message_id = optional_text(values.get("message_id"))
    sent = _direction(values.get("direction"), sender, message_type, reading) == "out"
    return (MessageSent if sent else MessageReceived)(
        conversation=conversation,
        id=message_event_id(conversation, message_id) if message_id else origin,
        occurred_at=instant_us(values.get("time"), reading.zone),
        session=optional_text(values.get("session")),
        correlation_id=origin,
        text=text_of(values.get("text")),
        sender=sender,
        message_id=message_id,
        message_type=message_type,
        reply_to=optional_text(values.get("reply_to")),
        platform=optional_text(values.get("platform")) or reading.platform,
        attachments=attachments,
        metadata=metadata,
    )


def session_record(
    values: Values[str, Any], reading: Reading, status: SessionStatus
) -> SessionRecord:
    """Return the session; one without a chat is its own conversation. Raises BadRecord."""
    session = text_of(values.get("session"))
    if not session:
        raise BadRecord("no session id")
    conversation = conversation_of(values, reading)
    started_us = instant_us(values.get("time"), reading.zone)
    last_us = max(started_us, _optional_us(values.get("last_activity"), reading) or 0)
    ended_us = max(last_us, _optional_us(values.get("ended_at"), reading) or 0)
    reason, user = optional_text(values.get("reason")), optional_text(values.get("user"))
    return SessionRecord(
        session,
        conversation or session,
        status,
        started_us,
        last_us,
        ended_us,
        reason,
        conversation is not None,
        user if conversation is None or not conversation.endswith(f":{user}") else None,
    )


def session_started(
    values: Values[str, Any], origin: str, reading: Reading, status: SessionStatus
) -> Event:
    """Return the session's start; where it stands now is another event. Raises BadRecord."""
    record = session_record(values, reading, status)
    mode = text_of(values.get("mode")).strip().lower()
    return SessionStarted(
        conversation=record.conversation,
        session=record.session,
        id=f"{origin}:started",
        occurred_at=record.started_us,
        correlation_id=origin,
        status="pending" if status == "pending" else "active",
        mode="job" if mode == "job" else "chat",
        platform=optional_text(values.get("platform")) or reading.platform,
        project=optional_text(values.get("project")),
        user=optional_text(values.get("user")),
        agent=optional_text(values.get("agent")),
        branch_name=optional_text(values.get("branch_name")),
        text=optional_text(values.get("text")),
        metadata=_left(values),
    )


def dead_letter(values: Values[str, Any], origin: str, reading: Reading) -> Event:
    """Return a parked letter of the delivery group. Raises BadRecord."""
    conversation = _chat(values, reading)
    occurred_at = instant_us(values.get("time"), reading.zone)
    text, reply_to = text_of(values.get("text")), optional_text(values.get("reply_to"))
    if not text:
        raise BadRecord("no text")
    content = f"{conversation}\n{occurred_at}\n{reply_to}\n{text}".encode()
    letter = text_of(values.get("letter")) or fingerprint(content)
    if letter.isdecimal() or not values.get("letter"):
        letter = f"letter:{conversation}:{letter}"  # a number names a letter of one bridge only
    attempts = count_of(values.get("attempts"))
    return DeadLetterParked(
        conversation=conversation,
        id=f"{letter}:parked:{attempts}",
        occurred_at=occurred_at,
        session=optional_text(values.get("session")),
        correlation_id=origin,
        letter=letter,
        group=DELIVERY_GROUP,
        reason=optional_text(values.get("reason")) or "failed",
        attempts=attempts,
        error=optional_text(values.get("error")),
        recipient=optional_text(values.get("recipient")),
        text=text,
        reply_to=reply_to,
    )


def bridge_event(values: Values[str, Any], origin: str, reading: Reading) -> Event:
    """Return an event of the bridge; what is in no field of its own is data. Raises BadRecord.

    One without a chat belongs to the conversation `project:PROJECT`, or `bridge`.
    """
    event_type = text_of(values.get("event_type")).strip()
    if not event_type:
        raise BadRecord("no event type")
    project = optional_text(values.get("project"))
    data = _left(values)
    given = _json(values.get("data"))
    if isinstance(given, dict):
        data = {**data, **given}
    elif not is_blank(given):
        data["data"] = given
    return BridgeEvent(
        conversation=conversation_of(values, reading)
        or (f"project:{project}" if project else CHATLESS),
        id=origin,
        occurred_at=instant_us(values.get("time"), reading.zone),
        session=optional_text(values.get("session")),
        correlation_id=origin,
        event_type=event_type,
        project=project,
        data=data,
    )


LEFT = "left"
"""The field that holds what is in no field of its own, by column or key."""


def _left(values: Values[str, Any]) -> dict[str, Any]:
    """Return what has no field of its own, as JSON can hold it; JSON text as what it says."""
    found: dict[str, Any] = {}
    for name, value in (values.get(LEFT) or {}).items():
        if name == "metadata" and isinstance(parsed := _json(value), dict):
            found = {**parsed, **found}
        elif not is_blank(value):
            found[name] = value if _is_plain(value) else text_of(value)
    return found


class _Reference(msgspec.Struct):
    url: str
    name: str | None = None
    media_type: str | None = None
    size_bytes: int | None = None


def _attachments(value: Any) -> list[Attachment]:
    """Return references that JSON tells: a list of addresses, or of objects with a `url`."""
    try:
        found = msgspec.convert(_json(value) or [], list[_Reference | str])
    except msgspec.ValidationError:
        return []
    return [
        Attachment(url=each)
        if isinstance(each, str)
        else Attachment(each.url, each.name, each.media_type, each.size_bytes)
        for each in found
    ]


def _is_plain(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, bool | int | list | dict)


def _json(value: Any) -> Any:
    """Return the document that JSON text of an object or a list holds; anything else as it is."""
    if not isinstance(value, str) or not value.startswith(("{", "[")):
        return text_of(value) if isinstance(value, bytes) else value
    try:
        return msgspec.json.decode(value)
    except (msgspec.MsgspecError, ValueError):
        return value


def _chat(values: Values[str, Any], reading: Reading) -> str:
    conversation = conversation_of(values, reading)
    if conversation is None:
        raise BadRecord("no chat")
    return conversation


def _direction(
    value: Any, sender: str | None, message_type: MessageType, reading: Reading
) -> Direction:
    if not is_blank(value):
        return direction_of(value)
    is_own = sender is not None and sender.lower() in reading.own_names
    return "out" if is_own or message_type in SPOKEN_BY_BOT else "in"


def _message_type(value: Any) -> tuple[MessageType, str]:
    """Return the type, and the word that stood for it where that is not known."""
    known = message_type_of(value)
    return (known, "") if known is not None else ("text", text_of(value))


def _optional_us(value: Any, reading: Reading) -> int | None:
    return None if is_blank(value) else instant_us(value, reading.zone)
