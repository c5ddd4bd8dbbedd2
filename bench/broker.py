"""A broker for measurements: a redis-server of our own, without persistence, on a Unix socket, and a small client.

Lives here: start, stop, commands one after the other. Must not live here: what is measured with it.
"""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import processes

#: No file is ever written: what is measured is the log of messages, not a disk.
COMMAND = ("redis-server", "--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no")

#: The name of its socket in its folder, and a bound on every answer.
SOCKET = "broker.sock"
ANSWER_SECONDS = 30

READ_BYTES = 1 << 20

Word = bytes | str | int


def command(folder: Path) -> list[str]:
    """Return what starts a broker in a folder."""
    return [*COMMAND, "--dir", str(folder), "--unixsocket", str(folder / SOCKET)]


def await_broker(process: subprocess.Popen, path: Path, log: Path) -> None:
    """Wait until a broker accepts connections.

    Raises:
        processes.FailedError: it ended, or did not within `processes.START_SECONDS`.
    """
    deadline = time.monotonic() + processes.START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise processes.FailedError(f"redis-server ended with {process.returncode}:\n{processes.tail(log)}")
        with socket.socket(socket.AF_UNIX) as client:
            if client.connect_ex(str(path)) == 0:
                return
        time.sleep(processes.POLL_SECONDS)
    raise processes.FailedError(f"redis-server did not listen within {processes.START_SECONDS} s")


@contextmanager
def running(core: int) -> Iterator[tuple[int, Path]]:
    """Run a broker on one core while the block runs.

    Yields:
        Its process id and its socket.

    Raises:
        processes.FailedError: it did not start.
    """
    folder = Path(tempfile.mkdtemp(prefix="broker-"))
    log = folder / "broker.log"
    try:
        with log.open("wb") as output, processes.running(command(folder), core, folder, {}, output, output) as process:
            await_broker(process, folder / SOCKET, log)
            yield process.pid, folder / SOCKET
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Client:
    """A blocking connection to a broker.

    Args:
        path: of its socket.
    """

    def __init__(self, path: Path) -> None:
        import hiredis  # noqa: PLC0415 - this module is imported where there is none, too

        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(ANSWER_SECONDS)
        self.socket.connect(str(path))
        self._reader = hiredis.Reader()
        self._pack = hiredis.pack_command

    def send(self, *words: Word) -> None:
        """Send a command, whose reply is read later."""
        self.socket.sendall(self._pack(words))

    def reply(self) -> Any:  # what Redis replies has no one type
        """Return the next reply; errors are raised.

        Raises:
            processes.FailedError: an error reply, or the end of the connection.
        """
        while (reply := self._reader.gets()) is False:
            data = self.socket.recv(READ_BYTES)
            if not data:
                raise processes.FailedError("the broker closed the connection")
            self._reader.feed(data)
        if isinstance(reply, Exception):
            raise processes.FailedError(f"the broker replied: {reply}")
        return reply

    def __call__(self, *words: Word) -> Any:  # see reply
        """Send a command and return its reply."""
        self.send(*words)
        return self.reply()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()


def used_bytes(client: Client, key: str = "used_memory") -> int:
    """Return a figure of INFO."""
    lines = client("INFO").decode().splitlines()
    return next(int(line.partition(":")[2]) for line in lines if line.startswith(f"{key}:"))
