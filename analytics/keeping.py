"""Rules: how long the archive keeps events of a type. Pure.

    archive_keep_days = { "bridge.event" = 30 }

A rule may take out only what no read model of sessions, conversations, history, tickets or dead
letters is folded from. Of the product's own types that is `bridge.event`, and of those the ones that
are of no session and mark no beginning. Types of your own are yours to judge.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from analytics.segment import DAY_MS, Segment, day_end_ms
from eventlog.errors import ConfigurationError
from eventlog.vocabulary import VOCABULARY

REMOVABLE = frozenset({"bridge.event"})
"""The built-in types that a rule may name."""

KEPT_SORTS = ("agent_session_opened",)
"""`event_type` of bridge events by which a coding agent's session is found again."""

_BUILT_IN = frozenset(str(each.__struct_config__.tag) for each in VOCABULARY)
_FALSE = pa.scalar(False, pa.bool_())


def check_rules(keep_days: Mapping[str, int]) -> None:
    """Ensure that the rules name only what may go. Raises ConfigurationError."""
    for name in sorted(keep_days.keys() & (_BUILT_IN - REMOVABLE)):
        raise ConfigurationError(
            f"setting 'archive_keep_days' names {name!r}, from which read models are folded: "
            "without it they could not be made again.",
            remedy=f"A rule may name {', '.join(sorted(REMOVABLE))} and types of your own; "
            "`eventlog erase` takes the content out of any event.",
        )


def outlived(segment: Segment, keep_days: Mapping[str, int], now_ms: int) -> tuple[str, ...]:
    """Return the types whose events of the segment's day have been kept for as long as they are to.

    A day counts from its end: with 30 days an event is there for 30 to 31.
    """
    age_ms = now_ms - day_end_ms(segment.last_ms)
    return tuple(sorted(name for name, days in keep_days.items() if age_ms >= days * DAY_MS))


def is_removable(table: pa.Table, types: Collection[str]) -> pa.ChunkedArray:
    """Return for each row whether a rule on these types takes it out; never null."""
    is_named = pc.is_in(table["type"], pa.array(list(types), pa.string()))
    for name, value in (("session", None), ("event_type", KEPT_SORTS)):
        if name in table.column_names:
            column = table[name]
            is_needed = (
                column.is_valid() if value is None else pc.is_in(column, pa.array(list(value)))
            )
            is_named = pc.and_(is_named, pc.invert(is_needed))
    return is_named.fill_null(_FALSE)
