"""Crowds of clients from many addresses: plain sockets that do not block, and nothing that waits for one of them.

A crowd is all of 127.0.0.0/8 that it likes to be: each of these addresses is another client to the relay.
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

#: After as many connects, those that came before are looked after.
_STRETCH = 32

#: With SO_LINGER: closing is a reset.
_RESET = struct.pack("ii", 1, 0)


class Crowd:
    """Clients that come all at once. Use it as a context manager; leaving closes their sockets.

    Args:
        port: where to.
        hosts: where from, one for each client.
        rooms: the rooms that they enter, in turn; none are clients that never say anything.
        header: what each sends before its request.

    Attributes:
        statuses: how often which answer came: a status, or 0 for an end without any.
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
        """Return how many are connected, or wait for an answer."""
        return len(self._selector.get_map())

    def come(self) -> None:
        """Connect, all of them; those that have rooms go on to them meanwhile."""
        for number, host in enumerate(self._hosts):
            connection = socket.socket()
            connection.setblocking(False)
            # A port is chosen when it connects, so that each address has all of them.
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
        """Look after those for whom something has happened; wait for that no longer than this."""
        for key, _ in self._selector.select(seconds):
            connection: socket.socket = key.fileobj  # type: ignore[assignment]  # it is what was registered
            if key.events == selectors.EVENT_WRITE:
                self._ask(connection, key.data)
            else:
                self._listen(connection)

    def await_answers(self, count: int) -> None:
        """Wait until as many have been answered, or have seen the end."""
        deadline = time.monotonic() + 2 * live.SECONDS
        while self.statuses.total() < count:
            assert time.monotonic() < deadline, f"of {count} no more were answered than {self.statuses}"
            self.turn()

    def reset(self) -> None:
        """End all of them with a reset."""
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
        """Count an answer; who has none to hope for any more is closed."""
        self.statuses[int(data[9:12]) if data.startswith(b"HTTP/1.1 ") else 0] += 1
        self._selector.unregister(connection)
        if not data.startswith(b"HTTP/1.1 101 "):
            connection.close()
