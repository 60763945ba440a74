"""Who may use the bot: lists, functions that know, and platforms nobody named."""

from __future__ import annotations

import logging

import pytest

from bridge.allowing import AllowLists
from eventlog.errors import ConfigurationError, EventLogError, UnknownPlatform


async def test_without_any_list_everybody_may_use_every_platform():
    allowed = AllowLists()
    assert await allowed.allows("telegram", "7")
    assert await allowed.allows("carrier pigeon", 8)


async def test_users_are_compared_as_text_whatever_the_list_and_the_message_have():
    allowed = AllowLists({"telegram": {7, "8"}, "discord": None, "slack": []})
    for user in (7, "7", 8, "8"):
        assert await allowed.allows("telegram", user)
    assert not await allowed.allows("telegram", 9)
    assert await allowed.allows("discord", "anybody")
    assert not await allowed.allows("slack", "anybody")


async def test_who_is_not_allowed_is_mentioned_at_debug_level_only(
    caplog: pytest.LogCaptureFixture,
):
    allowed = AllowLists({"telegram": {7}})
    caplog.set_level(logging.DEBUG, "eventlog.bridge")
    assert await allowed.allows("telegram", 7)
    assert caplog.records == []
    assert not await allowed.allows("telegram", 9)
    [record] = caplog.records
    assert record.levelno == logging.DEBUG
    assert record.event == "user_not_allowed"
    assert record.fields == {"platform": "telegram", "user": "9"}


async def test_a_platform_that_nobody_named_is_a_typed_error_that_says_which_there_are():
    allowed = AllowLists({"telegram": None})
    with pytest.raises(
        UnknownPlatform, match=r"'telgram', only 'telegram'.*bridge\.allow"
    ) as caught:
        await allowed.allows("telgram", 7)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, EventLogError)
    allowed.allow("telgram", {7})
    assert await allowed.allows("telgram", 7)


async def test_a_later_list_takes_the_place_of_the_former():
    allowed = AllowLists({"telegram": {7}})
    allowed.allow("telegram", {8})
    assert not await allowed.allows("telegram", 7)
    allowed.allow("telegram")
    assert await allowed.allows("telegram", 7)


async def test_a_function_may_say_plainly_or_by_awaiting():
    async def is_even(user: str) -> bool:
        return int(user) % 2 == 0

    allowed = AllowLists({"telegram": is_even, "discord": ["7", "8"].__contains__})
    assert [await allowed.allows("telegram", user) for user in (1, 2)] == [False, True]
    assert [await allowed.allows("discord", user) for user in (7, 9)] == [True, False]
    allowed.allow("slack", lambda user: is_even(user))
    assert [await allowed.allows("slack", user) for user in (1, 2)] == [False, True]


async def test_a_function_that_fails_refuses_the_user_and_is_logged(
    caplog: pytest.LogCaptureFixture,
):
    async def broken(user: str) -> bool:
        raise OSError(f"no database for {user}")

    def broken_at_once(user: str) -> bool:
        raise KeyError(user)

    allowed = AllowLists({"telegram": broken, "discord": broken_at_once})
    assert not await allowed.allows("telegram", 7)
    assert not await allowed.allows("discord", 7)
    assert [record.event for record in caplog.records] == ["allow_check_failed"] * 2
    assert "no database for 7" in caplog.text


@pytest.mark.parametrize("users", ["78", b"78", 7, {7: True}, [None], [7.5], [True], {("a",)}])
def test_what_is_no_list_of_users_is_refused_where_it_is_given(users):
    with pytest.raises(ConfigurationError, match="'telegram' are no list"):
        AllowLists({"telegram": users})


@pytest.mark.parametrize("platform", ["", None, 7])
def test_what_is_no_platform_is_refused(platform):
    with pytest.raises(ConfigurationError, match="is no platform"):
        AllowLists().allow(platform, {7})
