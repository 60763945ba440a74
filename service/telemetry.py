"""Logs of our own processes: readable in a terminal, JSON elsewhere.

`EVENTLOG_LOG_FORMAT` says otherwise: `json` or `text`. In a process that runs code of others, their
lines go the same way and say which entry they are about.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import TextIO

import structlog

from eventlog.logs import context_fields, get_logger, merge_handled, to_record
from eventlog.settings import LOG_FORMAT_VARIABLE, mask_url

FORMATS = ("json", "text")

_log = get_logger("service")


def configure_logs(level: int = logging.WARNING, *, with_others: bool = False) -> None:
    """Send log records of `level` and above to standard error.

    `with_others`: warnings of every other logger as well, and what those let through that were given
    a level of their own; structlog's too where the program has not configured it.
    """
    given = os.environ.get(LOG_FORMAT_VARIABLE, "")
    for_terminal = given == "text" or (given != "json" and sys.stderr.isatty())
    handler = _Handler()
    handler.setFormatter(_Formatter(for_terminal=for_terminal))
    logger = logging.getLogger("eventlog")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(level)
    if with_others:
        root = logging.getLogger()
        for former in [each for each in root.handlers if isinstance(each, _Handler)]:
            root.removeHandler(former)
        root.addHandler(handler)
        if not structlog.is_configured():
            _send_structlog_there(level)
    if given and given not in FORMATS:
        _log.warning("log_format_unknown", given=given, known=FORMATS)


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to what is standard error when there is something to write."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override] # a property, as logging's own last resort has
        """Standard error."""
        return sys.stderr


class _Formatter(logging.Formatter):
    """One line a record: its event and fields, with time and level."""

    def __init__(self, *, for_terminal: bool) -> None:
        super().__init__()
        self._render = structlog.dev.ConsoleRenderer() if for_terminal else None

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": getattr(record, "event", None) or mask_url(record.getMessage()),
            **(getattr(record, "fields", None) or context_fields()),
        }
        if record.exc_info and "exception" not in line:
            line["exception"] = mask_url(self.formatException(record.exc_info))
        if self._render is not None:
            return str(self._render(None, record.levelname, line))
        return json.dumps(line, ensure_ascii=False, default=str)


def _send_structlog_there(level: int) -> None:
    """Have lines of the program's own structlog loggers become records of the standard library's."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            merge_handled,
            structlog.processors.format_exc_info,
            to_record,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
