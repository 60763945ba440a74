"""One line of a benchmark: a rate beside the limit measured in the same run."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """Rates are per second; `ratio` is rate / limit; `aim` is the ratio we want, if any."""

    name: str
    rate_per_s: float
    limit_name: str
    limit_rate_per_s: float
    ratio: float
    aim: float | None
