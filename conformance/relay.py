"""Start the relay that is under test, learn its port, and stop it.

Lives here: one process of ``twistd wsrelay`` and its log. Must not live here: the testsuite, its
cases and verdicts.

Sequence: ``start(profile, log, folder)`` gives a `Relay`; ``url()`` waits until it listens; ``stop()`` ends
it, always, and says what was wrong with its end.
"""

import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

#: What the relay says when it listens. Only whole lines count, so that no half-written port is read.
LISTENING = re.compile(r"ws://127\.0\.0\.1:([1-9][0-9]*)\b.*\n")

#: The room of the test; every case joins it anew.
ROOM = "conformance"

#: Bounds: from start to port, for one connection attempt, from SIGTERM to exit, between two looks.
START_SECONDS = 30
CONNECT_SECONDS = 5
STOP_SECONDS = 20
POLL_SECONDS = 0.05

TAIL_LINES = 20


class NotListeningError(Exception):
    """There is no server to test; the text says why, with the end of its log when it is ours."""


@dataclass
class Relay:
    """A running relay.

    Attributes:
        process: twistd, which does not daemonize.
        log: the file with all that it prints.
    """

    process: "subprocess.Popen[bytes]"
    log: Path

    def url(self) -> str:
        """Wait until the relay says where it listens, and give the address of the test's room there.

        Raises:
            NotListeningError: the relay ended, or did not say so within `START_SECONDS`.
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
        """End the relay with SIGTERM, or with SIGKILL when it has not ended within `STOP_SECONDS`.

        Returns:
            What was wrong, in a list of lines: empty when the relay ran until now and ended as it should.
        """
        if self.process.poll() is not None:
            return [f"the relay ended with {self.process.returncode} before it was stopped, see {self.log}"]
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return [f"the relay was killed: it had not ended {STOP_SECONDS} s after SIGTERM, see {self.log}"]
        finally:
            # Also on a second Ctrl-C. Does nothing to a process that has ended.
            self.process.kill()
            self.process.wait()
        if self.process.returncode == 0:
            return []
        return [f"the relay ended with {self.process.returncode} on SIGTERM, see {self.log}"]


def start(profile: Path, log: Path, folder: Path) -> Relay:
    """Start the relay of the environment that runs us, on a port of the kernel's choice.

    Args:
        profile: the relay's configuration file.
        log: gets all that the relay prints; overwritten.
        folder: its working directory, which should be empty, so that the *installed* relay is what runs.
    """
    listen = ["--config", str(profile), "--listen", "tcp:0:interface=127.0.0.1"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*_twistd(), "--nodaemon", "--pidfile=", "wsrelay", *listen],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C is for us, who then stop it in order.
            start_new_session=True,
        )
    return Relay(process, log)


def _twistd() -> list[str]:
    """Give the twistd beside our interpreter, or its function where there is no such script."""
    script = Path(sys.executable).with_name("twistd")
    if script.is_file():
        return [str(script)]
    return [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]


def await_port(url: str) -> None:
    """Make sure that something accepts connections at an address.

    Raises:
        NotListeningError: nothing does, or not within `CONNECT_SECONDS`.
    """
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), CONNECT_SECONDS).close()
    except OSError as failure:
        raise NotListeningError(f"nothing listens at {url}: {failure}") from failure


def tail(log: Path) -> str:
    """Give the last lines of a log, indented."""
    lines = log.read_text("utf-8", errors="replace").splitlines()[-TAIL_LINES:]
    return "\n".join(f"    {line}" for line in lines)
