"""`eventlog acl`: what the server should let each kind of program do."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated

import typer

from eventlog.errors import ConfigurationError
from eventlog.settings import Settings, change_settings
from service.acl import PURPOSES, ROLES, Role, user_line
from service.cli.options import examples, settings_of
from service.cli.output import say

_USER = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "eventlog acl",
            "eventlog acl worker --log support-bot --password-file worker.password",
            "eventlog acl >> /etc/valkey/users.acl",
        )
    )(acl)


def acl(
    context: typer.Context,
    role: Annotated[
        Role | None, typer.Argument(help=f"{', '.join(ROLES)}; without one: all of them.")
    ] = None,
    log: Annotated[
        str | None, typer.Option(help="Which log on the server; else the settings' key_prefix.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Its name there; else LOG-ROLE.")] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(help="Whose first line is the password; its SHA-256 is what is printed."),
    ] = None,
    before_7_2: Annotated[
        bool,
        typer.Option("--before-7.2", help="For Redis 7.0 and 7.1: without commands they lack."),
    ] = False,
) -> None:
    """Print the rights that a program needs on the server, as lines of its ACL file.

    Without a password file nobody can log in as that user until you add one (`>PASSWORD`).
    """
    name = (
        settings_of(context).key_prefix
        if log is None
        else change_settings(Settings(), key_prefix=log).key_prefix
    )
    if user is not None and not _USER.fullmatch(user):
        raise ConfigurationError(
            f"{user!r} is no name for a user.",
            remedy="Take letters, digits, `_`, `.`, `:` and `-`.",
        )
    if role is None and (user or password_file):
        raise ConfigurationError(
            "a name and a password are for one user.", remedy=f"Name one of {', '.join(ROLES)}."
        )
    digest = None if password_file is None else _digest(password_file)
    for each in [role] if role else ROLES:
        typer.echo(user_line(each, name, user or f"{name}-{each}", digest, before_7_2=before_7_2))
        say(f"{each}: {PURPOSES[each]}", "dim")


def _digest(path: Path) -> str:
    try:
        password = path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read a password from {path}: {error}.") from None
    if not password:
        raise ConfigurationError(f"the first line of {path} is empty.", remedy="Write it there.")
    return hashlib.sha256(password.encode()).hexdigest()
