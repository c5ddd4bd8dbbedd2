"""The standard streams of a command: closed ones, a full disk, a reader that went away.

Must not live here: what is printed.
"""

import os
import sys
from contextlib import suppress
from typing import Final, TextIO

__all__ = ["fill_closed", "say_failed", "silence"]

#: Stream → its descriptor, and how ``/dev/null`` is opened there. Input and output fail then, as closed ones do: what
#: was asked for cannot be done. Words on standard error are only not seen.
_DESCRIPTORS: Final = {"stdin": (0, os.O_WRONLY), "stdout": (1, os.O_RDONLY), "stderr": (2, os.O_WRONLY)}


def fill_closed() -> None:
    """Take the places of standard streams that are closed (``>&-``), or the next file or socket would have them."""
    for name, (descriptor, flags) in _DESCRIPTORS.items():
        if getattr(sys, name) is None and os.open(os.devnull, flags) == descriptor:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - for the whole run


def say_failed(name: str, error: OSError) -> int:
    """Say that a command could not read or write, without a word where nobody reads any more; return its exit code.

    Args:
        name: of the program and the command.
        error: why; without a file name, it is about a standard stream.
    """
    with suppress(OSError):
        silence(sys.stdout)
    if not isinstance(error, BrokenPipeError):
        what = error.filename or "cannot read or write"
        with suppress(OSError):
            print(f"{name}: {what}: {error.strerror or error}", file=sys.stderr, flush=True)  # noqa: T201
    return 1


def silence(stream: TextIO) -> None:
    """Drop what could not be written, or the exit of the process would try again.

    Raises:
        OSError: the stream has no descriptor.
    """
    void = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(void, stream.fileno())
    finally:
        os.close(void)
