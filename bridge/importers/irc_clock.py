"""From what an IRC log's clock shows to a moment, pure.

Day files show hours and minutes only. They run past midnight, and until September 2007 their clock
had twelve hours and no am or pm: 12:59 is followed by 01:00, 11:59 by 12:00 at noon but by 00:00 at
midnight. Times are taken as UTC, since the logs name no zone.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import NamedTuple

MINUTE_US = 60_000_000
_DAY_MINUTES = 24 * 60
_SET_BACK_MINUTES = 60
"""A clock that falls back by no more than this was set back; by more, it went round."""

TWELVE_HOURS_UNTIL = date(2007, 10, 1)


class Shown(NamedTuple):
    """What the clock says on a line."""

    hour: int
    minute: int

    @property
    def minutes(self) -> int:
        """Minutes since the clock showed 00:00."""
        return self.hour * 60 + self.minute


def midnight_us(day: date) -> int:
    """Return the start of the day in µs UTC."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000


class DayClock:
    """The moments of one day file, never going backwards.

    `day` is the day of the first line. `starts_pm` matters to a twelve-hour clock only.
    """

    def __init__(self, day: date, *, starts_pm: bool = False) -> None:
        self._start_us = midnight_us(day)
        self._period = _DAY_MINUTES // 2 if day < TWELVE_HOURS_UNTIL else _DAY_MINUTES
        self._starts_pm = starts_pm
        self._shown: Shown | None = None
        self._minutes = 0

    @property
    def now_us(self) -> int:
        """The moment of the last line in µs UTC."""
        return self._start_us + self._minutes * MINUTE_US

    @property
    def is_pm(self) -> bool:
        """Whether it is past noon, by this clock's count."""
        return self._minutes % _DAY_MINUTES >= _DAY_MINUTES // 2

    def advance(self, shown: Shown) -> bool:
        """Go on to what the next line shows; return whether the clock went round."""
        previous, self._shown = self._shown, shown
        if previous is None:
            self._minutes = shown.minutes % self._period
            if self._starts_pm and self._period < _DAY_MINUTES:
                self._minutes += self._period
            return False
        step = (shown.minutes - previous.minutes) % self._period
        if step >= self._period - _SET_BACK_MINUTES:
            self._shown = previous
            return False
        self._minutes += step
        return shown.minutes < previous.minutes


def starts_past_noon(day: date, shown: Iterable[Shown]) -> bool:
    """Return whether a twelve-hour file begins past noon.

    The first hour 12 (only ever past noon) or 00 (only ever past midnight) decides; without either
    the file is taken to begin before noon.
    """
    clock = DayClock(day)
    for moment in shown:
        clock.advance(moment)
        if moment.hour == 12:
            return not clock.is_pm
        if moment.hour == 0:
            return clock.is_pm
    return False
