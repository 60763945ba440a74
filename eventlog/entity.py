"""Entities: what has a version, and the one thing a log knows of one beside it. Pure.

An event may *mark* its entity: a mapping is held by a session, or free; a session that ended is over.
The mark is kept with the version and so is as fresh as the log, wherever the read models are. That
is enough to decide in one step whether a place is free to be taken: `expected_version={place: FREE}`.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, Self

FREE: Final = "free"
"""Nobody holds it. As an expected version: nothing was ever said of it, it was freed, or who held it
is over. A holder that lives in another partition counts as not over: nothing is known of it here."""
OVER: Final = "over"
"""It has ended, and stays so whatever is said later."""

ExpectedState = int | Literal["free"]
"""A version, or FREE."""


class Advance(NamedTuple):
    """The event at `place` of a batch advances an entity's version; "" leaves its mark as it was."""

    place: int
    entity: str
    mark: str = ""


class EntityState(NamedTuple):
    """What a log keeps of an entity, and as which text: `3`, `3 free`, `3 held session:s`, `3 over`.

    >>> EntityState.parse("3 held session:s").then(EntityState(1, FREE))
    EntityState(version=4, mark='free')
    """

    version: int = 0
    mark: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what the text says."""
        version, _, mark = text.partition(" ")
        return cls(int(version), mark)

    def __str__(self) -> str:
        return f"{self.version} {self.mark}".rstrip()

    def then(self, later: EntityState) -> EntityState:
        """Return the state after events which alone would have led to `later`."""
        mark = self.mark if self.mark == OVER else later.mark or self.mark
        return EntityState(self.version + later.version, mark)


def held_by(holder: str) -> str:
    """Return the mark of an entity that another one holds."""
    return f"held {holder}"


def holder_of(mark: str) -> str | None:
    """Return the entity that holds one with this mark, None where none is known to."""
    word, _, holder = mark.partition(" ")
    return holder if word == "held" else None
