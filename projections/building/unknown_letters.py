"""Which letters of poison entries nobody has recorded: a build folds what others folded before it."""

from __future__ import annotations

from eventlog.log import EventLog
from eventlog.vocabulary import DeadLetterParked
from projections.storing.store import ModelStore
from projections.views.dead_letters import DEAD_LETTERS, DeadLetters


class UnknownLetters:
    """Asks the read model of dead letters.

    Where that is not there, asking would fold the log: then a letter counts as unknown, and its id
    keeps it from being recorded twice for as long as the log remembers ids.
    """

    def __init__(self, log: EventLog, store: ModelStore) -> None:
        self._log = log
        self._store = store
        self._letters = DeadLetters(log, store)

    async def __call__(self, letter: DeadLetterParked) -> bool:
        """Return whether the letter is not known yet."""
        shelf = await self._store.shelf(self._log.partition_of(letter.conversation))
        if shelf.readable(DEAD_LETTERS.name, DEAD_LETTERS.version) is None:
            return True
        known = await self._letters.get(letter.letter, conversation=letter.conversation)
        return known is None
