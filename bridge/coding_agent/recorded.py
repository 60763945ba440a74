"""What the log has of a session that is followed."""

from __future__ import annotations

from bridge.coding_agent.reading import Prompt, is_agents
from eventlog.log import EventLog
from eventlog.scoped import scoped
from eventlog.vocabulary import MessageReceived
from projections.reading.live_feeds import LiveFeeds
from projections.views.tickets import TICKET_FEED

NEW_ENTRIES = 50
"""Entries asked for at once by who has read the rest; more are asked for where there are."""


class Recorded:
    """Ids of what was recorded in a session, and the prompts among it; as of the last `refresh`."""

    def __init__(self, log: EventLog, conversation: str, session: str) -> None:
        self.ids: set[str] = set()
        self.prompts: list[Prompt] = []
        """What people said to the agent, in order."""
        self.is_beginning_known = True
        """Whether `ids` reach back to the session's start: a long one's feed has lost that."""
        self._feed = scoped(conversation, session)
        self._partition = log.partition_of(conversation)
        self._feeds = LiveFeeds(log, TICKET_FEED)
        self._limit = TICKET_FEED.limit(log.settings)
        self._total = 0

    async def refresh(self) -> None:
        """Read what was recorded since the last time, by whomever."""
        limit = NEW_ENTRIES if self._total else self._limit
        page = await self._feeds.page(self._partition, self._feed, limit)
        if page.first > self._total + 1 and limit < self._limit:
            page = await self._feeds.page(self._partition, self._feed, self._limit)
        if page.first > self._total + 1:
            self.is_beginning_known = False
        for entry in page.entries:
            event = entry.event
            if event.id in self.ids:
                continue
            self.ids.add(event.id)
            if isinstance(event, MessageReceived) and not is_agents(event) and not event.is_erased:
                self.prompts.append(Prompt(event.id, event.text))
        self._total = page.total
