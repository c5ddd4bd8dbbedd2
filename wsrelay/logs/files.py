"""LogFile: the file of ``--log-file``, rotated by size and opened again after logrotate has moved it.

Twisted's LogFile is not opened with O_APPEND, so that ``copytruncate`` leaves a hole of NULs, and is closed for good by
a rename that fails; the standard library's loses each line after such a rename (TRAPS 100). Must not live here: the
format of lines (:mod:`wsrelay.logs.observers`), failed writes (:mod:`wsrelay.logs.writer`).
"""

import io
import os
import stat
import sys
from contextlib import suppress
from itertools import pairwise
from typing import Final

from wsrelay.errors import SettingsError

__all__ = ["LogFile", "check_log_file", "complain"]

#: Permissions of a new log file, less the umask: it has addresses and identities of clients.
_MODE: Final = 0o640


class LogFile:
    """A log file. Unbuffered, so that a failed write leaves nothing behind.

    Args:
        path: the file; a relative path is resolved once. Created with mode 0640, less the umask; an existing file is
            appended to. A pipe, also as ``/dev/stdout``, loses lines when it is full, and does not block.
        max_bytes: the size beyond which it is rotated; 0: never. A device, a pipe or a symbolic link, such as
            ``/dev/stdout``, is never rotated.
        kept: how many rotated files are kept: ``path.1`` is the newest. 0: the file is emptied instead.

    Raises:
        OSError: from the constructor: it cannot be opened.
    """

    def __init__(self, path: str, max_bytes: int = 0, kept: int = 0) -> None:
        self._path = os.path.abspath(path)  # the folder may change: twistd --rundir
        self._max_bytes = self._rotate_at = max_bytes
        self._kept = kept
        self._file = self._open()

    def write(self, data: memoryview) -> int | None:
        """Append data, after a rotation if the file would become too large.

        A failed rotation is reported on stderr once, and is tried again after another ``max_bytes``.

        Returns:
            The number of bytes written; ``None``: none, a pipe is full.

        Raises:
            OSError: nothing was written.
        """
        if self._max_bytes:
            status = os.fstat(self._file.fileno())  # not counted here: logrotate's copytruncate changes it
            if status.st_size and status.st_size + len(data) > self._rotate_at and stat.S_ISREG(status.st_mode):
                self._rotate(status.st_size)
        return self._file.write(data)

    def reopen(self) -> None:
        """Open the path again: logrotate has moved the old file away.

        Raises:
            OSError: it cannot be opened; the old file is written on.
        """
        old, self._file = self._file, self._open()
        old.close()

    def close(self) -> None:
        """Close it."""
        self._file.close()

    def _open(self) -> io.FileIO:
        opener = lambda path, flags: os.open(path, flags | os.O_NONBLOCK, _MODE)  # noqa: E731
        return io.FileIO(self._path, "a", opener=opener)

    def _rotate(self, size: int) -> None:
        try:
            if self._kept:
                self._shift()
                self.reopen()
            else:
                self._file.truncate(0)
            self._rotate_at = self._max_bytes
        except OSError as error:
            if self._rotate_at == self._max_bytes:
                complain(f"the log file grows beyond --log-file-bytes, because it cannot be rotated: {error}")
            self._rotate_at = size + self._max_bytes

    def _shift(self) -> None:
        """Rename each file to the next number; the oldest is overwritten."""
        if os.path.islink(self._path):  # /dev/stdout would be renamed for the whole machine
            raise OSError(f"{self._path} is a symbolic link")
        names = [self._path, *(f"{self._path}.{number}" for number in range(1, self._kept + 1))]
        for old, new in reversed(list(pairwise(names))):
            with suppress(FileNotFoundError):  # moved away, or not that many yet
                os.replace(old, new)


def check_log_file(path: str) -> None:
    """Check that a log file can be opened, without creating it; ``""`` is no file.

    Raises:
        SettingsError: it cannot.
    """
    if not path:
        return
    folder = os.path.dirname(os.path.abspath(path))
    place = path if os.path.exists(path) else folder
    why = ""
    if os.path.isdir(path):
        why = "it is a folder; name a file in it"
    elif not os.path.isdir(folder):
        why = f"there is no folder {folder}; make it, or name a file elsewhere"
    elif not os.access(place, os.W_OK):
        why = f"no permission to write to {place}; give it to the relay's user (chown), or name a file elsewhere"
    if why:
        raise SettingsError([f"log-file: {path}: {why}"])


def complain(what: str) -> None:
    """Say on the process's own stderr that something is wrong with the log; in a daemon, that is nowhere."""
    if sys.__stderr__ is not None:  # closed at start; its number may be a client's by now
        with suppress(OSError, ValueError):
            os.write(sys.__stderr__.fileno(), f"wsrelay: {what}\n".encode(errors="backslashreplace"))
