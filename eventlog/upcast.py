"""Upcasters: pure functions from a type's old schema to the next, applied when an entry is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from eventlog.errors import UpcasterGap

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes an event's JSON object at schema N and returns it at N + 1."""

Upcasters = Mapping[tuple[str, int], Upcaster]
"""Upcasters by (type, schema they take)."""


def check_chains(current_schemas: Mapping[str, int], upcasters: Upcasters) -> None:
    """Return if every schema below a type's current one leads to it; else raise UpcasterGap."""
    for event_type, current in current_schemas.items():
        missing = [n for n in range(1, current) if (event_type, n) not in upcasters]
        if missing:
            raise UpcasterGap(
                f"{event_type} is at schema {current}, but nothing upcasts schema {missing[0]}.",
                remedy=f"Register an upcaster for ({event_type!r}, {missing[0]}).",
            )
    for event_type, schema in upcasters:
        if schema >= current_schemas.get(event_type, schema + 1):
            raise UpcasterGap(
                f"an upcaster takes {event_type} at schema {schema}, which is already current.",
                remedy="Raise the type's schema_version or remove the upcaster.",
            )


def upcast(document: dict[str, Any], current: int, upcasters: Upcasters) -> dict[str, Any]:
    """Return the document brought from its own schema to `current`, one step at a time."""
    for schema in range(document.get("schema", 1), current):
        document = {**upcasters[document["type"], schema](document), "schema": schema + 1}
    return document
