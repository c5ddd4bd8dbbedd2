"""Clients that come back as docs/clients.md says: after a random time up to a bound that doubles (full jitter).

Must not live here: relays and their restart, and the report (`restart`).
"""

import heapq
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import exchanges

#: Of docs/clients.md: the first bound, the largest one, and how long a connection lasts that was good.
FIRST_SECONDS = 0.5
MOST_SECONDS = 30.0
GOOD_SECONDS = 10.0

#: So many connect at once when they come for the first time.
BATCH = 50

#: Bounds on their coming, and on one wait for something to happen.
COME_SECONDS = 30.0
TURN_SECONDS = 0.02

#: Faults that are told.
MAX_FAULTS = 10

RESTARTING = 1012

REQUEST = (
    "GET /restart/{room} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

CLOSE, PING, PONG = 8, 9, 10


class Client:
    """One client.

    Args:
        crowd: has the loop and the timers.
        room: its room.

    Attributes:
        is_open: whether it is connected, and was told no close.
        offline_at: the end of its last connection; ``None`` before that.
        back_at: the first 101 after that; ``None`` before it.
        attempts: connects since then.
        failures: those that were refused, or ended without a 101.
        faults: in words.
    """

    def __init__(self, crowd: "Crowd", room: str) -> None:
        self._crowd = crowd
        self._request = REQUEST.format(room=room).encode("ascii")
        self._attempt = 0
        self._opened_at = 0.0
        self.is_open = False
        self.offline_at: float | None = None
        self.back_at: float | None = None
        self.attempts = self.failures = 0
        self.faults: list[str] = []

    def open(self) -> None:
        """Connect."""
        self._data, self._has_opened, self._code = b"", False, 0
        self.attempts += self.offline_at is not None
        self._connection = exchanges.Connection(self._crowd.loop, self._crowd.port, self._request, self.receive)

    def receive(self, data: bytes) -> None:
        """Take what has come; ``b""`` is the end."""
        self._data += data
        if not data:
            self._ended()
        elif self._has_opened or self._opens():
            while (frame := self._next()) is not None:
                self._take(*frame)

    def cut(self) -> None:
        """End the connection, if there is one."""
        self._connection.close(reset=True)

    def _opens(self) -> bool:
        head, end, rest = self._data.partition(b"\r\n\r\n")
        if not end or not head.startswith(b"HTTP/1.1 101 "):
            return False
        self._data, self._has_opened, self.is_open = rest, True, True
        self._opened_at = self._crowd.now()
        if self.offline_at is not None and self.back_at is None:
            self.back_at = self._opened_at
        return True

    def _next(self) -> tuple[int, bytes] | None:
        """Return the opcode and the payload of the next frame; all of them are short."""
        if len(self._data) < 2 or len(self._data) < 2 + self._data[1]:
            return None
        opcode, payload = self._data[0] & 15, self._data[2 : 2 + self._data[1]]
        self._data = self._data[2 + self._data[1] :]
        return opcode, payload

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._reply(PONG, payload)
        elif opcode == CLOSE:
            self._code = int.from_bytes(payload[:2])
            self._went_offline()
            self._reply(CLOSE, payload[:2])

    def _reply(self, opcode: int, payload: bytes) -> None:
        self._connection.send(bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload)  # the mask is zero

    def _went_offline(self) -> None:
        self.is_open = False
        if self.back_at is not None:
            self.faults.append(f"it was closed again with {self._code}")
        elif self._code != RESTARTING:
            self.faults.append(f"it was closed with {self._code or 'no close frame'}")
        self.offline_at = self.offline_at or self._crowd.now()

    def _ended(self) -> None:
        """Try again later."""
        if self.is_open:
            self._went_offline()
        if not self._has_opened:
            self.failures += 1
        elif self._crowd.now() - self._opened_at > GOOD_SECONDS:
            self._attempt = 0
        bound = min(MOST_SECONDS, FIRST_SECONDS * 2**self._attempt)
        self._attempt += 1
        self._crowd.later(self._crowd.random() * bound, self.open)


class Crowd:
    """All clients of a run.

    Args:
        port: of the relays, on 127.0.0.1.
        clients: how many.
        room_members: how many of them are in a room.
        seed: of their random times.
    """

    def __init__(self, port: int, clients: int, room_members: int, seed: int) -> None:
        self.port = port
        self.loop = exchanges.Loop()
        self.now = time.monotonic
        self.random = random.Random(seed).random
        self.clients = [Client(self, str(number // room_members)) for number in range(clients)]
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something after some seconds."""
        heapq.heappush(self._timers, (self.now() + seconds, next(self._numbers), act))

    def turn(self) -> None:
        """Do what is due, and read what has come."""
        while self._timers and self._timers[0][0] <= self.now():
            heapq.heappop(self._timers)[2]()
        self.loop.turn(TURN_SECONDS if not self._timers else min(TURN_SECONDS, self._timers[0][0] - self.now()))

    def come(self) -> bool:
        """Connect all for the first time, and return whether all are there."""
        for number, client in enumerate(self.clients):
            client.open()
            if number % BATCH == BATCH - 1:
                self.turn()
        deadline = self.now() + COME_SECONDS
        while not all(client.is_open for client in self.clients) and self.now() < deadline:
            self.turn()
        return all(client.is_open for client in self.clients)

    def are_back(self) -> bool:
        """Whether each has lost its connection, and has another one."""
        return all(client.back_at is not None for client in self.clients)

    def close(self) -> None:
        """End all connections."""
        for client in self.clients:
            client.cut()
        self.loop.close()

    def outcome(self, began: float) -> dict[str, Any]:
        """Return the figures of a restart that began then; `restart` says what they are."""
        backs = sorted(client.back_at - began for client in self.clients if client.back_at is not None)
        offline = sorted(
            client.back_at - client.offline_at
            for client in self.clients
            if client.back_at is not None and client.offline_at is not None
        )
        busiest = max(Counter(int(second) for second in backs).values(), default=0)
        infinite = [float("inf")]
        faults = [fault for client in self.clients for fault in client.faults]
        return {
            "clients": len(self.clients),
            "back": len(backs),
            "median_seconds": statistics.median(offline or infinite),
            "p95_seconds": (offline or infinite)[len(offline) * 95 // 100],
            "max_seconds": (offline or infinite)[-1],
            "first_seconds": (backs or infinite)[0],
            "last_seconds": (backs or infinite)[-1],
            "busiest": busiest,
            "attempts": sum(client.attempts for client in self.clients),
            "failures": sum(client.failures for client in self.clients),
            "faults": [f"{times} clients: {fault}" for fault, times in Counter(faults).most_common(MAX_FAULTS)],
        }
