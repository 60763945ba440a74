"""Handlers by event type."""

from __future__ import annotations

import functools

import pytest

from consumers import Handlers, Retry
from eventlog import Event, MessageReceived
from eventlog.errors import ConfigurationError


class Paid(Event, tag="invoice.paid", frozen=True, kw_only=True):
    cents: int = 0


async def handle(_event, _context):
    pass


def plain(_event, _context):
    pass


def test_a_handler_is_found_by_its_type_however_that_was_named():
    handlers = Handlers()
    handlers.on("message.sent", MessageReceived, Paid)(handle)
    for name in ("message.sent", "message.received", "invoice.paid"):
        assert handlers.find(name).call is handle
    assert handlers.find("message.queued") is None


def test_the_decorated_function_stays_what_it_was():
    assert Handlers().on("x")(handle) is handle


def test_the_star_takes_what_nobody_else_does():
    handlers = Handlers()
    handlers.on("*")(plain)
    handlers.on("message.sent")(handle)
    assert handlers.find("message.sent").call is handle
    assert handlers.find("anything.else").call is plain


def test_types_of_ones_own_are_what_the_log_must_know():
    handlers = Handlers()
    handlers.on(Paid, MessageReceived, "some.type")(handle)
    assert handlers.event_types == (Paid,)


class Callable:
    async def __call__(self, event, context):
        pass


@pytest.mark.parametrize(
    ("call", "is_async"),
    [
        (handle, True),
        (plain, False),
        (Callable(), True),
        (functools.partial(handle), True),
        (functools.partial(plain), False),
        (lambda _event, _context: None, False),
    ],
)
def test_async_functions_are_told_from_plain_ones(call, is_async):
    handlers = Handlers()
    handlers.on("x")(call)
    assert handlers.find("x").is_async == is_async


def test_time_outs_and_retries_are_its_own_or_those_of_all():
    ours, theirs = Retry(1), Retry(2)
    handlers = Handlers(timeout_s=5, retry=ours)
    handlers.on("a")(handle)
    handlers.on("b", timeout_s=7, retry=theirs)(handle)
    assert (handlers.find("a").timeout_s, handlers.find("a").retry) == (5, ours)
    assert (handlers.find("b").timeout_s, handlers.find("b").retry) == (7, theirs)


def test_a_type_has_one_handler():
    handlers = Handlers()
    handlers.on("message.sent")(handle)
    with pytest.raises(ConfigurationError, match=r"message\.sent has a handler already: handle"):
        handlers.on("message.received", "message.sent")(plain)
    assert handlers.find("message.received") is None, "all of its types, or none"


def test_a_handler_for_nothing():
    with pytest.raises(ConfigurationError, match="no event type"):
        Handlers().on()


@pytest.mark.parametrize("timeout_s", [0, -1])
def test_a_time_out_without_time(timeout_s):
    with pytest.raises(ConfigurationError, match="no time"):
        Handlers().on("x", timeout_s=timeout_s)
