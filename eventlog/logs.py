"""Loggers of the library: structlog's events, by way of the standard library's logging.

So a program that configures nothing sees warnings and no chatter, one that configures `logging` is
obeyed, and the command line renders them its own way: a record carries `event` and `fields` beside
its text.

Each line says what it is about: what `structlog.contextvars` holds, such as the `correlation_id` of a
request, and within a handler the entry that it handles.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Protocol

import structlog


class Handled(Protocol):
    """What is being handled, as log lines tell it."""

    def log_fields(self) -> Mapping[str, Any]:
        """Return the fields: names and ids, never content."""
        ...


HANDLED: ContextVar[Handled | None] = ContextVar("eventlog_handled", default=None)
"""One variable, asked only when a line is written: binding six for every entry would take a worker
with little to do a sixth of its time (measured)."""


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger `eventlog.NAME`, taking an event and its fields."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(f"eventlog.{name}"),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            merge_handled,
            structlog.processors.format_exc_info,
            to_record,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return logger


def merge_handled(
    _logger: Any, _method: str, fields: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Return a line's fields with those of the entry being handled: a processor for structlog.

    Put it beside `structlog.contextvars.merge_contextvars` where a program configures structlog itself.
    What the line says already stays.
    """
    handled = HANDLED.get()
    if handled is not None:
        for name, value in handled.log_fields().items():
            fields.setdefault(name, value)
    return fields


def context_fields() -> dict[str, Any]:
    """Return what a line written here and now is about: for records of other loggers."""
    return dict(merge_handled(None, "", structlog.contextvars.get_contextvars()))


def to_record(
    _logger: Any, _method: str, fields: structlog.typing.EventDict
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return what makes a record of the standard library's of a line: structlog's last processor."""
    event = str(fields.pop("event"))
    text = " ".join([event, *(f"{key}={value!r}" for key, value in fields.items())])
    # `%` in a text must not be taken for a placeholder, hence the text is an argument.
    return ("%s", text), {"extra": {"event": event, "fields": dict(fields)}}
