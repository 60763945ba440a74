"""Lua scripts: loaded from a package's `lua/` folder, composed, and called by digest.

`--!include NAME` on a line of its own is replaced by `lua/include/NAME.lua` of the script's package
or of `eventlog`, so shared parts exist once. The idea of typed stubs beside scripts is streaq's.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

Argument = str | bytes | int


class Script:
    """A script by its source; calling it sends the digest, and the source where that is unknown."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    async def __call__(
        self, client: Redis, keys: Sequence[str], args: Sequence[Argument] = ()
    ) -> Any:
        """Return the script's reply. Keys must share one slot."""
        try:
            return await client.execute_command("EVALSHA", self.digest, len(keys), *keys, *args)
        except NoScriptError:
            return await client.execute_command("EVAL", self.source, len(keys), *keys, *args)


@functools.cache
def load_script(package: str, name: str) -> Script:
    """Return the script `package/lua/name.lua`, its includes resolved."""
    source = files(package).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")

    def include(match: re.Match[str]) -> str:
        own, shared = (
            files(folder).joinpath("lua", "include", f"{match[1]}.lua")
            for folder in (package, "eventlog")
        )
        return (own if own.is_file() else shared).read_text(encoding="utf-8").rstrip()

    return Script(re.sub(r"^--!include (\w+)$", include, source, flags=re.MULTILINE))
