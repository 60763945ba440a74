"""Templates: found beside this file, escaped by default, with the words people read."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from service.http.dashboard import words
from service.http.links import segment


@cache
def environment() -> Environment:
    """Return the templates."""
    made = Environment(
        loader=PackageLoader("service.http.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": words.number,
        "lasting": words.lasting,
        "clock": words.clock,
        "day": words.day,
        "when": words.when,
        "segment": segment,
    }
    made.globals |= {
        "age": words.age,
        "size": words.size,
        "count": words.count,
        "version": static_version(),
        "segment": segment,
    }
    return made


def render(template: str, **data: Any) -> str:
    """Return a page or a piece of one."""
    return environment().get_template(template).render(**data)


@cache
def static_files() -> dict[str, bytes]:
    """Return style and scripts by name."""
    folder = files("service.http.dashboard") / "static"
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}


@cache
def static_version() -> str:
    """Return what changes when any of them does: their addresses have it, so they may be kept."""
    together = hashlib.sha256()
    for _, content in sorted(static_files().items()):
        together.update(content)
    return together.hexdigest()[:12]
