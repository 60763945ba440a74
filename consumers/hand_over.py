"""Between two owners of a partition: what the former one had in hand goes into lines."""

from __future__ import annotations

from functools import partial

from consumers.group_partition import GroupPartition
from consumers.settlement import Settlement
from consumers.work import Work
from eventlog.entry import RawEntry
from eventlog.logs import get_logger

PAGE_ENTRIES = 500

_log = get_logger("worker")


async def recover(work: Work, place: GroupPartition) -> None:
    """Make sure of the group, and line up what a former owner had in hand when it died.

    All of it may have been begun, so one entry of a conversation is begun after the other from now on.
    """
    partition = place.lease.partition
    await work.insist(partition, place.make_sure)
    if count := await line_up_hand(work, place, is_doubtful=True):
        _log.info("taken_over", group=work.group, partition=partition, count=count)


async def line_up_hand(work: Work, place: GroupPartition, *, is_doubtful: bool) -> int:
    """Put what was delivered, but never seen here, into lines; return how much there was."""
    partition = place.lease.partition
    entries: list[RawEntry] = []  # no more than a window of them: what one owner had in hand
    while page := await work.insist(partition, partial(place.fetch_again, PAGE_ENTRIES)):
        entries += page
    if not entries:
        return 0
    items = [work.item(partition, raw) for raw in entries]
    handled = [item for item in items if item.handler is not None]
    records = await work.insist(partition, partial(place.records, [item.id for item in handled]))
    firsts = await work.insist(
        partition, partial(place.line_firsts, {item.conversation for item in handled})
    )
    settlement = Settlement(work.next_number())
    for item in items:
        if item.handler is None:
            settlement.pass_over(item.id)
        elif item.id < firsts.get(item.conversation, item.id):
            settlement.line_up(item.conversation, front=[item.id], wait_ms=0)
        else:
            # A line that waits for another attempt goes on waiting; a new one is due at once.
            settlement.line_up(item.conversation, back=[item.id])
    if is_doubtful:
        for item, record in zip(handled, records, strict=True):
            settlement.remember(item.id, record.doubtful())
    place.hand.clear()
    await work.insist(partition, partial(place.settle, settlement))
    return len(entries)
