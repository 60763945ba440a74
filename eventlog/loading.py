"""Objects of other people's code, named `module:object` on a command line."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any


def import_object(name: str) -> Any:
    """Return the object named `module:object`; its module is looked for in the working directory too.

    Raises ValueError for what is no such name, and whatever the module raises.

    >>> import_object("os:path.join")
    """
    module, _, path = name.partition(":")
    if not module or not path or module.startswith("."):
        raise ValueError("write it as module:object")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found
