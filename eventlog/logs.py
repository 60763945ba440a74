"""Loggers of the library: structlog's events, by way of the standard library's logging.

So a program that configures nothing sees warnings and no chatter, one that configures `logging` is
obeyed, and the command line renders them its own way: a record carries `event` and `fields` beside
its text.
"""

from __future__ import annotations

import logging
from typing import Any

import structlog


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger `eventlog.NAME`, taking an event and its fields."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(f"eventlog.{name}"),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            _to_record,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return logger


def _to_record(
    _logger: Any, _method: str, fields: structlog.typing.EventDict
) -> tuple[tuple[str, ...], dict[str, Any]]:
    event = str(fields.pop("event"))
    text = " ".join([event, *(f"{key}={value!r}" for key, value in fields.items())])
    # `%` in a text must not be taken for a placeholder, hence the text is an argument.
    return ("%s", text), {"extra": {"event": event, "fields": dict(fields)}}
