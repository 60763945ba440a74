"""Which partition a conversation lives in. Pure, and fixed for the life of a log."""

from __future__ import annotations

from zlib import crc32

from eventlog.errors import InvalidEvent

REMEMBERED_CONVERSATIONS = 65_536


def partition_of(conversation: str, partition_count: int) -> int:
    """Return the partition of a conversation: CRC-32 of its UTF-8 text modulo the count."""
    return crc32(conversation.encode()) % partition_count


class Partitions(dict[str, int]):
    """`partition_of`, remembered: `partitions[conversation]`. Bounded."""

    def __init__(self, partition_count: int) -> None:
        super().__init__()
        self.count = partition_count

    def __missing__(self, conversation: str) -> int:
        if len(self) >= REMEMBERED_CONVERSATIONS:
            self.clear()
        try:
            partition = partition_of(conversation, self.count)
        except (AttributeError, UnicodeError):
            raise InvalidEvent(
                f"{conversation!r} is no name.", remedy="Give text that is valid Unicode."
            ) from None
        self[conversation] = partition
        return partition
