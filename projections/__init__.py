"""Read models: folds of the log, kept up to date by projectors and read live."""

from projections.builtin import DEFAULT_PROJECTIONS
from projections.live import Consistency, LiveDocuments
from projections.live_feeds import LiveFeeds
from projections.memory_models import MemoryModels
from projections.paging import Page
from projections.projection import DocumentProjection, FeedProjection, Projection
from projections.projector import Projector
from projections.views.activity import Activity
from projections.views.conversations import Conversations
from projections.views.dead_letters import DeadLetters
from projections.views.history import History
from projections.views.sessions import Sessions

__all__ = [
    "DEFAULT_PROJECTIONS",
    "Activity",
    "Consistency",
    "Conversations",
    "DeadLetters",
    "DocumentProjection",
    "FeedProjection",
    "History",
    "LiveDocuments",
    "LiveFeeds",
    "MemoryModels",
    "Page",
    "Projection",
    "Projector",
    "Sessions",
]
