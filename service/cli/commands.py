"""The commands by name, each imported when it is asked for: none waits for the others' libraries."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

MODULES: Mapping[str, str] = {
    "demo": "demo",
    "up": "running",
    "serve": "serving",
    "worker": "working",
    "import": "importing",
    "history": "looking",
    "tail": "looking",
    "sessions": "looking",
    "status": "looking",
    "dead-letters": "lettering",
    "groups": "grouping",
    "query": "querying",
    "report": "reporting",
    "sql": "shell",
    "projections": "projecting",
    "poll": "polling",
    "archive": "archiving",
    "backup": "backing_up",
    "restore": "backing_up",
    "erase": "erasing",
    "retention": "retaining",
    "doctor": "doctor",
    "metrics": "measuring",
    "acl": "granting",
}
"""Command → the module under `service.cli` whose `register` adds it, in the order of the help."""


class Commands(TyperGroup):
    """The group that imports them."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is typer's
        """Return all names."""
        return list(MODULES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - as above
        """Return the command of that name; where there is none all are there to suggest one from."""
        module = MODULES.get(cmd_name)
        if cmd_name not in self.commands:
            self.commands.update(get_group(registered(*[module] if module else ())).commands)
        return self.commands.get(cmd_name)


def registered(*modules: str) -> typer.Typer:
    """Return an application with the commands of these modules, of all where none is named."""
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode="markdown")
    for module in modules or dict.fromkeys(MODULES.values()):
        import_module(f"service.cli.{module}").register(app)
    return app
