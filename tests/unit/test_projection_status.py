from __future__ import annotations

from projections.projecting.status import RateMeter


def test_a_meter_that_counted_nothing_shows_nothing() -> None:
    assert RateMeter().per_second(5.0) == 0.0


def test_a_rate_is_of_the_last_ten_seconds() -> None:
    meter = RateMeter()
    for second in range(100, 120):
        meter.add(float(second), 50)
    assert 45 <= meter.per_second(120.0) <= 55
    assert meter.per_second(200.0) == 0.0


def test_a_rate_starts_with_the_first_count() -> None:
    meter = RateMeter()
    meter.add(100.0, 30)
    meter.add(100.5, 30)
    assert meter.per_second(103.0) == 20.0
