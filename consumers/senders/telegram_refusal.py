"""What Telegram's error answers mean. Pure.

The Bot API tells most of its errors apart only by the text of `description`. What is looked for
here are pieces of it, lower case, that have long been stable.
"""

from __future__ import annotations

from consumers.senders.refusal import Refusal, refusal_of

_BY_DESCRIPTION: tuple[tuple[int, str, Refusal], ...] = (
    (400, "chat not found", Refusal("chat_not_found")),
    (400, "user not found", Refusal("chat_not_found")),
    (400, "peer_id_invalid", Refusal("chat_not_found")),
    (400, "chat_id is empty", Refusal("chat_not_found")),
    (400, "message is too long", Refusal("too_long")),
    (400, "text is empty", Refusal("empty")),
    (400, "text must be non-empty", Refusal("empty")),
    (400, "upgraded to a supergroup", Refusal("chat_migrated")),
    (400, "not enough rights", Refusal("no_rights")),
    (400, "have no rights", Refusal("no_rights")),
    (400, "chat_write_forbidden", Refusal("no_rights")),
    (403, "blocked by the user", Refusal("blocked")),
    (403, "was kicked", Refusal("kicked")),
    (403, "not a member", Refusal("kicked")),
    (403, "user is deactivated", Refusal("deactivated")),
    (403, "can't initiate conversation", Refusal("not_started")),
)
_BAD_TOKEN = Refusal(
    # The message is in order, and will go once the token is.
    "unauthorized",
    permanent=False,
    remedy="Give the sender the bot's current token; @BotFather tells it.",
)
_BY_CODE = {
    400: Refusal("bad_request"),
    401: _BAD_TOKEN,
    404: _BAD_TOKEN,  # what a token of a wrong form gets: the path does not exist
}


def telegram_refusal(code: int, description: str) -> Refusal:
    """Return what an answer with `ok: false` means."""
    said = description.lower()
    for wanted, piece, refusal in _BY_DESCRIPTION:
        if code == wanted and piece in said:
            return refusal
    return _BY_CODE.get(code) or refusal_of(code)
