"""Where a stream's reader is: positions in partitions of one log, as the text of an event's id. Pure.

Of a single partition it is readable, `3f9a01c2.5/1763991203117-42`: the log, the partition and the
entry id. Of several the positions are packed: `3f9a01c2~…`. A trailing `!` says that nothing follows.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Self

import msgspec

from eventlog.errors import InvalidCursor
from eventlog.ids import EntryId

MAX_PLACE_CHARACTERS = 32 * 1024
"""1,024 partitions take about 17,000."""

_SINGLE = re.compile(r"([0-9a-f]{8})\.([0-9]{1,4})/([0-9]{1,15})-([0-9]{1,15})(!?)")
_SEVERAL = re.compile(r"([0-9a-f]{8})~([A-Za-z0-9_-]+)(!?)")


class Place:
    """Positions by partition: the last entry there that the reader has, or need not have."""

    def __init__(
        self, log_mark: str, positions: Mapping[int, EntryId], *, has_ended: bool = False
    ) -> None:
        self.log_mark = log_mark
        """Tells logs apart: `mark_of` its epoch."""
        self.positions = dict(positions)
        self.has_ended = has_ended

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the place that `str` wrote. Raises InvalidCursor."""
        if len(text) <= MAX_PLACE_CHARACTERS:
            if single := _SINGLE.fullmatch(text):
                mark, partition, ms, n, end = single.groups()
                position = EntryId(int(ms), int(n))
                return cls(mark, {int(partition): position}, has_ended=bool(end))
            if several := _SEVERAL.fullmatch(text):
                mark, packed, end = several.groups()
                if (positions := _unpacked(packed)) is not None:
                    return cls(mark, positions, has_ended=bool(end))
        raise InvalidCursor(
            "the last event id is none of a stream here.",
            remedy="Give back an event's `id` as it is, or none to begin with the present state.",
        )

    def __str__(self) -> str:
        end = "!" if self.has_ended else ""
        if len(self.positions) == 1:
            [(partition, position)] = self.positions.items()
            return f"{self.log_mark}.{partition}/{position}{end}"
        return f"{self.log_mark}~{_packed(self.positions)}{end}"


def mark_of(epoch: str) -> str:
    """Return what tells a log from others, given its epoch."""
    return sha256(epoch.encode()).hexdigest()[:8]


def _packed(positions: Mapping[int, EntryId]) -> str:
    base_ms = max(position.ms for position in positions.values())
    numbers = [base_ms]
    for partition, position in positions.items():
        numbers += [partition, base_ms - position.ms, position.n]
    return urlsafe_b64encode(msgspec.msgpack.encode(numbers)).decode().rstrip("=")


def _unpacked(packed: str) -> dict[int, EntryId] | None:
    try:
        raw = urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
        base_ms, *numbers = msgspec.msgpack.decode(raw, type=list[int])
    except (ValueError, msgspec.MsgspecError):
        return None
    triples = list(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=False))
    found = {p: EntryId(base_ms - behind_ms, n) for p, behind_ms, n in triples}
    is_sound = len(numbers) == 3 * len(found) and all(min(e) >= 0 for e in found.values())
    # What is no id of the server's must not reach it.
    return found if is_sound and all(max(e) < 2**53 for e in found.values()) else None
