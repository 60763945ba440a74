"""What an owner has in hand: delivered, not settled, in no line. Pure.

It is told with every settlement, so that a group that was lost is made again exactly: neither what
was settled is handled again, nor is anything passed over.
"""

from __future__ import annotations

from eventlog.ids import START, EntryId


class Hand(dict[EntryId, None]):
    """The entries in hand, in order."""

    seen: EntryId = START
    """Up to here the owner knows what was delivered."""

    @staticmethod
    def told_count(text: str, delivered: EntryId) -> int:
        """Return how many entries are in hand that a text tells of, or were delivered since."""
        seen, _, ranges = (*text.split(" "), "", "")[:3]
        told = [each.split("-") for each in ranges.split(",") if each]
        since = max(0, delivered.n - EntryId.parse(seen).n)
        return since + sum(int(last) - int(first) + 1 for first, last in told)

    def put_back(self, entry_id: EntryId) -> None:
        """Take an entry in hand again that was given up too early."""
        entries = sorted([*self, entry_id])
        self.clear()
        self.update(dict.fromkeys(entries))

    def text(self) -> str:
        """Return it as text, as `heal.lua` reads it: up to where, the first's id, ranges of sequences.

        >>> hand = Hand.fromkeys([EntryId(7, 3), EntryId(7, 4), EntryId(9, 6)])
        >>> hand.seen = EntryId(9, 8)
        >>> hand.text()
        '9-8 7-3 3-4,6-6'
        """
        ranges: list[str] = []
        start, previous = 0, -1
        for _, n in self:
            if n != previous + 1:
                if start:
                    ranges.append(f"{start}-{previous}")
                start = n
            previous = n
        if not start:
            return str(self.seen)
        return f"{self.seen} {next(iter(self))} {','.join([*ranges, f'{start}-{previous}'])}"
