"""One line of a benchmark: a rate beside the one it is compared with, measured in the same run."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """Rates are per second; `aim` is the ratio we want, if any.

    The ratio is rate / limit, and the aim the least of it. Where `is_cost`, the ratio is limit /
    rate, which is how many times as much one costs here as there, and the aim the most of it.
    """

    name: str
    rate_per_s: float
    limit_name: str
    limit_rate_per_s: float
    ratio: float
    aim: float | None
    is_cost: bool = False
