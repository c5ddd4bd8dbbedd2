"""Writer: a log observer that writes each event to a file, whatever the file's encoding and state.

Must not live here: the format of an event (:mod:`wsrelay.logs.observers`), rotation (:mod:`wsrelay.logs.files`).
"""

import errno
import io
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, cast

from twisted.logger import ILogObserver, LogEvent, LogLevel
from zope.interface import implementer

from wsrelay.logs.files import LogFile, complain

__all__ = ["Writer"]


@implementer(ILogObserver)
class Writer:
    r"""Writes events.

    Characters that the file's encoding lacks are escaped as ``\xe9`` or ``\u20ac``. A failed write loses its event, and
    nothing else: the first one is reported on stderr, and the first line after an outage has the number of lost events.

    Args:
        file: a text or binary file; ``None``: nothing is written, as where stdout was closed at start.
        form: returns an event's text with its line ends, or ``None`` for no text.
    """

    def __init__(self, file: IO[str] | IO[bytes] | LogFile | None, form: Callable[[LogEvent], str | None]) -> None:
        self._form = form
        self._file = file  # kept, or it would close its descriptor, which is written to without it
        self._encoding: str = getattr(file, "encoding", None) or "utf-8"
        self._put = _put_of(file, self._encoding)
        self._lost = 0
        self._why = ""
        self._is_reported = False

    def __call__(self, event: LogEvent) -> None:
        """Write an event. See :class:`twisted.logger.ILogObserver`."""
        text = self._form(event)
        if not text:
            return
        if self._lost:
            text = self._outage() + text
        try:
            self._put(text.encode(self._encoding, "backslashreplace"))
        except (OSError, ValueError) as error:  # ValueError: the file is closed
            self._lose(str(error))
        else:
            self._lost = 0

    def _lose(self, why: str) -> None:
        self._lost, self._why = self._lost + 1, why
        if not self._is_reported:
            self._is_reported = True
            complain(f"the log cannot be written, the relay goes on without: {why}")

    def _outage(self) -> str:
        said = "{count} log events before this one were lost: {why}"
        head: LogEvent = {"log_time": time.time(), "log_level": LogLevel.error, "log_namespace": "wsrelay"}
        return self._form({**head, "log_format": said, "count": self._lost, "why": self._why}) or ""


def _put_of(file: IO[str] | IO[bytes] | LogFile | None, encoding: str) -> Callable[[bytes], object]:
    """Return what writes bytes to a file: past its buffers, which would keep and repeat what could not be written."""
    if file is None:
        return len
    if isinstance(file, LogFile):
        return _Raw(file).put
    buffer = getattr(file, "buffer", file)
    raw = getattr(buffer, "raw", buffer)
    if isinstance(raw, io.RawIOBase):
        with suppress(OSError, ValueError):
            file.flush()  # what was printed before
        return _Raw(raw).put
    if isinstance(file, io.TextIOBase):
        return lambda data: file.write(data.decode(encoding))
    return cast("IO[bytes]", file).write  # Twisted's LogFile


class _Raw:
    """Writes whole pieces to an unbuffered file."""

    def __init__(self, raw: io.RawIOBase | LogFile) -> None:
        self._raw = raw
        self._is_torn = False

    def put(self, data: bytes) -> None:
        """Write all bytes; after a torn line begin a new one.

        Raises:
            OSError: not all were written.
        """
        left = memoryview(b"\n" + data if self._is_torn else data)
        while left:
            written = self._raw.write(left)
            if written is None:  # a full pipe that another process has made non-blocking
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            left = left[written:]
            self._is_torn = len(left) > 0
