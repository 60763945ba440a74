"""SQL of the command line, in files of its own."""

from __future__ import annotations

from importlib.resources import files


def load_query(name: str) -> str:
    """Return the text of `service/sql/NAME.sql`."""
    return files("service").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
