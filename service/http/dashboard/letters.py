"""Dead letters: the list, one of them whole, replaying and discarding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args
from urllib.parse import urlencode

import msgspec
from starlette.responses import RedirectResponse, Response

from consumers.dead_letters import discard, payload_of, request_replay
from consumers.registration import RESERVED, registrations
from eventlog.errors import HistoryGap, InvalidQuery
from eventlog.json_text import to_json_text
from projections.views.dead_letters import DeadLetter, DeadLetters, LetterStatus
from service.http.dashboard import words
from service.http.dashboard.page import Ask, not_found
from service.http.links import segment
from service.wiring import Service

PAGE_LETTERS = 50
STATUSES: tuple[LetterStatus, ...] = get_args(LetterStatus)
_OUTCOMES = ("requested", "discarded", "changed", "projection", "nobody")


class Filters(NamedTuple):
    """Which letters are listed."""

    status: LetterStatus
    by: str
    """One of reason, group and conversation, of parked letters; empty: all."""
    value: str

    @property
    def query(self) -> str:
        """The filters as the query of an address."""
        given = {"status": self.status if self.status != "parked" else "", self.by: self.value}
        return urlencode({name: value for name, value in given.items() if name and value})


class LetterList(NamedTuple):
    """The list."""

    letters: Sequence[DeadLetter]
    cursor: str | None
    statuses: Mapping[str, int]
    reasons: Sequence[tuple[str, int]]
    """Of parked letters, most first."""


class Detail(NamedTuple):
    """One letter whole."""

    letter: DeadLetter
    event: str
    """What was given up on, as JSON; empty where there is none any more."""
    event_note: str
    can_replay: bool
    can_discard: bool
    advice: str
    """Why it is not replayed, and what to do instead."""


async def gather(service: Service, filters: Filters, cursor: str | None) -> LetterList:
    """Return a page of the list."""
    view = DeadLetters(service.log)
    wanted: dict[str, Any] = {"status": filters.status}
    if filters.by:
        wanted = {filters.by: filters.value}
    page = await view.list(**wanted, limit=PAGE_LETTERS, cursor=cursor)
    reasons = await view.counts_by_reason()
    return LetterList(
        page.items,
        page.cursor,
        await view.counts_by_status(),
        sorted(reasons.items(), key=lambda item: (-item[1], item[0])),
    )


async def detail_of(service: Service, name: str) -> Detail:
    """Return one letter. Raises Refusal where there is none."""
    letter = await DeadLetters(service.log).get(name)
    if letter is None:
        raise not_found(f"there is no dead letter {name!r}.", "The list has those there are.")
    note = ""
    try:
        payload = await payload_of(service.log, letter, service.past)
    except HistoryGap as gap:
        payload, note = None, str(gap)
    if payload is None and not note:
        note = "The event is not in the log; this is what the letter itself says."
    groups = {each.name for each in await registrations(service.log)}
    advice = why_not_replayed(letter, groups)
    return Detail(
        letter,
        _pretty(payload if payload is not None else _own_words(letter)),
        note,
        letter.status == "parked" and not advice,
        letter.status == "parked" or (letter.status == "replaying" and letter.runner is None),
        advice,
    )


def why_not_replayed(letter: DeadLetter, groups: set[str]) -> str:
    """Return why nobody would try the letter again, and what to do; empty where somebody would. Pure."""
    owner, _, projection = letter.group.partition(":")
    if owner in RESERVED:
        command = f"`eventlog projections rebuild {projection or 'NAME'}`"
        return (
            f"A projection parked it. Mend the projection, then {command}; or discard the letter."
        )
    if letter.group not in groups:
        return (
            f"No worker of group {letter.group!r} ever ran here, so nobody would try it. Start "
            f"`eventlog worker MODULE:OBJECT --group {letter.group}`, or discard the letter."
        )
    return ""


def sentence(found: LetterList) -> str:
    """Return how things are. Pure."""
    parked, replaying = found.statuses.get("parked", 0), found.statuses.get("replaying", 0)
    if not parked and not replaying:
        settled = found.statuses.get("resolved", 0) + found.statuses.get("discarded", 0)
        return f"None is parked. {words.count(settled, 'letter')} settled so far." if settled else (
            "None is parked, and none ever was."
        )  # fmt: skip
    being = f"{replaying:,} being replayed. " if replaying else ""
    return f"{parked:,} parked, none lost. {being}Replay keeps the order within each conversation."


def told(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return what an action did, each with its tone. Pure."""
    said = {
        "requested": ("fine", "{} asked to be replayed; the group's workers try it in order."),
        "discarded": ("fine", "{} discarded for good; the reason is in the log."),
        "changed": ("warn", "{} left as it is: somebody else settled or took it meanwhile."),
        "projection": ("warn", "{} left out: a projection parked it. Mend it and rebuild it."),
        "nobody": ("warn", "{} left out: no worker of its group ever ran here. Start one first."),
    }
    return [
        (said[name][0], said[name][1].format(words.count(count, "letter")))
        for name, count in counts.items()
        if count and name in said
    ]


async def letters_page(ask: Ask) -> Response:
    """Return the list, with one letter beside it where the address names one."""
    filters = _filters(ask)
    found = await gather(ask.service, filters, ask.query("cursor"))
    name = str(ask.request.path_params.get("letter", ""))
    given = ask.request.query_params
    done = {each: int(given[each]) for each in _OUTCOMES if given.get(each, "").isdecimal()}
    return await ask.page(
        "letters.html",
        found=found,
        filters=filters,
        statuses=STATUSES,
        detail=await detail_of(ask.service, name) if name else None,
        sentence=sentence(found),
        done=told(done),
        cursor=ask.query("cursor"),
    )


async def replay_letters(ask: Ask) -> Response:
    """Ask for a replay of the chosen letters."""
    letters = await _chosen(ask)
    groups = {each.name for each in await registrations(ask.service.log)}
    counts: Counter[str] = Counter()
    wanted = []
    for letter in letters:
        if letter.group.partition(":")[0] in RESERVED:
            counts["projection"] += 1
        elif letter.group not in groups:
            counts["nobody"] += 1
        else:
            wanted.append(letter)
    counts.update(each.status for each in await request_replay(ask.service.log, wanted))
    return _back(ask, counts)


async def discard_letters(ask: Ask) -> Response:
    """Give the chosen letters up for good."""
    letters = await _chosen(ask)
    outcomes = await discard(ask.service.log, letters, ask.form.get("reason"))
    return _back(ask, Counter(each.status for each in outcomes))


async def _chosen(ask: Ask) -> list[DeadLetter]:
    names = list(dict.fromkeys(ask.form.all("letter")))
    if not names:
        raise InvalidQuery("no letter is chosen.", remedy="Tick at least one, then say what to do.")
    view = DeadLetters(ask.service.log)
    found = [await view.get(name) for name in names[: PAGE_LETTERS * 2]]
    return [letter for letter in found if letter is not None]


def _back(ask: Ask, counts: Mapping[str, int]) -> Response:
    names = ask.form.all("letter")
    alone = f"/{segment(names[0])}" if ask.form.get("view") == "one" and len(names) == 1 else ""
    query = "&".join(
        part
        for part in (ask.form.get("filters"), urlencode({k: v for k, v in counts.items() if v}))
        if part
    )
    return RedirectResponse(f"/dead-letters{alone}?{query}", 303)


def _filters(ask: Ask) -> Filters:
    status = ask.query("status") or "parked"
    if status not in STATUSES:
        raise InvalidQuery(f"no letter is {status!r}.", remedy=f"One of {', '.join(STATUSES)}.")
    for name in ("reason", "group", "conversation"):
        if value := ask.query(name):
            return Filters("parked", name, value)
    return Filters(status, "", "")


def _own_words(letter: DeadLetter) -> dict[str, Any]:
    fields = ("conversation", "session", "recipient", "text", "reply_to", "origin")
    return {name: value for name in fields if (value := getattr(letter, name)) is not None}


def _pretty(value: Any) -> str:
    if isinstance(value, str):
        return value
    text = to_json_text(value, "event") if not isinstance(value, bytes) else value.decode()
    return msgspec.json.format(text, indent=2)
