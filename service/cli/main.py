"""The command line: global options, and every error in one line."""

from __future__ import annotations

import os
import sys
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from eventlog.errors import ConfigurationError, EventLogError, InvalidQuery
from eventlog.settings import load_settings, mask_url
from service.cli.commands import Commands
from service.cli.options import examples
from service.cli.output import FAILED, OK, WRONG_USAGE, OutputClosed, one_line, say
from service.telemetry import configure_logs

app = typer.Typer(
    name="eventlog",
    cls=Commands,
    help="An event-sourced message log for chat bots and AI-agent bridges.",
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    epilog=examples(
        "eventlog demo",
        "eventlog import logs/",
        "eventlog --url redis://localhost:6379 up",
        also="Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 done but something was"
        " left out or needs attention, 130 interrupted, 143 terminated.",
    ),
)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(help="Server of your own, redis://…; else REDIS_URL; else the embedded one."),
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="Home of the embedded server and the archive.")
    ] = None,
    key_prefix: Annotated[str | None, typer.Option(help="Which log on the server.")] = None,
    archive_dir: Annotated[
        str | None, typer.Option(help="Home of the Parquet segments, or s3://BUCKET/PREFIX.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings file; else ./eventlog.toml.")
    ] = None,
) -> None:
    """Read the settings: option > environment > file > default."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        return
    configure_logs()
    # Read when a command asks for them: `--help` works whatever they say.
    context.obj = partial(
        load_settings,
        file=config,
        url=url,
        data_dir=data_dir,
        key_prefix=key_prefix,
        archive_dir=archive_dir,
    )


def main() -> None:
    """Run the command and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a chat may hold what the locale has no sign for
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Return the exit code of the command line given."""
    if any("\udc80" <= sign <= "\udcff" for word in arguments for sign in word):
        return _fail(WRONG_USAGE, "an argument is not valid UTF-8.")  # as Python marks such bytes
    try:
        code = app(args=arguments, prog_name="eventlog", standalone_mode=False)
        sys.stdout.flush()
    except (OutputClosed, BrokenPipeError):
        # Keep the interpreter from complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "eventlog"
        reason = error.format_message().rstrip(".")
        return _fail(WRONG_USAGE, f"{reason}. Try `{command} --help`.")
    except (ConfigurationError, InvalidQuery) as error:
        return _fail(WRONG_USAGE, str(error))
    except EventLogError as error:
        return _fail(FAILED, str(error))
    except OSError as error:
        return _fail(FAILED, f"{error.filename or 'input or output'}: {error.strerror or error}.")
    return code if isinstance(code, int) else OK


def _fail(code: int, reason: str) -> int:
    say(f"error: {one_line(mask_url(reason))}", "red")
    return code
