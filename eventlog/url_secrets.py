"""Cutting credentials out of texts that may quote an address."""

from __future__ import annotations

import re
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from eventlog.settings import mask_url


def without_secrets(text: str, url: str) -> str:
    """Return the text without the user and the passwords of the URL, in whatever spelling. Pure."""
    text = mask_url(text)
    user, passwords = _credentials(url)
    for password in passwords:
        text = text.replace(password, "***")
    # A user name can be part of a word, unlike a password it is no harm to leave it there.
    return re.sub(rf"\b{re.escape(user)}\b", "***", text) if user else text


def _credentials(url: str) -> tuple[str, list[str]]:
    """Return the URL's user, and its passwords in every spelling, longest first."""
    user, _, password = url.partition("://")[2].rpartition("@")[0].partition(":")
    found = {password, *re.findall(r"[?&]\w*password=([^&\s]*)", url)}
    plain = {decode(secret) for secret in found for decode in (unquote, unquote_plus)}
    spelled = {encode(secret, safe="") for secret in plain for encode in (quote, quote_plus)}
    return unquote(user), sorted((found | plain | spelled) - {""}, key=len, reverse=True)
