"""The relay, watched: with a log for machines, an admin endpoint, and somebody who asks for everything each second.

Usage: ``watched.py twistd -n … wsrelay …``. This process becomes the relay; its child asks, on the same core, until the
relay has gone. Prometheus asks every 15 s unless it is told otherwise.
"""

import http.client
import os
import socket
import sys
import time

ADMIN = "admin.sock"
EVERY_SECONDS = 1.0


class Connection(http.client.HTTPConnection):
    """HTTP on the admin endpoint's socket."""

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(ADMIN)


def ask(path: str) -> None:
    """Ask once; what is not there yet, or not any more, is nothing."""
    try:
        connection = Connection("localhost", timeout=5)
        connection.request("GET", path)
        connection.getresponse().read()
    except OSError:
        pass


def main() -> None:
    """Fork: one of both asks, the other one runs the relay."""
    relay = os.getpid()
    if os.fork():
        os.execvp(sys.argv[1], [*sys.argv[1:], "--admin", f"unix:{ADMIN}", "--log-format", "json"])  # noqa: S606 - as it says
    while os.getppid() == relay:
        time.sleep(EVERY_SECONDS)
        for path in ("/metrics", "/readyz", "/rooms"):
            ask(path)


if __name__ == "__main__":
    main()
