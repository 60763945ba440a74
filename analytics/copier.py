"""A process that copies segments: `python -m analytics.copier`, started by `Copiers`.

Each line of its input is a Copy as JSON, each line of its output how that went. It ends when its
input does, hence with the process that started it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import msgspec

from analytics.copying import Copied, Copy, Failed, copy_segment
from eventlog.codec import Codec
from eventlog.collector import spared_collector
from eventlog.errors import EventLogError


def main() -> None:
    """Copy until the input ends."""
    # Ctrl-C reaches every process of a terminal; the one that started this one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    codec = Codec()
    with spared_collector():
        for line in sys.stdin.buffer:
            copy = msgspec.json.decode(line, type=Copy)
            answer = _answer(copy, codec)
            try:
                os.write(sys.stdout.fileno(), msgspec.json.encode(answer) + b"\n")
            except BrokenPipeError:  # nobody is left to publish the file
                Path(copy.path).unlink(missing_ok=True)
                return


def _answer(copy: Copy, codec: Codec) -> Copied | Failed:
    try:
        end = copy_segment(copy, codec)
    except EventLogError as error:
        return Failed(error.message, error.code, error.remedy)
    except OSError as error:
        return Failed(error.strerror or str(error), errno=error.errno or 0)
    assert end is not None  # nobody here stops wanting it
    return Copied(end)


if __name__ == "__main__":
    main()
