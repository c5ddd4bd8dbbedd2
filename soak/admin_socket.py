"""Ask a relay's admin endpoint on a Unix socket."""

import http.client
import socket
from pathlib import Path

#: Bound on an answer.
SECONDS = 20


class Admin(http.client.HTTPConnection):
    """HTTP on the relay's admin socket.

    Args:
        path: of the socket.
    """

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def fetch(path: Path, of: str) -> tuple[int, str]:
    """Return status and content of a path of the admin endpoint; status 0 where it does not answer."""
    connection = Admin(path)
    try:
        connection.request("GET", of)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


def status(path: Path, of: str = "/readyz") -> int:
    """Return the status of a path of the admin endpoint; 0 where it does not answer."""
    return fetch(path, of)[0]


def metrics(path: Path) -> dict[str, float]:
    """Return all metrics, by name with labels; empty where it does not answer."""
    lines = fetch(path, "/metrics")[1].splitlines()
    pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}
