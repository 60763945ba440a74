"""Where a log's read models are kept unless told otherwise: beside the log."""

from __future__ import annotations

from eventlog.log import EventLog
from projections.storing.memory_models import MemoryModels
from projections.storing.redis_models import RedisModels
from projections.storing.store import ModelStore


def default_store(log: EventLog) -> ModelStore:
    """Return the server's read models, or for a log in memory those of memory."""
    return MemoryModels(log) if log.is_in_memory else RedisModels(log)
