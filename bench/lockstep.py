"""A relay and its clients in one process and in lockstep: one of them works, then the other.

All that clients write is there before the relay has its turn, and all that the relay writes is read before they write
again. So it is always the same messages that come in one turn of the reactor, however fast the machine is and whatever
else it does. Only turns of the reactor are counted: not the clients, and no waiting.

Lives here: the relay, its clients, and their steps. Must not live here: which work there is, and what counts.
"""

import array
import fcntl
import gc
import os
import select
import socket
import struct
import termios
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import repeat
from typing import Final

from twisted.logger import globalLogBeginner, textFileLogObserver
from work import Row

from wsrelay.factory import RelayFactory
from wsrelay.logs.observers import shape
from wsrelay.net.reactor import LeanReactor
from wsrelay.service import RelayService
from wsrelay.settings import Settings

#: Limits that are for one address or one publisher are counted and never reached: here both are one. They are the
#: same as in `servers.ONE_BIG_CLIENT`.
SETTINGS: Final = Settings(
    listen=("tcp:0:interface=127.0.0.1",),
    max_connections_per_address=100_000,
    max_handshakes=100_000,
    max_handshakes_per_address=100_000,
    max_connects_per_second=1e9,
    max_connects_per_second_per_address=1e9,
    max_messages_per_second=0,
    max_frames_per_second=0,
    max_bytes_per_second=0,
)

#: The time on the relay's clock, which stands still. The sweep every half second is never due: how often it came would
#: depend on the speed of the machine.
NOW: Final = 1000.0

#: Bounds: on waiting for bytes, which are there at once, and on turns for one step, of which there are one or two.
STEP_SECONDS: Final = 20
MAX_TURNS: Final = 1000

HEAD_END: Final = b"\r\n\r\n"
REQUEST: Final = (
    "GET /{room} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

#: The same in all frames, so that unmasking takes the same instructions.
MASK: Final = b"\xa1\xb2\xc3\xd4"
TEXT: Final = 0x81
MASKED: Final = 0x80

#: Every payload begins with its publisher and the number of the message, in this many characters.
PUBLISHER_CHARS: Final = 4
NUMBER_CHARS: Final = 8


class FailedError(Exception):
    """The relay has not done what it should have; the text says what."""


def header(length: int, flag: int = 0) -> bytes:
    """Give the header of a text frame (RFC 6455 section 5.2), for payloads below 64 KiB."""
    return struct.pack("!BB", TEXT, flag | length) if length < 126 else struct.pack("!BBH", TEXT, flag | 126, length)


def payload(publisher: int, number: int, size: int) -> bytes:
    """Make a payload that tells where it belongs."""
    return f"{publisher:0{PUBLISHER_CHARS}}{number:0{NUMBER_CHARS}}".ljust(size, "x").encode()


def masked(data: bytes) -> bytes:
    """Make the frame in which a client sends a payload."""
    keystream = (MASK * (len(data) // len(MASK) + 1))[: len(data)]
    return header(len(data), MASKED) + MASK + bytes(a ^ b for a, b in zip(data, keystream, strict=True))


def unread_bytes(descriptor: int) -> int:
    """Give how much a socket has received that was not read."""
    found = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, found)
    return found[0]


class Relay:
    """A relay with its default options, its log and a reactor of its own, which is turned step by step.

    Args:
        history: messages that its rooms keep.

    Attributes:
        count: called before and after each turn.
        turns: how many turns there were.
    """

    def __init__(self, history: int = 0) -> None:
        self.count: Callable[[], object] = int  # nothing, until somebody counts
        self.turns = 0
        self._reactor = LeanReactor()  # that of `twistd wsrelay`
        # Stands still. It is not Twisted's own, so the factory leaves it.
        self._reactor.seconds = repeat(NOW).__next__
        settings = replace(SETTINGS, history=(f"**={history}",)) if history else SETTINGS
        self._factory = RelayFactory(settings, reactor=self._reactor, busy_clock=repeat(0.0).__next__)
        service = RelayService(self._factory)
        service.startService()
        self._port = service.ports[0]
        self.address = ("127.0.0.1", self._port.getHost().port)
        # As the relay does when it has started.
        gc.collect()
        gc.freeze()

    def accept(self) -> None:
        """Accept the connection that a client has just made."""
        poller = select.poll()
        poller.register(self._port.fileno(), select.POLLIN)
        if not poller.poll(STEP_SECONDS * 1000):
            raise FailedError("a client has connected, and there is nothing to accept")
        known = len(self._factory.connections)
        self._turn_until(lambda: len(self._factory.connections) > known)

    def open(self, sent_bytes: int) -> None:
        """Answer a handshake of so many bytes."""
        opened = self._factory.stats.connections_opened + 1
        self._wait_for(sent_bytes)
        self._turn_until(lambda: self._factory.stats.connections_opened >= opened)

    def relay(self, sent_bytes: int, messages: int, deliveries: int) -> None:
        """Read what was sent, and deliver all of it.

        Raises:
            FailedError: it is not all of it, or more.
        """
        stats = self._factory.stats
        messages, deliveries = stats.messages_in + messages, stats.deliveries + deliveries
        self._wait_for(sent_bytes)
        self._turn_until(lambda: stats.messages_in >= messages and stats.deliveries >= deliveries)
        if (stats.messages_in, stats.deliveries) != (messages, deliveries):
            raise FailedError(
                f"{stats.messages_in - messages} messages, {stats.deliveries - deliveries} deliveries too many"
            )

    def _wait_for(self, sent_bytes: int) -> None:
        """Wait until all that was sent is there: the kernel of a busy machine may be late, and then it took more turns.

        Raises:
            FailedError: it does not come.
        """
        deadline = time.monotonic() + STEP_SECONDS
        descriptors = [connection.transport.fileno() for connection in self._factory.connections]
        while sum(map(unread_bytes, descriptors)) < sent_bytes:
            if time.monotonic() > deadline:
                raise FailedError(f"the {sent_bytes} bytes that clients have sent do not come")

    def _turn_until(self, is_done: Callable[[], bool]) -> None:
        """Turn the reactor until something is done, all is written, and no call is due."""
        for _ in range(MAX_TURNS):
            self._turn()
            if is_done() and not self._reactor.getWriters() and self._reactor.timeout() != 0:
                return
        raise FailedError(f"the relay has not done its part after {MAX_TURNS} turns")

    def _turn(self) -> None:
        """Turn the reactor once: what has come is read, and what is to be called at the end of the turn is called.

        `reactor.iterate` does this in the other order, and would look for input twice for each message.
        """
        self.turns += 1
        count, reactor = self.count, self._reactor
        count()
        reactor.doIteration(0)
        reactor.runUntilCurrent()
        count()


class Client:
    """One client, which does nothing unless it is told to.

    Args:
        relay: its relay.
        room: the room that it joins.
        number: its number among the publishers.
    """

    def __init__(self, relay: Relay, room: int, number: int) -> None:
        self.room = room
        self.number = number
        self._socket = socket.create_connection(relay.address, STEP_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        relay.accept()
        request = REQUEST.format(room=f"room{room}").encode()
        self._socket.sendall(request)
        relay.open(len(request))
        self._read_answer()

    def send(self, frames: bytes) -> int:
        """Send frames, and give how many bytes these are."""
        self._socket.sendall(frames)
        return len(frames)

    def expect(self, windows: list[bytes]) -> None:
        """Read messages.

        Args:
            windows: what each of the other publishers has sent, in the order of publishers, as the frames of members.
                All are of one size. Which publisher the relay reads first is not checked.

        Raises:
            FailedError: they are others, or in another order.
        """
        size = len(windows[0]) if windows else 1
        data = self._read(size * len(windows))
        found = [data[at : at + size] for at in range(0, len(data), size)]
        if sorted(found) != windows:
            raise FailedError("a client has got other messages than were sent, or in another order")

    def _read(self, size: int) -> bytes:
        """Read so many bytes, and see that there are no more."""
        data = bytearray()
        while len(data) < size:
            piece = self._socket.recv(size - len(data))
            if not piece:
                raise FailedError("the relay has closed a connection")
            data += piece
        if unread_bytes(self._socket.fileno()):
            raise FailedError("a client has got more than was sent to it")
        return bytes(data)

    def _read_answer(self) -> None:
        """Read the answer to the handshake."""
        answer = b""
        while HEAD_END not in answer:
            answer += self._socket.recv(4096) or HEAD_END
        if not answer.startswith(b"HTTP/1.1 101 ") or not answer.endswith(HEAD_END):
            raise FailedError(f"the handshake was answered with {answer!r}")


class Crowd:
    """All clients of one kind of work.

    Args:
        relay: their relay.
        row: the work.

    Attributes:
        round_messages: how many messages one round is.
    """

    def __init__(self, relay: Relay, row: Row) -> None:
        self._relay = relay
        self._row = row
        self._number = 0
        publishers = row.members if row.publishers == "all" else int(row.publishers)
        self._rooms = [[Client(relay, room, place) for place in range(row.members)] for room in range(row.rooms)]
        self._publishers = [room[:publishers] for room in self._rooms]
        self.round_messages = row.rooms * publishers * row.window

    def round(self) -> None:
        """Let every publisher publish a window of messages, the relay deliver them, and all members check them."""
        windows = self._windows()
        frames = [b"".join(map(masked, payloads)) for payloads in windows]
        sent_bytes = sum(client.send(frames[client.number]) for room in self._publishers for client in room)
        self._relay.relay(sent_bytes, self.round_messages, self.round_messages * (self._row.members - 1))
        plain = [b"".join(header(len(one)) + one for one in payloads) for payloads in windows]
        for room in self._rooms:
            for client in room:
                client.expect(plain[: client.number] + plain[client.number + 1 :])

    def _windows(self) -> list[list[bytes]]:
        """Make the next payloads: a window for each publisher of a room, the same in all rooms."""
        numbers = range(self._number, self._number + self._row.window)
        self._number = numbers.stop
        publishers = range(len(self._publishers[0]))
        return [[payload(publisher, number, self._row.size) for number in numbers] for publisher in publishers]


class Arrivals:
    """Clients that come one by one, and stay: work that is handshakes.

    Args:
        relay: their relay.
        row: the work; its members are how many share a room.

    Attributes:
        round_messages: how many handshakes one round is.
    """

    round_messages = 1

    def __init__(self, relay: Relay, row: Row) -> None:
        self._relay = relay
        self._members = row.members
        self._clients: list[Client] = []

    def round(self) -> None:
        """Let one more come."""
        number = len(self._clients)
        self._clients.append(Client(self._relay, number // self._members, number))


def begin_log() -> None:
    """Begin a log as `twistd wsrelay` does, which formats and writes every line; to nowhere."""
    shape(SETTINGS.log_format, SETTINGS.log_level)
    nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    globalLogBeginner.beginLoggingTo([textFileLogObserver(nowhere)], redirectStandardIO=False, discardBuffer=True)
