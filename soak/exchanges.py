"""Thousands of connections in one thread: a loop over epoll, connections, HTTP exchanges.

For load from which asyncio would take more CPU than the relay. Must not live here: what is sent, and what is checked.
"""

import select
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

READ_BYTES = 1 << 18

#: socket.IP_BIND_ADDRESS_NO_PORT, which Python 3.11 has no name for: a port is in use per destination, not per address.
NO_PORT = 24

#: SO_LINGER that makes close() send RST.
RESET = struct.pack("ii", 1, 0)


class Loop:
    """Waits for all connections."""

    def __init__(self) -> None:
        self._poller = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}

    def __len__(self) -> int:
        """Return the number of connections."""
        return len(self._handlers)

    def add(self, descriptor: int, handler: Callable[[], None]) -> None:
        """Call the handler once the descriptor is connected, and later when it is readable; see `connected`."""
        self._handlers[descriptor] = handler
        self._poller.register(descriptor, select.EPOLLOUT)

    def connected(self, descriptor: int) -> None:
        """From now on wait for input."""
        self._poller.modify(descriptor, select.EPOLLIN)

    def remove(self, descriptor: int) -> None:
        """Forget a descriptor."""
        del self._handlers[descriptor]
        self._poller.unregister(descriptor)

    def turn(self, seconds: float) -> None:
        """Handle what is ready, or gets ready within some seconds."""
        for descriptor, _ in self._poller.poll(max(0.0, seconds)):
            handler = self._handlers.get(descriptor)
            if handler is not None:
                handler()

    def close(self) -> None:
        """Free the poller; all connections are closed before."""
        self._poller.close()


class Connection:
    """One connection: sends a request, then passes on what comes.

    Args:
        loop: of all connections.
        port: of the relay, on 127.0.0.1.
        request: short enough for the kernel's buffer.
        receive: takes what comes; ``b""`` is the end, after which the connection is closed.
        address: of the client.
    """

    __slots__ = ("_loop", "_receive", "_request", "_socket")

    def __init__(
        self, loop: Loop, port: int, request: bytes, receive: Callable[[bytes], None], address: str = "127.0.0.1"
    ) -> None:
        self._loop, self._request, self._receive = loop, request, receive
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_IP, NO_PORT, 1)
        self._socket.bind((address, 0))
        self._socket.connect_ex(("127.0.0.1", port))
        loop.add(self._socket.fileno(), self._ready)

    def send(self, data: bytes) -> None:
        """Send something short; a peer that does not take it has ended, which is read next."""
        with suppress(OSError):
            self._socket.send(data)

    def close(self, reset: bool = False) -> None:
        """Close by FIN, or by RST; no effect if it is closed."""
        if self._socket.fileno() >= 0:
            self._loop.remove(self._socket.fileno())
            if reset:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._socket.close()

    def _ready(self) -> None:
        try:
            if self._request:
                self._socket.sendall(self._request)
                self._request = b""
                self._loop.connected(self._socket.fileno())
                return
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
        self._receive(data)


class Exchange:
    """An HTTP request and its response, on a connection of its own: the relay answers one per connection.

    Args:
        loop: of all connections.
        port: of the relay.
        request: with its body.
        answered: called once, with the status, 0 without a response, and the body.
        address: of the client.
    """

    __slots__ = ("_answered", "_data")

    def __init__(
        self, loop: Loop, port: int, request: bytes, answered: Callable[[int, bytes], None], address: str = "127.0.0.1"
    ) -> None:
        self._answered, self._data = answered, b""
        Connection(loop, port, request, self._receive, address)

    def _receive(self, data: bytes) -> None:
        self._data += data
        if not data:
            head, _, body = self._data.partition(b"\r\n\r\n")
            self._answered(int(head.split()[1]) if head.startswith(b"HTTP/1.1 ") else 0, body)


def post(room: str, body: bytes) -> bytes:
    """Return a request that publishes a text."""
    return b"POST /%b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%b" % (room.encode(), len(body), body)


def get(target: str, accept: str, *fields: str) -> bytes:
    """Return a request without a body."""
    lines = [f"GET /{target} HTTP/1.1", "Host: 127.0.0.1", f"Accept: {accept}", *fields]
    return "\r\n".join([*lines, "", ""]).encode("ascii")
