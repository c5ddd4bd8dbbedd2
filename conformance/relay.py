"""Start the relay under test, get its port, and stop it.

Lives here: one process of ``twistd wsrelay`` and its log. Must not live here: the testsuite, its cases and verdicts.

Sequence: ``start(profile, log, folder)`` gives a `Relay`; ``url()`` waits until it listens; ``stop()`` always ends it
and returns the faults of its end.
"""

import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

#: Log line with the relay's port. Only whole lines match, so that no partial port is read.
LISTENING = re.compile(r"ws://127\.0\.0\.1:([1-9][0-9]*)\b.*\n")

#: The room of all cases.
ROOM = "conformance"

#: Seconds: bounds on start, on a connection attempt and on the stop; interval of polls.
START_SECONDS = 30
CONNECT_SECONDS = 5
STOP_SECONDS = 20
POLL_SECONDS = 0.05

TAIL_LINES = 20


class NotListeningError(Exception):
    """There is no server to test; the message says why, with the end of the relay's log."""


@dataclass
class Relay:
    """A running relay.

    Attributes:
        process: twistd, which does not daemonize.
        log: the file with its output.
    """

    process: "subprocess.Popen[bytes]"
    log: Path

    def url(self) -> str:
        """Wait until the relay listens, and return the URL of the room.

        Raises:
            NotListeningError: the relay ended, or did not listen within `START_SECONDS`.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            found = LISTENING.search(self.log.read_text("utf-8", errors="replace"))
            if found:
                return f"ws://127.0.0.1:{found[1]}/{ROOM}"
            if self.process.poll() is not None:
                code = self.process.returncode
                raise NotListeningError(f"the relay ended with {code} at its start:\n{tail(self.log)}")
            time.sleep(POLL_SECONDS)
        raise NotListeningError(f"the relay named no port within {START_SECONDS} s:\n{tail(self.log)}")

    def stop(self) -> list[str]:
        """Stop the relay with SIGTERM, and with SIGKILL after `STOP_SECONDS`.

        Returns:
            Faults, one per line; empty if the relay was running and exited with 0.
        """
        if self.process.poll() is not None:
            return [f"the relay ended with {self.process.returncode} before it was stopped, see {self.log}"]
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return [f"the relay was killed: it had not ended {STOP_SECONDS} s after SIGTERM, see {self.log}"]
        finally:
            # Also on a second Ctrl-C. No effect on an ended process.
            self.process.kill()
            self.process.wait()
        if self.process.returncode == 0:
            return []
        return [f"the relay ended with {self.process.returncode} on SIGTERM, see {self.log}"]


def start(profile: Path, log: Path, folder: Path) -> Relay:
    """Start the relay of the running Python's environment, on a free port.

    Args:
        profile: the relay's configuration file.
        log: file for its output; overwritten.
        folder: its working directory; empty, so that the *installed* relay runs.
    """
    listen = ["--config", str(profile), "--listen", "tcp:0:interface=127.0.0.1"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*_twistd(), "--nodaemon", "--pidfile=", "wsrelay", *listen],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches this process, which stops the relay.
            start_new_session=True,
        )
    return Relay(process, log)


def _twistd() -> list[str]:
    """Return the command of twistd: the script beside the interpreter, or else its function."""
    script = Path(sys.executable).with_name("twistd")
    if script.is_file():
        return [str(script)]
    return [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]


def await_port(url: str) -> None:
    """Check that a server accepts connections at an address.

    Raises:
        NotListeningError: no connection within `CONNECT_SECONDS`.
    """
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), CONNECT_SECONDS).close()
    except OSError as failure:
        raise NotListeningError(f"nothing listens at {url}: {failure}") from failure


def tail(log: Path) -> str:
    """Return the last lines of a log, indented."""
    lines = log.read_text("utf-8", errors="replace").splitlines()[-TAIL_LINES:]
    return "\n".join(f"    {line}" for line in lines)
