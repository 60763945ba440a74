"""The projections that every log has."""

from __future__ import annotations

from projections.projection import Projection
from projections.views.activity import ACTIVITY_CONVERSATIONS, ACTIVITY_MINUTES, ACTIVITY_TOTALS
from projections.views.conversations import CONVERSATIONS
from projections.views.dead_letters import DEAD_LETTERS
from projections.views.history import HISTORY
from projections.views.sessions import SESSIONS
from projections.views.tickets import TICKET_FEED, TICKETS
from projections.views.transcripts import TRANSCRIPT_ITEMS, TRANSCRIPTS
from projections.views.values import VALUES

DEFAULT_PROJECTIONS: tuple[Projection, ...] = (
    SESSIONS,
    HISTORY,
    CONVERSATIONS,
    DEAD_LETTERS,
    ACTIVITY_MINUTES,
    ACTIVITY_TOTALS,
    ACTIVITY_CONVERSATIONS,
    TICKETS,
    TICKET_FEED,
    TRANSCRIPTS,
    TRANSCRIPT_ITEMS,
    VALUES,
)
