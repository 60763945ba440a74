"""Reading what a platform says is JSON. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

_MALFORMED = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)
"""What msgspec raises for data: text that is not Unicode and numbers or nesting without measure."""


def json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that `body` is, or an empty one for anything else."""
    try:
        decoded = msgspec.json.decode(body)
    except _MALFORMED:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def message_id_in(answer: dict[str, Any], key: str = "message_id") -> str | None:
    """Return the id under `key`, text or a whole number, as text."""
    match answer.get(key):
        case bool():
            return None
        case int() | str() as found if found != "":
            return str(found)
    return None


def whole_number(answer: dict[str, Any], key: str) -> int | None:
    """Return the whole number under `key`, or None."""
    found = answer.get(key)
    return found if isinstance(found, int) and not isinstance(found, bool) else None
