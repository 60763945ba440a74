"""Where a log's read models are kept unless told otherwise: beside the log."""

from __future__ import annotations

from eventlog.log import EventLog
from projections.memory_models import MemoryModels
from projections.redis_models import RedisModels
from projections.store import ModelStore


def default_store(log: EventLog) -> ModelStore:
    """Return the server's read models, or for a log in memory those of memory."""
    return MemoryModels(log) if log.is_in_memory else RedisModels(log)
