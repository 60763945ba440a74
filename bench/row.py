"""One line of a benchmark: a rate beside the one it is compared with, measured in the same run."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
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
    spread: tuple[float, float] | None = None
    """The least and the greatest ratio of the rounds; None where there was one round."""

    @property
    def is_met(self) -> bool:
        """Whether the ratio is as the aim wants it, or there is none."""
        return self.aim is None or (
            self.ratio <= self.aim if self.is_cost else self.ratio >= self.aim
        )


def row_of(
    name: str,
    rates: Sequence[float],
    limit_name: str,
    limits: Sequence[float],
    aim: float | None = None,
    *,
    is_cost: bool = False,
) -> Row:
    """Return the row of rounds in which rate and limit took turns: the ratio of their medians.

    Its spread is over the rounds, each rate beside the limit of the same round.
    """
    rate, limit = median(rates), median(limits)

    def ratio(one: float, beside: float) -> float:
        return beside / one if is_cost else one / beside

    ratios = [ratio(one, beside) for one, beside in zip(rates, limits, strict=True)]
    spread = (min(ratios), max(ratios)) if len(ratios) > 1 else None
    return Row(name, rate, limit_name, limit, ratio(rate, limit), aim, is_cost, spread)


def cost_row(
    name: str, costs: Sequence[float], limit_name: str, limits: Sequence[float], aim: float | None
) -> Row:
    """Return the row of costs (seconds, bytes) beside others: how many times as much it is."""
    rates, limit_rates = [1 / cost for cost in costs], [1 / cost for cost in limits]
    return row_of(name, rates, limit_name, limit_rates, aim, is_cost=True)
