"""Deliveries by the Telegram Bot API."""

from __future__ import annotations

import re
from typing import Any

from consumers.senders.http_client import HttpClient, HttpLimits, Reply
from consumers.senders.json_reply import json_object, message_id_in, whole_number
from consumers.senders.refusal import refused
from consumers.senders.retry_after import bounded_wait_s, read_retry_after
from consumers.senders.sender import Delivery, Receipt, recipient_of, text_of
from consumers.senders.telegram_refusal import telegram_refusal
from eventlog.clock import SYSTEM_CLOCK, Clock
from eventlog.errors import ConfigurationError, SendFailed
from eventlog.vocabulary import MessageQueued

_TOKEN = re.compile(r"[A-Za-z0-9_:-]+")
_NUMBER = re.compile(r"-?[0-9]{1,18}")


class TelegramSender:
    """Sends text by `sendMessage`, attachments as their URLs.

    `reply_to` is Telegram's message number, or ends in `:` and the number; a reply to a message
    that is gone is sent as a plain one. A group that has become a supergroup is written to under
    its new id.

    Telegram knows no idempotency key: a message whose reply was lost (`timeout`,
    `connection_lost`, `invalid_reply`) is sent again and may arrive twice.
    """

    def __init__(
        self,
        token: str,
        *,
        base_url: str = "https://api.telegram.org",
        limits: HttpLimits | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Raise ConfigurationError for what is no token or no URL."""
        if not _TOKEN.fullmatch(token):
            raise ConfigurationError(
                "the Telegram token is none.",
                remedy="Give it as @BotFather does, with nothing before or after it.",
            )
        self._path = f"bot{token}/sendMessage"
        self._clock = clock
        # A server may quote the URL back at us, or a piece of it.
        secrets = [token, token.partition(":")[2]]
        self._http = HttpClient(base_url, secrets=secrets, limits=limits)

    def __repr__(self) -> str:
        return f"TelegramSender({self._http.origin!r})"

    async def send(self, message: MessageQueued, delivery: Delivery) -> Receipt:  # noqa: ARG002
        """Return when Telegram has taken the message; raise SendFailed where it has not."""
        request = _request(message)
        reply, answer = await self._call(request)
        moved_to = whole_number(_object(answer, "parameters"), "migrate_to_chat_id")
        if answer.get("ok") is False and moved_to is not None:
            # Nothing was sent to the old id, hence this is still the same attempt.
            reply, answer = await self._call({**request, "chat_id": moved_to})
        if answer.get("ok") is True and reply.status // 100 == 2:
            return Receipt(message_id_in(_object(answer, "result")))
        raise self._failure(reply, answer)

    async def close(self) -> None:
        """Close the connections; the next `send` opens new ones."""
        await self._http.close()

    async def _call(self, request: dict[str, Any]) -> tuple[Reply, dict[str, Any]]:
        reply = await self._http.post_json(request, path=self._path)
        return reply, json_object(reply.body)

    def _failure(self, reply: Reply, answer: dict[str, Any]) -> SendFailed:
        if answer.get("ok") is False:
            return self._refused(reply, answer)
        if reply.status // 100 == 5 or reply.status == 429:
            return refused(self._http, reply, self._clock.now_us())
        # Not the Bot API's word: something between here and there answered, or nothing whole came.
        return reply.fault or SendFailed(
            f"{self._http.origin} answered {reply.status} with what is not the Bot API's.",
            reason="invalid_reply",
            status=str(reply.status),
            remedy="Check the sender's base_url, and proxies on the way to it.",
        )

    def _refused(self, reply: Reply, answer: dict[str, Any]) -> SendFailed:
        code = whole_number(answer, "error_code") or reply.status
        description = str(answer.get("description") or "no description")
        refusal = telegram_refusal(code, description)
        asked_s = whole_number(_object(answer, "parameters"), "retry_after")
        header_s = read_retry_after(reply.headers, self._clock.now_us())
        return SendFailed(
            f"Telegram answered {code}: {self._http.excerpt(description).rstrip('.')}.",
            reason=refusal.reason,
            status=str(code),
            permanent=refusal.permanent,
            retry_after_s=header_s if asked_s is None else bounded_wait_s(asked_s),
            remedy=refusal.remedy,
        )


def _request(message: MessageQueued) -> dict[str, Any]:
    recipient = recipient_of(message)
    if recipient is None:
        raise SendFailed(
            "the message names no chat.",
            reason="no_recipient",
            permanent=True,
            remedy="Queue it with a recipient, or in a conversation like telegram:12345.",
        )
    request: dict[str, Any] = {"chat_id": _chat_id(recipient), "text": text_of(message)}
    reply_to = (message.reply_to or "").rpartition(":")[2]
    if _NUMBER.fullmatch(reply_to):
        request["reply_parameters"] = {
            "message_id": int(reply_to),
            "allow_sending_without_reply": True,
        }
    return request


def _chat_id(recipient: str) -> int | str:
    """Return the number of a chat, or the `@name` of a channel."""
    return int(recipient) if _NUMBER.fullmatch(recipient) else recipient


def _object(answer: dict[str, Any], key: str) -> dict[str, Any]:
    found = answer.get(key)
    return found if isinstance(found, dict) else {}
