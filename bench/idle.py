"""What an idle connection takes of the relay's memory, once it has answered pings.

The relay is a process of its own, and the clients are here. It is measured at two sizes of the crowd: what the process
takes on its own, and what the first connections leave behind, is in both, and cancels out.
"""

import select
import socket
import tempfile
import time
from pathlib import Path
from typing import Final

import processes
import servers

#: How many connections there are when it is measured.
CROWDS: Final = (1000, 5000)

#: How many pings each has answered before, and the seconds between two.
PONGS: Final = 2
PING_SECONDS: Final = 2

#: So many connect at once; between two batches, pings are answered.
BATCH: Final = 100

#: A bound on the wait for an answer, and for the pings of a crowd.
WAIT_SECONDS: Final = 20

REQUEST: Final = (
    b"GET /room%d HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
ROOM_MEMBERS: Final = 10

#: The first bytes of a ping, and of a client's pong with the mask 0, which leaves the payload as it is.
PING: Final = 0x89
PONG: Final = 0x8A
MASKED: Final = 0x80
MASK: Final = bytes(4)


def pongs_to(data: bytes) -> list[bytes]:
    """Give the frames that answer the pings in what was read: whole, short frames."""
    answers = []
    while data:
        length = data[1]
        if data[0] == PING:
            answers.append(bytes((PONG, MASKED | length)) + MASK + data[2 : 2 + length])
        data = data[2 + length :]
    return answers


class Crowd:
    """Clients that do nothing but to answer pings.

    Args:
        port: where the relay listens.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._poller = select.epoll()
        self._clients: dict[int, socket.socket] = {}
        self._pongs: dict[int, int] = {}

    def close(self) -> None:
        """Leave."""
        for client in self._clients.values():
            client.close()
        self._poller.close()

    def grow(self, size: int) -> None:
        """Connect until there are so many."""
        while len(self._clients) < size:
            self._connect(min(BATCH, size - len(self._clients)))
            self._answer(0)

    def answer_pings(self) -> None:
        """Answer pings until everyone has answered as many as it should.

        Raises:
            processes.FailedError: some have had none for long.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        while any(count < PONGS for count in self._pongs.values()):
            if time.monotonic() > deadline:
                raise processes.FailedError(f"idle connections: not all had {PONGS} pings within {WAIT_SECONDS} s")
            self._answer(0.1)

    def _connect(self, count: int) -> None:
        """Connect so many at once: all are accepted before the first one is opened, as in a crowd (TRAPS 61)."""
        batch = [socket.create_connection(("127.0.0.1", self._port), WAIT_SECONDS) for _ in range(count)]
        self._clients |= {client.fileno(): client for client in batch}
        for number, client in enumerate(batch, len(self._clients)):
            client.sendall(REQUEST % (number // ROOM_MEMBERS))
        for client in batch:
            answer = client.recv(4096)
            if not answer.startswith(b"HTTP/1.1 101 ") or not answer.endswith(b"\r\n\r\n"):
                raise processes.FailedError(f"idle connections: the handshake was answered with {answer!r}")
            self._pongs[client.fileno()] = 0
            self._poller.register(client, select.EPOLLIN)

    def _answer(self, seconds: float) -> None:
        """Answer what has come, or comes within some seconds."""
        for descriptor, _ in self._poller.poll(seconds):
            data = self._clients[descriptor].recv(4096)
            if not data:
                raise processes.FailedError("idle connections: the relay has closed one")
            for pong in pongs_to(data):
                self._clients[descriptor].sendall(pong)
                self._pongs[descriptor] += 1


def memory_kib(pid: int) -> int:
    """Give what a process takes for itself: neither files nor what it shares."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:"))


def kib_per_connection() -> float:
    """Measure it.

    Raises:
        processes.FailedError: the relay, or a connection, did not live that long.
    """
    command = servers.BY_NAME[servers.RELAY].command_line(False, servers.places())
    command += ["--ping-seconds", str(PING_SECONDS)]
    core = processes.cores()[0]
    with tempfile.TemporaryDirectory() as folder, processes.listening(command, core, Path(folder), {}) as (pid, port):
        crowd = Crowd(port)
        try:
            return _growth(crowd, pid) / (CROWDS[1] - CROWDS[0])
        finally:
            crowd.close()


def _growth(crowd: Crowd, pid: int) -> int:
    """Give by how many KiB the relay grows from the first size of the crowd to the second."""
    sizes = []
    for size in CROWDS:
        crowd.grow(size)
        crowd.answer_pings()
        sizes.append(memory_kib(pid))
    return sizes[1] - sizes[0]
