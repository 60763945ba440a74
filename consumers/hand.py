"""What an owner has in hand: delivered, not settled, in no line. Pure.

It is told with every settlement, so that a group that was lost is made again exactly: neither what
was settled is handled again, nor is anything passed over.
"""

from __future__ import annotations

from typing import Self

from eventlog.ids import START, EntryId


class Hand(dict[EntryId, None]):
    """The entries in hand, in order."""

    seen: EntryId = START
    """Up to here the owner knows what was delivered."""

    def put_back(self, entry_id: EntryId) -> None:
        """Take an entry in hand again that was given up too early."""
        entries = sorted([*self, entry_id])
        self.clear()
        self.update(dict.fromkeys(entries))

    def text(self) -> str:
        """Return it as text: up to where, the id of the first, then ranges of sequences.

        >>> hand = Hand.fromkeys([EntryId(7, 3), EntryId(7, 4), EntryId(9, 6)])
        >>> hand.seen = EntryId(9, 8)
        >>> hand.text()
        '9-8 7-3 3-4,6-6'
        """
        ranges: list[str] = []
        start = previous = 0
        for _, n in self:
            if n != previous + 1:
                if start:
                    ranges.append(f"{start}-{previous}")
                start = n
            previous = n
        if not start:
            return str(self.seen)
        return f"{self.seen} {next(iter(self))} {','.join([*ranges, f'{start}-{previous}'])}"


class ToldHand:
    """What a hand's text says."""

    def __init__(self, text: str) -> None:
        seen, lowest, ranges = (*text.split(" "), "", "")[:3]
        self._seen = EntryId.parse(seen)
        self._ranges = [tuple(map(int, each.split("-"))) for each in ranges.split(",") if each]
        self.after = self._seen if not lowest else _just_before(EntryId.parse(lowest))
        """All that was in hand comes after it."""

    @classmethod
    def nothing(cls) -> Self:
        """Return what is told where nothing was settled yet: all that was delivered is in hand."""
        return cls(str(START))

    def __contains__(self, entry_id: EntryId) -> bool:
        """Return whether a delivered entry is in hand: told so, or delivered since."""
        n = entry_id.n
        return n > self._seen.n or any(first <= n <= last for first, last in self._ranges)


def _just_before(entry_id: EntryId) -> EntryId:
    return EntryId(entry_id.ms, entry_id.n - 1)
