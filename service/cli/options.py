"""Options that several commands share, and how a command runs."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any, TypeVar

import typer

from eventlog.collector import spared_collector
from eventlog.errors import ConfigurationError
from eventlog.settings import Settings

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one document a line.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="How many to show at most.")]
CursorOption = Annotated[
    str | None, typer.Option("--cursor", help="Go on where a page ended: its last line says how.")
]
ByPartition = Annotated[bool, typer.Option("--partitions", help="A line for each partition.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
ProjectionName = Annotated[
    str, typer.Argument(help="A projection: `eventlog projections` lists them.")
]
NamedProjections = Annotated[
    list[str] | None,
    typer.Option(
        "--projection",
        metavar="MODULE:OBJECT",
        help="A projection of your own, beside those of installed packages; may be repeated.",
    ),
]
HttpHost = Annotated[str | None, typer.Option("--host", help="Where HTTP listens; else http_host.")]
HttpPort = Annotated[
    int | None,
    typer.Option("--port", min=0, max=65535, help="Its port, 0 for any; else http_port."),
]

MetricsAddress = Annotated[
    str | None,
    typer.Option(
        metavar="[127.0.0.1:]PORT",
        help="Serve /metrics and /health there, to this machine alone.",
    ),
]


def examples(*lines: str, also: str = "") -> str:
    """Return the end of a command's help: its examples, one a line."""
    listed = "\n".join(f"- `{line}`" for line in lines)
    return f"Examples:\n\n{listed}\n\n{also}".rstrip()


def settings_of(context: typer.Context) -> Settings:
    """Return the settings that the global options gave. Raises ConfigurationError."""
    load: Callable[[], Settings] = context.obj
    return load()


def is_bare(context: typer.Context) -> bool:
    """Return whether a group of commands was called without one of them.

    Raises ConfigurationError for options before one: they would count for nothing.
    """
    if context.invoked_subcommand is None:
        return True
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise ConfigurationError(
                f"an option stands before {context.invoked_subcommand!r}.",
                remedy="Give options after the command.",
            )
    return False


def run(work: Coroutine[Any, Any, T]) -> T:
    """Return what the command's work returns; leave with 128 + the signal where one ended it.

    Ctrl-C, SIGTERM and a closed terminal cancel it, so that it lets go of everything; the embedded
    server above all, which would outlive this process.
    """
    received: list[int] = []
    try:
        with spared_collector():
            return asyncio.run(_stoppable(work, received))
    except asyncio.CancelledError:
        if not received:
            raise
        raise typer.Exit(128 + received[0]) from None


_cancel: ContextVar[Callable[[int], object]] = ContextVar("_cancel")
"""Cancels the command that runs, because of a signal."""


async def _stoppable(work: Coroutine[Any, Any, T], received: list[int]) -> T:
    task = asyncio.current_task()
    assert task is not None

    def cancel(number: int) -> None:
        received.append(number)
        task.cancel()

    _cancel.set(cancel)
    on_first_signal(cancel)
    return await work


def on_first_signal(call: Callable[[int], object]) -> None:
    """Call back at the first signal to stop; a second one cancels the command, a third ends it.

    The loop calls, not the interpreter in the midst of anything: the work then stands at an await.
    """
    loop = asyncio.get_running_loop()
    cancel = _cancel.get()

    def first(number: int) -> None:
        if call is cancel:
            _let_signals_end(loop)
        else:
            _handle_signals(loop, second)
        call(number)

    def second(number: int) -> None:
        _let_signals_end(loop)
        cancel(number)

    _handle_signals(loop, first)


@contextmanager
def on_ctrl_c(call: Callable[[int], object]) -> Iterator[None]:
    """Call back at each Ctrl-C within the block, where it would cancel the command elsewhere."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, call, signal.SIGINT)
    try:
        yield
    finally:
        on_first_signal(_cancel.get())


def _handle_signals(loop: asyncio.AbstractEventLoop, handler: Callable[[int], None]) -> None:
    for number in _SIGNALS:
        loop.add_signal_handler(number, handler, number)


def _let_signals_end(loop: asyncio.AbstractEventLoop) -> None:
    """Let the next signal end the process at once."""
    for number in _SIGNALS:
        loop.remove_signal_handler(number)
    # A KeyboardInterrupt amid the loop's own work may lose a wakeup: what waits for it never ends.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
