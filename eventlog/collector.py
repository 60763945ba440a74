"""Python's cyclic garbage collector, out of the way of bulk work."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG_OBJECTS = 100_000
"""Objects made before the young are looked at; the default of 700 looks within every batch."""


@contextmanager
def spared_collector() -> Iterator[None]:
    """Make the collector look less often meanwhile, and not at what was there before.

    Events, entries and replies are many, short-lived and free of cycles: looking for cycles among
    them took a fifth to a third of the time of appending and projecting in bulk. Reference counting
    frees them all the same. It holds for the whole process. What a program froze before stays frozen.
    """
    usual = gc.get_threshold()
    was_frozen = gc.get_freeze_count() > 0
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        if not was_frozen:  # the collector cannot tell whose is what
            gc.unfreeze()
