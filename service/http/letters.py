"""Dead letters: list, show, replay, discard."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from consumers.dead_letters import discard, export, payload_of, request_replay
from consumers.registration import RESERVED, registrations
from projections.views.dead_letters import DeadLetter, LetterStatus
from service.http.listing import Asked, OnPage
from service.http.operation import Routes
from service.http.refusal import Refusal
from service.wiring import Service

routes = Routes("dead letters")

LetterName = Annotated[str, Meta(min_length=1, max_length=1024)]


class WhichLetters(OnPage, frozen=True, kw_only=True):
    """Which letters: by age, and by at most one of the others."""

    status: LetterStatus | None = None
    group: str | None = None
    conversation: str | None = None
    reason: str | None = None
    parked_after_us: int | None = None
    parked_before_us: int | None = None


class LetterList(msgspec.Struct, frozen=True):
    """Dead letters, newest first."""

    dead_letters: list[DeadLetter]
    cursor: str | None
    reasons: dict[str, int]
    """How many are parked for each reason."""
    statuses: dict[str, int]


class OfLetter(Asked, frozen=True):
    """A letter by its name."""

    letter: LetterName


class Discard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a letter is given up."""

    reason: Annotated[str, Meta(min_length=1, max_length=2000)]


class LetterChange(msgspec.Struct, frozen=True):
    """What became of a letter; `changed`: settled or tried by somebody else since it was read."""

    letter: str
    status: str
    has_worker: bool = True
    """Whether a worker of its group ever ran here, which would try it again."""


@routes.get("/v1/dead-letters")
async def list_dead_letters(service: Service, asked: WhichLetters) -> LetterList:
    """List what was given up on, newest first."""
    letters = service.bridge.dead_letters
    page = await letters.list(**msgspec.structs.asdict(asked))
    return LetterList(
        page.items,
        page.cursor,
        await letters.counts_by_reason(),
        await letters.counts_by_status(),
    )


@routes.get("/v1/dead-letters/{letter}")
async def get_dead_letter(service: Service, asked: OfLetter) -> dict[str, Any]:
    """Return everything about a letter: what it was about, every attempt, and what became of it."""
    letter = await _existing(service, asked.letter)
    return export(letter, await payload_of(service.log, letter, service.past))


@routes.post("/v1/dead-letters/{letter}/replay", statuses=(202,))
async def replay_dead_letter(service: Service, asked: OfLetter) -> LetterChange:
    """Ask the letter's group to try it again; its workers do so.

    Asked twice, it is tried once.
    """
    letter = await _existing(service, asked.letter)
    if letter.group.partition(":")[0] in RESERVED:
        raise Refusal(
            "forbidden",
            "a projection parked this letter; it is not replayed.",
            remedy="Mend the projection and rebuild it, or discard the letter.",
        )
    has_worker = letter.group in {each.name for each in await registrations(service.log)}
    [outcome] = await request_replay(service.log, [letter])
    return LetterChange(outcome.letter, outcome.status, has_worker)


@routes.post("/v1/dead-letters/{letter}/discard")
async def discard_dead_letter(service: Service, asked: OfLetter, body: Discard) -> LetterChange:
    """Give a letter up for good; the reason is recorded."""
    letter = await _existing(service, asked.letter)
    [outcome] = await discard(service.log, [letter], body.reason)
    return LetterChange(outcome.letter, outcome.status)


async def _existing(service: Service, name: str) -> DeadLetter:
    found = await service.bridge.dead_letters.get(name)
    if found is None:
        raise Refusal(
            "not_found", f"there is no dead letter {name!r}.", remedy="/v1/dead-letters lists them."
        )
    return found
