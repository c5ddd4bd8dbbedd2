"""BackEnd: a back end of the ``http`` validator that misbehaves, as the room's name says."""

import re
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

#: An answer that allows.
ALLOW = b"HTTP/1.1 204 Yes\r\n\r\n"

#: The beginning of a room's name → the answer; ``None``: no answer, until the relay ends the connection.
ANSWERS: dict[str, bytes | None] = {
    "hooked/slow": None,
    "hooked/mute": b"",
    "hooked/half": b"HTTP/1.1 200 OK\r\nContent-Le",
    "hooked/head": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
    "hooked/body": b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"',
    "hooked/other": b"SSH-2.0-secret\r\n",
}


class BackEnd:
    """A server with one thread per connection. A context manager: leaving ends it.

    Args:
        answers_per_connection: after so many, it ends the connection at the next question, unanswered.

    Attributes:
        most_connections: the maximum number of connections so far.
        unanswered: the number of questions that it does not answer, so far.
    """

    def __init__(self, answers_per_connection: int = 2**30) -> None:
        self._answers_per_connection = answers_per_connection
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self.most_connections = 0
        self.unanswered = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self._port}/"

    def __enter__(self) -> Self:
        """Return itself."""
        self._port = self._listening.getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def connections(self) -> int:
        """The number of connections."""
        return len(self._connections)

    def stop(self) -> None:
        """End all connections, and take no more."""
        with self._lock:
            for each in (self._listening, *self._connections):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)  # wakes its thread
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.add(connection)
            self.most_connections = max(self.most_connections, len(self._connections))
        with suppress(OSError), connection:
            for number in range(self._answers_per_connection + 1):
                room = self._question(connection)
                answer = next((said for start, said in ANSWERS.items() if room.startswith(start)), ALLOW)
                if answer is None:
                    self.unanswered += 1
                    connection.recv(1)
                if answer != ALLOW or number == self._answers_per_connection:
                    connection.sendall(answer if answer and answer != ALLOW else b"")
                    break
                connection.sendall(ALLOW)
        with self._lock:
            self._connections.remove(connection)

    def _question(self, connection: socket.socket) -> str:
        data = b""
        while (found := re.search(rb'\r\n\r\n.*"room":"([^"]*)".*}\Z', data, re.DOTALL)) is None:
            received = connection.recv(65536)
            if not received:
                raise OSError("the relay has ended the connection")
            data += received
        return found[1].decode()
