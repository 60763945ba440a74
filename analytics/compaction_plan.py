"""What is to be compacted: decided from the names of the files. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from analytics.segment import Coverage, Range, Segment, day_end_ms

MAX_ROWS = 125_000
"""Of a compacted file: what reads it in the order of the log holds it in memory, some 30 MB of chat."""

MAX_BYTES = 32 * 1024 * 1024
"""The same, by the size of its columns before compression, for large events."""

CLOSED_AFTER_MS = 60_000
"""After midnight, so that a server's clock that is a little behind adds nothing to a closed day."""


def closed_runs(coverage: Coverage, head_n: int, now_ms: int) -> Iterator[tuple[Segment, ...]]:
    """Yield what is to become one file or a few: neighbours of one closed day, not compacted yet.

    A day is closed when it is over and the archive has what was appended on it: it has something
    of a later day, or all there is.
    """
    run: list[Segment] = []
    last_day_is_whole = coverage.position.n >= head_n
    for segment in coverage.chosen:
        if run and (segment.is_compacted or segment.day != run[-1].day):
            yield tuple(run)
            run = []
        is_over = day_end_ms(segment.last_ms) + CLOSED_AFTER_MS <= now_ms
        is_whole = segment.day < coverage.chosen[-1].day or last_day_is_whole
        if not segment.is_compacted and is_over and is_whole:
            run.append(segment)
    if run:
        yield tuple(run)


def cuts(first: int, last: int, byte_count: int) -> list[Range]:
    """Return the stretches of equal length to write these sequences in, each within the bounds."""
    row_count = last - first + 1
    parts = max(-(-row_count // MAX_ROWS), min(row_count, -(-byte_count // MAX_BYTES)))
    length = -(-row_count // parts)
    return [Range(start, min(last, start + length - 1)) for start in range(first, last + 1, length)]
