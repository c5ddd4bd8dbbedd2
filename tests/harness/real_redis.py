"""A real broker for relays in memory: their connections are carried to its unix socket.

A :class:`Bridge` is one of the ``pumps`` of :class:`tests.harness.support.Relay`, in the place of a
:class:`tests.harness.fake_redis.FakeRedis`. Time stands still for the relays while the broker works, so nothing depends
on its speed.
"""

import select
import socket
from collections import deque
from pathlib import Path
from typing import Any

import hiredis
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from tests.harness.live import SECONDS
from tests.harness.support import Transport

__all__ = ["Bridge"]


def connected(path: Path) -> socket.socket:
    """Return a connection to a unix socket."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(SECONDS)
    connection.connect(str(path))
    return connection


class Carried:
    """A connection.

    Attributes:
        asked: the names of commands without a reply.
        received: bytes that the relay has not got yet.
    """

    def __init__(self, protocol: Any, path: Path) -> None:
        self.protocol = protocol
        self.transport = Transport(protocol, isServer=False)
        self.socket = connected(path)
        self.asked: deque[bytes] = deque()
        self.received = b""
        self.ended = False
        self._commands, self._replies = hiredis.Reader(), hiredis.Reader(notEnoughData=self)
        protocol.makeConnection(self.transport)

    def send(self) -> bool:
        """Send what the relay has written."""
        out: bytes = self.transport.getOutBuffer() or b""
        self.socket.sendall(out)
        self._commands.feed(out)
        while (words := self._commands.gets()) is not False:
            self.asked.append(words[0])
        return bool(out)

    def take(self) -> None:
        """Read what has come."""
        while not self.ended and select.select([self.socket], [], [], 0)[0]:
            data = self.socket.recv(2**20)
            self.ended = not data
            self.received += data
            self._replies.feed(data)
            while self._replies.gets() is not self:
                self.asked.popleft()

    @property
    def is_cut(self) -> bool:
        """Whether the last reply has not come whole."""
        return not self.ended and self._replies.has_data()

    @property
    def waits(self) -> bool:
        """Whether a reply is due now."""
        return bool(self.asked) and self.asked[0] != b"XREAD" and not self.ended

    def deliver(self) -> bool:
        """Give the relay what has come, the end included; return whether there was something."""
        data, self.received = self.received, b""
        if data and not self.transport.disconnecting:
            self.transport.bufferReceived(data)
        if self.ended or self.transport.disconnecting:
            self.socket.close()
            if not self.transport.disconnecting:
                self.protocol.connectionLost(Failure(ConnectionDone()))
            self.ended = True
        return bool(data) or self.ended


class Bridge:
    """Carries the connections that relays open to a port.

    Args:
        clock: of the relays.
        path: the broker's unix socket.
        port: on any host.
    """

    def __init__(self, clock: MemoryReactorClock, path: Path, port: int = 6379) -> None:
        self._clock = clock
        self._path = path
        self._port = port
        self._carried: list[Carried] = []
        self._control = connected(path)

    def close(self) -> None:
        """End all connections."""
        self._control.close()
        for one in self._carried:
            one.socket.close()

    def pump(self, advanceClock: bool = True) -> bool:
        """Accept connections, send, wait for the replies, and deliver them; return whether something happened."""
        moved = self._accept()
        if any([one.send() for one in self._carried]):  # noqa: C419 - all of them
            moved = True
            while waiting := [one for one in self._carried if one.waits]:
                assert select.select([one.socket for one in waiting], [], [], SECONDS)[0], "no reply"
                for one in waiting:
                    one.take()
            # The answers to other connections' XREAD were written with the last reply, at the latest. The first PING
            # may be answered in the round in which Redis reads those; the second one comes in a later round.
            for _ in range(2):
                self._control.sendall(b"PING\r\n")
                assert self._control.recv(100) == b"+PONG\r\n"
        for one in self._carried:
            one.take()
            while one.is_cut:  # a reply that the socket's buffer does not hold
                assert select.select([one.socket], [], [], SECONDS)[0], "no end of a reply"
                one.take()
        moved = any([one.deliver() for one in self._carried]) or moved  # noqa: C419 - all of them
        self._carried = [one for one in self._carried if not one.ended]
        return moved

    def _accept(self) -> bool:
        mine = [client for client in self._clock.tcpClients if client[1] == self._port]
        for client in mine:
            self._clock.tcpClients.remove(client)
            self._carried.append(Carried(client[2].buildProtocol(None), self._path))
        return bool(mine)
