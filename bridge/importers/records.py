"""What the formats of agent sessions share: moments, texts and JSON with typed faults."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

T = TypeVar("T")


class BadRecord(ValueError):
    """A record that is not what its format promises; the text is the reason."""


def decode(raw: bytes | msgspec.Raw, record_type: type[T]) -> T:
    """Return the JSON as the type; raises BadRecord."""
    try:
        return msgspec.json.decode(raw, type=record_type)
    except UnicodeDecodeError:
        raise BadRecord("not UTF-8 text") from None
    except msgspec.MsgspecError as error:
        raise BadRecord(str(error)) from None


def convert(document: Any, record_type: type[T]) -> T:
    """Return a decoded document as the type; raises BadRecord."""
    try:
        return msgspec.convert(document, record_type)
    except msgspec.ValidationError as error:
        raise BadRecord(str(error)) from None


def moment_us(text: str) -> int:
    """Return an ISO 8601 moment in µs UTC; without a zone it is taken as UTC. Raises BadRecord.

    >>> moment_us("2025-04-30T16:32:54.707474") == moment_us("2025-04-30T18:32:54.707474+02:00")
    True
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadRecord(str(error)) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MICROSECOND


def as_text(content: Any) -> str:
    """Return content as text: text as it is, text blocks joined, anything else as JSON."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(_is_text_block(block) for block in content):
        return "\n".join(block["text"] for block in content)
    return msgspec.json.encode(content).decode()


def _is_text_block(block: Any) -> bool:
    return isinstance(block, dict) and isinstance(block.get("text"), str)
