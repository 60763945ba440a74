"""Read models: folds of the log, kept up to date by projectors and read live."""

from projections.building.rebuilding import cancel, drop, rebuild, retire, rollback
from projections.building.verifying import verify
from projections.builtin import DEFAULT_PROJECTIONS
from projections.document_function import document_projection
from projections.folding.replay import Moment, state_at
from projections.projecting.projector import Projector
from projections.projection import DocumentProjection, FeedProjection, Projection
from projections.reading.live import Consistency, LiveDocuments
from projections.reading.live_feeds import LiveFeeds
from projections.reading.paging import Page
from projections.registry import load_projections
from projections.storing.memory_models import MemoryModels
from projections.views.activity import Activity
from projections.views.conversations import Conversations
from projections.views.dead_letters import DeadLetters
from projections.views.history import History
from projections.views.sessions import Sessions
from projections.views.transcripts import Transcripts
from projections.views.values import Values

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
    "Moment",
    "Page",
    "Projection",
    "Projector",
    "Sessions",
    "Transcripts",
    "Values",
    "cancel",
    "document_projection",
    "drop",
    "load_projections",
    "rebuild",
    "retire",
    "rollback",
    "state_at",
    "verify",
]
