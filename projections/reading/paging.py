"""Pages and their cursors: opaque text that says where the next page starts."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Generic, NamedTuple, TypeVar

import msgspec

from eventlog.errors import InvalidCursor, InvalidQuery

T = TypeVar("T")
C = TypeVar("C")


class Page(NamedTuple, Generic[T]):
    """Some of a list; `cursor` fetches what follows, None after the last page."""

    items: list[T]
    cursor: str | None


def check_limit(limit: int, highest: int | None = None) -> None:
    """Return if a page can have so many items. Raises InvalidQuery."""
    is_number = isinstance(limit, int) and not isinstance(limit, bool)
    if not is_number or limit < 1 or (highest is not None and limit > highest):
        raise InvalidQuery(
            f"a page of {limit!r} items.",
            remedy="Ask for at least one." if highest is None else f"Ask for 1 to {highest:,}.",
        )


def encode_cursor(place: tuple[object, ...]) -> str:
    """Return a place as opaque text that is safe in URLs."""
    return urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def decode_cursor(cursor: str, place_type: type[C]) -> C:
    """Return the place a cursor stands for. Raises InvalidCursor."""
    try:
        padded = str(cursor).encode("ascii") + b"=" * (-len(cursor) % 4)
        return msgspec.json.decode(urlsafe_b64decode(padded), type=place_type)
    except (ValueError, msgspec.MsgspecError):
        raise InvalidCursor(
            f"{cursor!r} is no cursor of this list.",
            remedy="Pass on a page's `cursor` as it is, or none for the first page.",
        ) from None
