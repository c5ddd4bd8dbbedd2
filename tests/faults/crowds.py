"""Crowds of clients from many addresses, on non-blocking sockets.

They use addresses of 127.0.0.0/8, each of which is a different client to the relay.
"""

import selectors
import socket
import struct
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests.harness import live
from tests.harness.clients import handshake
from wsrelay.net.descriptors import raise_limit

#: Connects between two turns for the earlier clients.
_STRETCH = 32

#: For SO_LINGER: closing resets the connection.
_RESET = struct.pack("ii", 1, 0)


class Crowd:
    """Clients that connect all at once. A context manager: leaving closes their sockets.

    Args:
        port: the relay's port.
        hosts: the source addresses, one per client.
        rooms: the rooms to join, in turn; empty: the clients send nothing.
        header: bytes before each request.

    Attributes:
        statuses: HTTP status → number of answers; 0 is an end without an answer.
    """

    def __init__(self, port: int, hosts: Sequence[str], rooms: Sequence[str] = (), header: bytes = b"") -> None:
        raise_limit()
        self.statuses: Counter[int] = Counter()
        self._port = port
        self._hosts = hosts
        self._requests = [header + handshake(room) for room in rooms]
        self._selector = selectors.DefaultSelector()
        self._connections: list[socket.socket] = []

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._selector.close()
        for connection in self._connections:
            connection.close()

    def __len__(self) -> int:
        """Return the number of clients that are connected or waiting for an answer."""
        return len(self._selector.get_map())

    def come(self) -> None:
        """Connect all; meanwhile, clients with rooms continue their handshakes."""
        for number, host in enumerate(self._hosts):
            connection = socket.socket()
            connection.setblocking(False)
            # The source port is chosen at the connect, so that each address has all ports.
            connection.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            connection.bind((host, 0))
            connection.connect_ex(("127.0.0.1", self._port))
            self._connections.append(connection)
            request = self._requests[number % len(self._requests)] if self._requests else b""
            events = selectors.EVENT_WRITE if request else selectors.EVENT_READ
            self._selector.register(connection, events, request)
            if number % _STRETCH == 0:
                self.turn(0)

    def turn(self, seconds: float = 0.1) -> None:
        """Serve the clients with events, waiting for those at most this long."""
        for key, _ in self._selector.select(seconds):
            connection: socket.socket = key.fileobj  # type: ignore[assignment]  # it is what was registered
            if key.events == selectors.EVENT_WRITE:
                self._ask(connection, key.data)
            else:
                self._listen(connection)

    def await_answers(self, count: int) -> None:
        """Wait until this many clients have got an answer or an end."""
        deadline = time.monotonic() + 2 * live.SECONDS
        while self.statuses.total() < count:
            assert time.monotonic() < deadline, f"of {count} no more were answered than {self.statuses}"
            self.turn()

    def reset(self) -> None:
        """Reset all connections."""
        for connection in self._connections:
            if connection.fileno() != -1:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                connection.close()

    def _ask(self, connection: socket.socket, request: bytes) -> None:
        try:
            connection.send(request)
        except OSError:
            self._answered(connection, b"")
        else:
            self._selector.modify(connection, selectors.EVENT_READ)

    def _listen(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(1000)
        except OSError:
            data = b""
        self._answered(connection, data)

    def _answered(self, connection: socket.socket, data: bytes) -> None:
        """Count an answer, and close a client that expects no other."""
        self.statuses[int(data[9:12]) if data.startswith(b"HTTP/1.1 ") else 0] += 1
        self._selector.unregister(connection)
        if not data.startswith(b"HTTP/1.1 101 "):
            connection.close()
