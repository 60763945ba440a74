"""Asking before something that cannot be taken back."""

from __future__ import annotations

import signal
import sys

import typer

from eventlog.errors import ConfigurationError
from service.cli.output import FAILED, clean, errors, say


def confirm(question: str, *, yes: bool) -> None:
    """Return if it may be done: `yes` was given, or somebody at a terminal says so.

    Leaves the command where that one declines. Raises ConfigurationError where there is nobody.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError(
            f"{question} There is no terminal to answer on.", remedy="Add --yes to do it."
        )
    # The loop's own handler would run only after the answer.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        is_meant = typer.confirm(clean(question), err=True)
    except typer.Abort:  # Ctrl-C, or the end of input
        errors.print()
        is_meant = False
    finally:
        signal.signal(signal.SIGINT, handler)
    if not is_meant:
        say("nothing is changed")
        raise typer.Exit(FAILED)
