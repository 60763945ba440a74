"""What appends in a run: each write is recorded before it is offered, and again when it is answered.

A process that was killed is followed by one of its name, which offers what was not answered again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from bridge import Bridge
from bridge.place import message_event_id
from eventlog import MessageQueued, MessageReceived
from eventlog.errors import EventLogError, LogUnavailable, ProducerGap, UnsupportedDurability
from eventlog.event import Event
from tests.fault.journal import JournalFile, records
from tests.fault.whole.job import Job, Post

LANES = 3
"""Of a producer, each appends one call after the other."""
CHATS = 3
"""Of a lane."""
INSISTS_RATE = 0.7
"""How often a failed append is repeated until it succeeds; else the next one follows."""
AGAIN_RATE = 0.1
"""How often what was acknowledged is offered again, as a platform does."""
FSYNC_RATE = 0.1
BATCH = 20
OVERLAP = 50
"""So much of what was imported a new importer offers again."""
USERS = 4
LOOKED_BACK = 20
"""Messages of a chat that a bot reads before it answers."""


class Offer(NamedTuple):
    """An event, and its number in its conversation."""

    event: Event
    number: int


class Diary:
    """The journal of one who appends."""

    def __init__(self, journal: JournalFile) -> None:
        self._journal = journal

    def offer(self, offers: Sequence[Offer]) -> None:
        writes = [[each.event.id, each.event.conversation, each.number] for each in offers]
        self._journal.write("offer", writes=writes)

    def acknowledged(self, keys: Sequence[str], places: Sequence[Any] = ()) -> None:
        self._journal.write("answer", outcome="acknowledged", keys=keys, places=places)

    def failed(self, keys: Sequence[str], error: EventLogError) -> None:
        """What was not reached, or did not answer, may have been written; all else was refused.

        Of a list, what falls into another partition may be there when one refuses its durability.
        """
        is_open = isinstance(error, (LogUnavailable, UnsupportedDurability))
        outcome = "indeterminate" if is_open else "refused"
        self._journal.write("answer", outcome=outcome, keys=keys, error=error.code)

    def look(self, key: str, was_found: bool) -> None:
        self._journal.write("look", key=key, was_found=was_found)


def _answered_before(job: Job) -> set[str]:
    """Return the keys that this one's forerunners need not offer again."""
    done: set[str] = set()
    if job.journal.exists():
        with job.journal.open() as lines:
            for _, record in records(lines):
                if record["what"] == "answer":
                    done |= set(record["keys"])
    return done


async def _turns(post: Post, per_s: float) -> AsyncIterator[None]:
    """Yield so many times a second until it is time to stop; then wait for that."""
    while not (post.stop.is_set() or post.job.done.exists()):
        if not _rests(post.job):
            yield
        with suppress(TimeoutError):
            await asyncio.wait_for(post.stop.wait(), 1 / per_s)
    await post.stop.wait()


def _rests(job: Job) -> bool:
    """Return whether it is the time at which nobody appends."""
    return job.rest_s > 0 and time.time() % job.round_s < job.rest_s


# --- with ids of its own ----------------------------------------------------------------------------


def _offers(job: Job, lane: int) -> Any:
    """Yield what a lane offers, in lists: equal for all of the name."""
    rnd = random.Random(f"{job.seed} {job.name} {lane}")
    numbers: Counter[str] = Counter()
    while True:
        offers = []
        for _ in range(rnd.choice((1, 1, 1, 2, 5))):
            chat = f"web:{job.name}.{lane}.{rnd.randrange(CHATS)}"
            numbers[chat] += 1
            kind = MessageQueued if rnd.random() < 0.2 else MessageReceived
            key = f"{chat}#{numbers[chat]}"
            text = f"{key} {'x' * rnd.choice((20, 20, 500))}"
            offers.append(Offer(kind(id=key, conversation=chat, text=text), numbers[chat]))
        yield offers


async def produce(post: Post) -> None:
    diary, done = Diary(post.journal), _answered_before(post.job)
    await asyncio.gather(*(_produce(post, diary, done, lane) for lane in range(LANES)))


async def _produce(post: Post, diary: Diary, done: set[str], lane: int) -> None:
    luck = random.Random()
    offers = _offers(post.job, lane)
    async for _ in _turns(post, post.job.events_per_s / LANES / 2):
        offer = next(each for each in offers if each[-1].event.id not in done)
        for _ in range(2 if luck.random() < AGAIN_RATE else 1):
            await _append(post, diary, offer, luck)


async def _append(post: Post, diary: Diary, offers: list[Offer], luck: random.Random) -> None:
    keys = [each.event.id for each in offers]
    insists = luck.random() < INSISTS_RATE
    durability: Any = "fsync" if luck.random() < FSYNC_RATE else "memory"
    while True:
        diary.offer(offers)
        try:
            results = await post.log.append([each.event for each in offers], durability=durability)
        except EventLogError as error:
            diary.failed(keys, error)
            if isinstance(error, UnsupportedDurability):
                durability = "memory"  # the server is at `everysec` just now
            elif post.stop.is_set() or not (insists and isinstance(error, LogUnavailable)):
                return
        else:
            diary.acknowledged(keys, [[each.partition, each.sequence] for each in results])
            return


# --- by producer sequence -----------------------------------------------------------------------------


def _imported(job: Job, position: int) -> Offer:
    chat = f"file:{job.name}.{position % 5}"
    event = MessageReceived(id=f"{chat}#{position}", conversation=chat, text=str(position))
    return Offer(event, position)


async def import_(post: Post) -> None:
    job, diary = post.job, Diary(post.journal)
    producer, position = None, 1
    async for _ in _turns(post, job.events_per_s / BATCH):
        try:
            if producer is None:
                producer = await post.log.producer(job.name)
                known = max(producer.positions.values(), default=0)
                position = max(1, min(position, known) - OVERLAP)
        except EventLogError:
            continue
        offers = [_imported(job, n) for n in range(position, position + BATCH)]
        keys = [each.event.id for each in offers]
        diary.offer(offers)
        try:
            await producer.append([(each.number, each.event) for each in offers])
        except (LogUnavailable, ProducerGap) as error:
            diary.failed(keys, error if isinstance(error, LogUnavailable) else LogUnavailable(""))
            producer = None
        else:
            diary.acknowledged(keys)
            position += BATCH


# --- a bot ------------------------------------------------------------------------------------------------


async def converse(post: Post) -> None:
    """Take users' messages, read what was said, answer: as a bridge's program does."""
    job = post.job
    diary, done = Diary(post.journal), _answered_before(job)
    bridge = await _bridge(post)
    try:
        number = 0
        async for _ in _turns(post, job.events_per_s / 2):
            number += 1
            while _received_key(job, number) in done:
                number += 1
            await _turn(bridge, diary, _user(job, number), number)
    finally:
        await bridge.close()


def _user(job: Job, number: int) -> str:
    return f"{job.name}.{number % USERS}"


def _received_key(job: Job, number: int) -> str:
    return message_event_id(f"web:{_user(job, number)}", str(number))


async def _bridge(post: Post) -> Bridge:
    job, clock = post.job, post.log.clock
    while True:
        try:
            return await Bridge.open(job.url, settings=job.settings, clock=clock)
        except LogUnavailable:
            await clock.sleep(0.1)


async def _turn(bridge: Bridge, diary: Diary, user: str, number: int) -> None:
    """Offer one message until it is taken, and its answer."""
    chat = f"web:{user}"
    key = message_event_id(chat, str(number))
    said = MessageReceived(id=key, conversation=chat, text=key)
    diary.offer([Offer(said, 2 * number)])
    try:
        received = await bridge.receive("web", user, key, message_id=number)
        assert received is not None
        diary.acknowledged([key], [[received.result.partition, received.result.sequence]])
    except EventLogError as error:
        diary.failed([key], error)
        return
    bridge.log_event("turn", {"key": key}, conversation=chat, idempotency_key=f"turn {key}")
    with suppress(LogUnavailable):
        page = await bridge.history(received.session, LOOKED_BACK)
        diary.look(key, any(each.event.id == key for each in page.entries))
    answer = MessageQueued(id=f"answer {key}", conversation=chat, text=f"to {key}")
    diary.offer([Offer(answer, 2 * number + 1)])
    try:
        result = await bridge.send(received.session, answer.text, idempotency_key=answer.id)
        diary.acknowledged([answer.id], [[result.partition, result.sequence]])
    except EventLogError as error:
        diary.failed([answer.id], error)
