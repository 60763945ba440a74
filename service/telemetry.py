"""Logs of our own processes: readable in a terminal, JSON elsewhere."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

import structlog


def configure_logs(level: int = logging.WARNING) -> None:
    """Send log records of `level` and above to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(for_terminal=sys.stderr.isatty()))
    logger = logging.getLogger("eventlog")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(level)


class _Formatter(logging.Formatter):
    """One line a record: its event and fields, with time and level."""

    def __init__(self, *, for_terminal: bool) -> None:
        super().__init__()
        self._render = structlog.dev.ConsoleRenderer() if for_terminal else None

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", record.getMessage()),
            **getattr(record, "fields", {}),
        }
        if self._render is not None:
            return str(self._render(None, record.levelname, line))
        return json.dumps(line, ensure_ascii=False, default=str)
