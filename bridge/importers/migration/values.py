"""Single values as older bridges write them: moments, ids, texts, directions, statuses. Pure."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal, TypeVar

from bridge.importers.records import BadRecord
from eventlog.session import SessionStatus
from eventlog.vocabulary import MessageType

Direction = Literal["in", "out"]

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)
_MICROSECOND = timedelta(microseconds=1)

_UNITS = ((1e11, 1_000_000), (1e14, 1000), (1e17, 1))
"""Below the first number it is seconds, below the next ms, then µs; each holds 1973 to 5138."""
_NS_BELOW = 1e20

_DIRECTIONS: dict[str, Direction] = {
    **dict.fromkeys(("in", "inbound", "incoming", "received", "receive", "user", "human"), "in"),
    **dict.fromkeys(("out", "outbound", "outgoing", "sent", "send", "assistant", "bot"), "out"),
    **dict.fromkeys(("agent", "ai", "model", "1", "true", "yes"), "out"),
    **dict.fromkeys(("0", "false", "no"), "in"),
}

_STATUSES: dict[str, SessionStatus] = {
    **dict.fromkeys(("pending", "queued", "new", "created", "waiting", "scheduled"), "pending"),
    **dict.fromkeys(("active", "running", "in_progress", "working", "started", "open"), "active"),
    **dict.fromkeys(("busy", "processing", "live"), "active"),
    **dict.fromkeys(("dormant", "paused", "idle", "suspended", "sleeping", "inactive"), "dormant"),
    **dict.fromkeys(("completed", "complete", "done", "finished", "success"), "completed"),
    **dict.fromkeys(("succeeded", "closed", "ended", "archived"), "completed"),
    **dict.fromkeys(("failed", "failure", "error", "errored", "crashed", "aborted"), "failed"),
    **dict.fromkeys(("cancelled", "canceled", "killed", "abandoned", "timeout"), "failed"),
    "timed_out": "failed",
}

_MESSAGE_TYPES: dict[str, MessageType] = {
    **dict.fromkeys(("text", "message", "msg"), "text"),
    **dict.fromkeys(("media", "photo", "image", "video", "voice", "audio", "document"), "media"),
    **dict.fromkeys(("file", "sticker", "animation", "video_note", "gif"), "media"),
    **dict.fromkeys(("response", "reply", "answer"), "response"),
    **dict.fromkeys(("acknowledgment", "acknowledgement", "ack"), "acknowledgment"),
    "action": "action",
    "notice": "notice",
}

SPOKEN_BY_BOT: frozenset[MessageType] = frozenset({"response", "acknowledgment"})


def is_blank(value: Any) -> bool:
    """Return whether there is no value: NULL or empty text."""
    return value is None or value == ""


def instant_us(value: Any, zone: tzinfo = UTC) -> int:
    """Return a moment in µs UTC: ISO text, or Unix time in s, ms, µs or ns, also as text.

    Text without a zone is of `zone`. Which unit a number has, its size says. Raises BadRecord.

    >>> instant_us("2024-05-01 12:00:00") == instant_us(1714564800) == instant_us(1714564800000.0)
    True
    """
    if is_blank(value):
        raise BadRecord("no time")
    if isinstance(value, str):
        return _text_us(value.strip(), zone)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRecord(f"{_shown(value)} is no time")
    return _unix_us(value)


def _text_us(text: str, zone: tzinfo) -> int:
    # Digits alone are a number, though ISO has a form that is digits alone as well.
    if text[4:5] != "-" and text.replace(".", "", 1).isdecimal():
        return _unix_us(float(text) if "." in text else int(text))
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        raise BadRecord(f"{_shown(text)} is no time") from None
    if moment.tzinfo is not None:
        since = moment - _EPOCH
    elif zone is UTC:
        since = moment - _NAIVE_EPOCH
    else:
        since = moment.replace(tzinfo=zone) - _EPOCH
    moment_us = since // _MICROSECOND
    if moment_us < 0:
        raise BadRecord(f"{_shown(text)} lies before 1970")
    return moment_us


def _unix_us(number: float) -> int:
    if math.isfinite(number) and number >= 0:
        for below, factor in _UNITS:
            if number < below:
                return round(number * factor)
        if number < _NS_BELOW:
            return int(number) // 1000
    raise BadRecord(f"{_shown(number)} is no time")


def text_of(value: Any) -> str:
    """Return a value as text; NULL is empty. Raises BadRecord for bytes that are no text.

    >>> text_of(12.0), text_of(None)
    ('12', '')
    """
    if isinstance(value, str):  # nearly always
        if not value.isascii() and _has_broken_bytes(value):
            raise BadRecord("not UTF-8 text")
        return value
    match value:
        case None:
            return ""
        case float() if value.is_integer():
            return str(int(value))
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                raise BadRecord(f"{len(value):,} bytes that are no text") from None
    return str(value)


def optional_text(value: Any) -> str | None:
    """Return a value as text, None where there is none. Raises BadRecord."""
    return text_of(value) or None


def _has_broken_bytes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def direction_of(value: Any) -> Direction:
    """Return the direction that a word, a role or a flag (`1` is out) says. Raises BadRecord."""
    return _looked_up(_DIRECTIONS, value, "direction")


def status_of(value: Any) -> SessionStatus:
    """Return the status that a word of another program stands for. Raises BadRecord."""
    return _looked_up(_STATUSES, value, "status")


def message_type_of(value: Any) -> MessageType | None:
    """Return the message type a word stands for, None for one that is not known."""
    if is_blank(value):
        return "text"
    return _MESSAGE_TYPES.get(value) or _MESSAGE_TYPES.get(_word(value))


def count_of(value: Any) -> int:
    """Return a count from 0; no value is 0. Raises BadRecord."""
    if is_blank(value):
        return 0
    try:
        count = int(value)
    except (TypeError, ValueError, OverflowError):
        raise BadRecord(f"{_shown(value)} is no count") from None
    if count < 0:
        raise BadRecord(f"{_shown(value)} is no count")
    return count


def _looked_up(known: dict[str, T], value: Any, name: str) -> T:
    found = known.get(value) or known.get(_word(value))
    if found is None:
        raise BadRecord(f"unknown {name} {_shown(value)}")
    return found


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    return text_of(value).strip().lower().replace("-", "_").replace(" ", "_")


def _shown(value: Any) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"
