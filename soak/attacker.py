"""One attack: connections from one address, or named as one /48 by X-Forwarded-For.

Usage: ``attacker.py PORT NAME SECONDS address|network``, as a separate process. Prints its counts as a line of JSON.
Sockets and epoll, because asyncio would cost more than the relay. Must not live here: what is sent, see attacks.py.
"""

import json
import os
import select
import socket
import struct
import sys
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field

import attacks

#: The attacker. The relay of a network's attack trusts it as a proxy.
ADDRESS = "127.0.0.2"

#: Lower priority than the bystanders, for the case that both have one core.
NICE = 10

#: Longest wait in one turn, and most new connections of one turn.
TURN_SECONDS = 0.02
TURN_CONNECTIONS = 50

#: An attacker's own memory does not count.
SEND_BUFFER_BYTES = 65536

_READ_BYTES = 262_144
_RESET = struct.pack("ii", 1, 0)

#: linux/in.h: choose the port at connect, so that ports are unique per destination only.
_BIND_ADDRESS_NO_PORT = 24


def forwarded_for(number: int) -> bytes:
    """Return the header field with an address of 2001:db8::/48, each in a /64 of its own, over all its /56."""
    return b"X-Forwarded-For: 2001:db8:0:%x::1\r\n" % (number * 257 % 65536)


@dataclass
class Line:
    """One connection.

    Attributes:
        number: in the attack.
        room: its room.
        socket: the socket.
        unsent: what is to be sent now.
        status: of the answer; empty before it.
    """

    number: int
    room: str
    socket: socket.socket
    unsent: memoryview
    status: str = ""


@dataclass
class Attacker:
    """Runs an attack.

    Attributes:
        port: of the relay.
        attack: what is sent.
        connections: connections at a time.
        is_network: whether requests name a client address.
        answers: status → count; ``none`` for connections that ended without an answer.
        most_open: most connections at a time with a 101.
        most_rooms: most rooms of these at a time.
    """

    port: int
    attack: attacks.Attack
    connections: int
    is_network: bool
    answers: Counter[str] = field(default_factory=Counter)
    most_open: int = 0
    most_rooms: int = 0
    _lines: dict[int, Line] = field(default_factory=dict)
    _rooms: Counter[str] = field(default_factory=Counter)
    _open: int = 0
    _free: deque[int] = field(default_factory=deque)

    def run(self, seconds: float) -> None:
        """Attack for some time, then drop all connections."""
        self._poll = select.epoll()
        self._free = deque(reversed(range(self.connections)))
        deadline = time.monotonic() + seconds
        while (now := time.monotonic()) < deadline:
            for number in [self._free.pop() for _ in range(min(len(self._free), TURN_CONNECTIONS))]:
                self._connect(number)
            for descriptor, events in self._poll.poll(min(TURN_SECONDS, deadline - now)):
                self._turn(self._lines[descriptor], events)
            self.most_open = max(self.most_open, self._open)
            self.most_rooms = max(self.most_rooms, len(self._rooms))

    def _connect(self, number: int) -> None:
        room = self.attack.room(number)
        request = self.attack.request(number, room)
        if self.is_network:
            request = request.replace(b"\r\n", b"\r\n" + forwarded_for(number), 1)
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)  # no TIME_WAIT, which would use up ports
        connection.setsockopt(socket.SOL_IP, _BIND_ADDRESS_NO_PORT, 1)
        connection.bind((ADDRESS, 0))
        try:
            connection.connect_ex(("127.0.0.1", self.port))
        except OSError:
            connection.close()
            self._free.appendleft(number)
            return
        body = b"" if self.attack.waits else self.attack.once(number)
        self._lines[connection.fileno()] = Line(number, room, connection, memoryview(request + body))
        self._poll.register(connection, select.EPOLLIN | select.EPOLLOUT)

    def _turn(self, line: Line, events: int) -> None:
        try:
            if events & select.EPOLLIN and not self._read(line):
                raise ConnectionResetError
            if events & (select.EPOLLHUP | select.EPOLLERR):
                raise ConnectionResetError
            if events & select.EPOLLOUT:
                self._write(line)
        except BlockingIOError:
            pass
        except OSError:
            self._end(line)

    def _read(self, line: Line) -> bool:
        """Read what has come; return whether the connection goes on."""
        data = line.socket.recv(_READ_BYTES)
        if line.status or not data:
            return bool(data)
        line.status = data[9:12].decode("ascii", "replace")
        self.answers[line.status] += 1
        if line.status != "101" or self.attack.leaves:
            return False
        self._open += 1
        self._rooms[line.room] += 1
        line.unsent = memoryview(self.attack.once(line.number))
        self._watch(line, writes=True)
        return True

    def _write(self, line: Line) -> None:
        """Send; begin again where the attack says so."""
        if not line.unsent and (line.status or not self.attack.waits):
            line.unsent = memoryview(self.attack.again(line.number))
        if not line.unsent:
            self._watch(line, writes=False)
            return
        line.unsent = line.unsent[line.socket.send(line.unsent) :]

    def _watch(self, line: Line, writes: bool) -> None:
        reads = not line.status or self.attack.reads(line.number)
        self._poll.modify(line.socket, (select.EPOLLIN if reads else 0) | (select.EPOLLOUT if writes else 0))

    def _end(self, line: Line) -> None:
        if not line.status:
            self.answers["none"] += 1
        elif line.status == "101" and not self.attack.leaves:
            self._open -= 1
            self._rooms[line.room] -= 1
            if not self._rooms[line.room]:
                del self._rooms[line.room]
        del self._lines[line.socket.fileno()]
        with suppress(OSError):
            self._poll.unregister(line.socket)
        line.socket.close()
        self._free.appendleft(line.number)


def main(port: int, name: str, seconds: float, sources: str) -> None:
    """Run an attack and print its counts."""
    os.nice(NICE)
    attack, is_network = attacks.BY_NAME[name], sources == "network"
    connections = attack.network_connections if is_network else attack.connections
    attacker = Attacker(port, attack, connections, is_network)
    attacker.run(seconds)
    counts = {"open": attacker.most_open, "rooms": attacker.most_rooms, "answers": attacker.answers}
    print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4])
