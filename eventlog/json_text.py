"""Other people's JSON, kept as text: what comes back is what was given, to the last digit.

The standard library writes it, because it knows whole numbers of any size and halves of surrogate
pairs, which agents cut out of emoji; msgspec's JSON has neither.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from eventlog.errors import InvalidEvent


def to_json_text(value: Any, what: str = "value") -> str:
    """Return the value as JSON text; `what` names it in an error.

    A tuple reads back as a list. Raises InvalidEvent for what JSON has no place for: bytes, dates,
    NaN, keys that are no text.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        is_equal = json.loads(text) == value
    except (TypeError, ValueError, RecursionError) as error:
        raise _unfit(what, str(error)) from None
    for key in () if is_equal else _odd_keys(value):
        raise _unfit(what, f"the key {key!r} is no text")
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: JSON can spell it, UTF-8 cannot
        return json.dumps(value, separators=(",", ":"))
    return text


def from_json_text(text: str) -> Any:
    """Return what `to_json_text` was given."""
    return json.loads(text)


def _odd_keys(value: Any) -> Iterator[Any]:
    """Yield the keys that are no text, from anywhere inside."""
    if isinstance(value, dict):
        yield from (key for key in value if not isinstance(key, str))
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _odd_keys(each)


def _unfit(what: str, reason: str) -> InvalidEvent:
    return InvalidEvent(
        f"this {what} does not fit into JSON: {reason.rstrip('.')}.",
        remedy="Use text, numbers, booleans, None, lists, and dicts with text keys.",
    )
