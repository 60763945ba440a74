"""A short name for content."""

from __future__ import annotations

import hashlib


def fingerprint(content: bytes) -> str:
    """Return 16 hexadecimal digits that stand for the content."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()
