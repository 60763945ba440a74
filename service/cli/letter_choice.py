"""Which dead letters a command is about: some by name, those that pass filters, or all."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, NamedTuple

import typer

from eventlog.errors import InvalidQuery
from eventlog.log import EventLog
from projections.views.dead_letters import DeadLetter, DeadLetters, LetterStatus
from service.cli.ages import age_us

PAGE_LETTERS = 500

Letters = Annotated[list[str] | None, typer.Argument(metavar="LETTER", help="Letters by name.")]
Status = Annotated[LetterStatus | None, typer.Option(help="Only of this status.")]
Group = Annotated[str | None, typer.Option(help="Parked by this group.")]
Conversation = Annotated[str | None, typer.Option(help="Parked in this conversation.")]
Reason = Annotated[str | None, typer.Option(help="Parked for this reason.")]
OlderThan = Annotated[
    int | None,
    typer.Option(parser=age_us, metavar="AGE", help="Parked longer ago: 30m, 2h, 7d, 1d12h."),
]
NewerThan = Annotated[
    int | None, typer.Option(parser=age_us, metavar="AGE", help="Parked since then.")
]
Bound = Annotated[int, typer.Option(min=1, help="How many letters at most, the oldest ones.")]
All = Annotated[bool, typer.Option("--all", help="All that pass the filters, however many.")]
BOUND = 1000


class Filters(NamedTuple):
    """What letters have in common; None is anything. Ages are µs before now."""

    status: LetterStatus | None = None
    group: str | None = None
    conversation: str | None = None
    reason: str | None = None
    newer_than_us: int | None = None
    older_than_us: int | None = None

    def check(self) -> None:
        """Return if the ages leave room for a letter. Raises BadParameter."""
        newer, older = self.newer_than_us, self.older_than_us
        if newer is not None and older is not None and newer <= older:
            raise typer.BadParameter("--newer-than must be longer ago than --older-than.")

    def ages(self, now_us: int) -> dict[str, Any]:
        """Return the ages as `DeadLetters.list` takes them."""
        newer, older = self.newer_than_us, self.older_than_us
        return {
            "parked_after_us": None if newer is None else now_us - newer,
            "parked_before_us": None if older is None else now_us - older,
        }

    def by_list(self) -> dict[str, Any]:
        """Return the one filter whose list is read; the others are applied to what it gives.

        The lists by group, conversation and reason hold parked letters.
        """
        if self.status in (None, "parked"):
            for name in ("conversation", "reason", "group"):
                if (value := getattr(self, name)) is not None:
                    return {name: value}
        return {"status": self.status}

    def fits(self, letter: DeadLetter) -> bool:
        """Return whether the letter passes, its age aside."""
        wanted = ((name, getattr(self, name)) for name in ("group", "conversation", "reason"))
        return all(value in (None, getattr(letter, name)) for name, value in wanted) and (
            self.status in (None, letter.status)
        )


class Choice(NamedTuple):
    """Which letters a command is about."""

    names: Sequence[str]
    filters: Filters
    limit: int
    is_all: bool

    def check(self, doing: str | None = None) -> None:
        """Return if it chooses something. Raises InvalidQuery, BadParameter.

        Without `doing`, nothing chosen means everything.
        """
        is_filtered = any(value is not None for value in self.filters[1:])
        if self.names and (is_filtered or self.is_all):
            raise InvalidQuery(
                "letters are given by name and by filter.", remedy="Use one of them."
            )
        if doing and not (self.names or is_filtered or self.is_all):
            raise InvalidQuery(f"no letters to {doing}.", remedy="Give names, a filter, or --all.")
        self.filters.check()

    @property
    def is_one(self) -> bool:
        """Whether it is a single letter, by its name."""
        return len(self.names) == 1


class Chosen(NamedTuple):
    """The letters of a choice, oldest first."""

    letters: list[DeadLetter]
    left_count: int
    """How many pass the filters beside them: beyond the limit."""


async def choose(log: EventLog, choice: Choice) -> Chosen:
    """Return the letters, as they are now. Raises InvalidQuery for a name that is none."""
    letters = DeadLetters(log)
    if choice.names:
        named = [await find_letter(letters, name) for name in dict.fromkeys(choice.names)]
        return Chosen(named, 0)
    # Of a conversation the oldest must be replayed first, so these are what a limit leaves.
    kept: deque[DeadLetter] = deque(maxlen=None if choice.is_all else choice.limit)
    count = 0
    async for letter in matching(log, choice.filters):
        kept.appendleft(letter)
        count += 1
    return Chosen(list(kept), count - len(kept))


async def find_letter(letters: DeadLetters, name: str) -> DeadLetter:
    """Return the letter of that name. Raises InvalidQuery where there is none."""
    found = await letters.get(name)
    if found is None:
        raise InvalidQuery(
            f"there is no dead letter {name!r}.", remedy="`eventlog dead-letters` lists them."
        )
    return found


async def matching(log: EventLog, filters: Filters) -> AsyncIterator[DeadLetter]:
    """Yield the letters that pass, newest first."""
    letters = DeadLetters(log)
    ages = filters.ages(log.clock.now_us())
    cursor: str | None = None
    while True:
        page = await letters.list(**filters.by_list(), **ages, limit=PAGE_LETTERS, cursor=cursor)
        for letter in page.items:
            if filters.fits(letter):
                yield letter
        if page.cursor is None:
            return
        cursor = page.cursor
