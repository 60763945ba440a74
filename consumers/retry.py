"""When a failed attempt is made again, and when that is given up. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from eventlog.errors import AttemptFailed, ConfigurationError, EventLogError, SendFailed

LONGEST_WAIT_S = 7 * 86_400.0
"""The longest that anybody is waited for, whatever is asked."""


class Verdict(NamedTuple):
    """What an error says about another attempt."""

    permanent: bool = False
    """Trying again cannot help."""
    retry_after_s: float | None = None
    """Not before so many seconds; None leaves it to the policy."""


def judge(error: Exception) -> Verdict:
    """Return what AttemptFailed says of itself; any other error may pass."""
    if isinstance(error, AttemptFailed):
        return Verdict(error.permanent, error.retry_after_s)
    return Verdict()


class Retry:
    """How often a handler is tried, and how long it rests between attempts.

    The delay grows from `first_delay_s` by `factor` up to `longest_delay_s`; a part of it, up to
    `jitter`, is left off at random, so that what failed together does not come back together. What
    the platform asks for (`retry_after_s`) is waited for in full. `judge` tells permanent errors from
    passing ones.

    >>> Retry(attempts=8, judge=lambda error: Verdict(permanent=isinstance(error, ValueError)))
    """

    __slots__ = ("attempts", "factor", "first_delay_s", "jitter", "judge", "longest_delay_s")

    def __init__(
        self,
        attempts: int = 5,
        *,
        first_delay_s: float = 1.0,
        factor: float = 2.0,
        longest_delay_s: float = 300.0,
        jitter: float = 0.2,
        judge: Callable[[Exception], Verdict] = judge,
    ) -> None:
        # Asked for what must hold, since nothing holds of a nan.
        are_delays = first_delay_s >= 0 and longest_delay_s >= 0
        if attempts < 1 or not (are_delays and factor >= 1 and 0 <= jitter <= 1):
            raise ConfigurationError(
                "a retry policy has at least 1 attempt, a delay of at least 0, a factor of at least 1 "
                "and a jitter between 0 and 1."
            )
        self.attempts = attempts
        self.first_delay_s = first_delay_s
        self.factor = factor
        self.longest_delay_s = longest_delay_s
        self.jitter = jitter
        self.judge = judge

    def delay_s(self, attempt: int, verdict: Verdict, rnd: random.Random) -> float | None:
        """Return how long to wait after that attempt (from 1) failed; None to give up."""
        if verdict.permanent or attempt >= self.attempts:
            return None
        # Beyond this exponent the longest delay is reached whatever the factor, without overflow.
        grown_s = self.first_delay_s * self.factor ** min(attempt - 1, 60)
        delay_s = min(grown_s, self.longest_delay_s) * (1 - self.jitter * rnd.random())
        asked_s = verdict.retry_after_s or 0.0
        return max(delay_s, min(asked_s, LONGEST_WAIT_S)) if asked_s > 0 else delay_s


def reason_of(error: BaseException) -> str:
    """Return a word that errors of a kind have in common, to count dead letters by."""
    if isinstance(error, SendFailed):
        return error.reason
    if isinstance(error, EventLogError):
        return error.code
    return type(error).__name__
