"""How long ago, as people write it: `90s`, `2h`, `1d12h`."""

from __future__ import annotations

import re

import typer

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PART = re.compile(r"([0-9]{1,9})([smhdw])")


def age_us(text: str) -> int:
    """Return a duration in µs. Raises BadParameter."""
    if not re.fullmatch(f"(?:{_PART.pattern})+", text):
        raise typer.BadParameter(f"{text!r} is no duration: write 90s, 30m, 2h, 7d or 1d12h.")
    return sum(int(count) * _UNITS_S[unit] for count, unit in _PART.findall(text)) * 1_000_000
