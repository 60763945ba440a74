"""Options that several commands share, and how a command runs."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

import typer

from eventlog.collector import spared_collector
from eventlog.settings import Settings

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one document a line.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="How many to show at most.")]
CursorOption = Annotated[
    str | None, typer.Option("--cursor", help="Go on where a page ended: its last line says how.")
]
ByPartition = Annotated[bool, typer.Option("--partitions", help="A line for each partition.")]
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


def examples(*lines: str, also: str = "") -> str:
    """Return the end of a command's help: its examples, one a line."""
    listed = "\n".join(f"- `{line}`" for line in lines)
    return f"Examples:\n\n{listed}\n\n{also}".rstrip()


def settings_of(context: typer.Context) -> Settings:
    """Return the settings that the global options gave. Raises ConfigurationError."""
    load: Callable[[], Settings] = context.obj
    return load()


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


async def _stoppable(work: Coroutine[Any, Any, T], received: list[int]) -> T:
    task = asyncio.current_task()
    assert task is not None

    def stop(number: int) -> None:
        received.append(number)
        task.cancel()

    on_first_signal(stop)
    return await work


def on_first_signal(call: Callable[[int], object]) -> None:
    """Call back at the first signal to stop; a second one ends the process at once.

    The loop calls, not the interpreter in the midst of anything: the work then stands at an await.
    """
    loop = asyncio.get_running_loop()

    def once(number: int) -> None:
        for each in _SIGNALS:
            loop.remove_signal_handler(each)
        call(number)

    for number in _SIGNALS:
        loop.add_signal_handler(number, once, number)
