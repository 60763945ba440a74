"""Who keeps entries from being trimmed, in words, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from analytics.retention import Held
from analytics.trim import Pin
from consumers.registration import RESERVED


class Words(NamedTuple):
    """Who it is, and what lets go."""

    who: str
    remedy: str


_UP = "`eventlog up` goes on with it."
_BUILDS = {
    "serving": "`eventlog up` projects; where no program has it: `eventlog projections retire {}`.",
    "previous": "`eventlog projections drop {}` gives up going back to it.",
    "building": "Let it end, or give it up: `eventlog projections cancel {}`.",
}


def words_of(pin: Pin) -> Words:
    """Return what people are told of a pin."""
    match pin.kind:
        case "build":
            model, _, role = pin.name.partition(" ")
            name = model.partition("@")[0]
            return Words(f"read model {model} ({role})", _BUILDS[role].format(name))
        case "group" | "lost_group":
            lost = ", which the server lost" if pin.kind == "lost_group" else ""
            if pin.name in RESERVED:
                return Words(f"{pin.name}{lost}", _UP)
            retire = f"`eventlog groups retire {pin.name} --reason …`"
            return Words(f"group {pin.name}{lost}", f"Start its worker, or give it up: {retire}.")
        case "archive":
            return Words("archive", "`eventlog up` archives.")
        case "foreign":
            return Words(
                f"archive, which ends with {pin.name}",
                "It is not this log's, or the server lost entries: name the right archive, or"
                " restore the server's data.",
            )
        case "unprojected":
            return Words("read models, of which there are none yet", "`eventlog up` makes them.")
        case "eraser":
            return Words("an erasure under way", "Let it end.")


def size(byte_count: int) -> str:
    """Return a size for people.

    >>> size(1_234_567)
    '1.2 MB'
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if byte_count >= unit:
            return f"{byte_count / unit:,.1f} {name}"
    return f"{byte_count / 1e3:,.0f} kB"


def listed(holders: Sequence[Held]) -> str:
    """Return who holds back how much, in one line."""
    return ", ".join(
        f"{words_of(held.pin).who} ({held.entry_count:,} entries, {size(held.stream_bytes)})"
        for held in holders
    )
