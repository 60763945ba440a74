"""Deciding anew when somebody else was first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from eventlog.errors import VersionConflict

MAX_DECISIONS = 50
"""Each time somebody else got their change in, so this many say that something runs wild."""

T = TypeVar("T")


async def until_decided(decide: Callable[[], Awaitable[T]]) -> T:
    """Return what `decide` returns, which reads, decides and appends with the version it read.

    Raises VersionConflict where others were first every single time.
    """
    for _ in range(MAX_DECISIONS - 1):
        with suppress(VersionConflict):
            return await decide()
    return await decide()
