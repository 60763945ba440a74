"""The rows as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from bench.row import Row


def table(rows: Sequence[Row]) -> str:
    """Return the rows with a heading, one a line; `!` marks those that miss their aim."""
    name_width = max((len(row.name) for row in rows), default=0)
    limit_width = max((len(row.limit_name) for row in rows), default=0)
    heading = (
        f"{'what':<{name_width}} {'per second':>11}   {'limit':<{limit_width}} "
        f"{'per second':>11} {'ratio':>7} {'spread':<15} aim"
    )
    lines = [
        f"{row.name:<{name_width}} {_number(row.rate_per_s):>11}   "
        f"{row.limit_name:<{limit_width}} {_number(row.limit_rate_per_s):>11} {row.ratio:>7.2f} "
        f"{_spread(row):<15} {_aim(row)}"
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in (heading, *lines))


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _spread(row: Row) -> str:
    return f"{row.spread[0]:.2f} to {row.spread[1]:.2f}" if row.spread else ""


def _aim(row: Row) -> str:
    if row.aim is None:
        return ""
    return f"{'≤' if row.is_cost else '≥'} {row.aim:.2f}{'' if row.is_met else ' !'}"
