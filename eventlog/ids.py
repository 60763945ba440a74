"""Entry ids and event ids.

An entry id is `ms-n`: the server's clock in milliseconds and the partition's gapless sequence (see
docs/adr/0001). It orders as a pair of integers, never as text.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Self

from uuid_utils import uuid7


class EntryId(NamedTuple):
    """Where an entry stands in its partition: `ms` from the server's clock, `n` gapless from 1."""

    ms: int
    n: int

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Return the id written as `ms-n`; ValueError on anything else."""
        ms, _, n = (text.decode() if isinstance(text, bytes) else text).partition("-")
        return cls(int(ms), int(n))

    def __str__(self) -> str:
        return f"{self.ms}-{self.n}"


START = EntryId(0, 0)
"""Before the first entry of any partition."""


def new_event_id() -> str:
    """Return a UUIDv7: unique, and ordered by the producer's clock."""
    return str(uuid7())


def is_made_up(event_id: str) -> bool:
    """Return whether the id is one that `new_event_id` could have drawn: it says nothing."""
    return _UUID7.fullmatch(event_id) is not None


_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
