"""What lists have in common: a bound, and a cursor."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from eventlog.event import Name

Limit = Annotated[int, Meta(ge=1, le=1000)]
Cursor = Annotated[str, Meta(min_length=1, max_length=4096)]
"""What the page before said."""


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of path and query: what is unknown is refused."""


class OnPage(Asked, frozen=True, kw_only=True):
    """Which page of a list."""

    limit: Limit = 50
    cursor: Cursor | None = None


class OfSession(Asked, frozen=True):
    """A session by its id."""

    session: Name


class OfConversation(Asked, frozen=True):
    """A conversation, as `telegram:42`."""

    conversation: Name
