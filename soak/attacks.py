"""Attacks of one client address within its limits: a table. Each is a set of connections that send what a row says.

Lives here: what is sent. Must not live here: sockets, see attacker.py; measurement, see one_address.
"""

from collections.abc import Callable
from dataclasses import dataclass

import client
from client import BINARY, PING, deflated, frame

#: Least size of a buffer that is sent again and again, in bytes.
FLOOD_BYTES = 65536

#: Length of the longest query or header field that still fits one line of the relay's 8 KiB.
LONG_BYTES = 7800

#: The largest default message, in bytes.
MESSAGE_BYTES = 2**20

WINDOWS = (9, 12, 15)


@dataclass(frozen=True)
class Attack:
    """An attack.

    Attributes:
        name: for the report.
        connections: connections at a time, from one address.
        network_connections: connections at a time, from one /48, each from a /64 of its own.
        room: number of a connection → its room.
        request: number and room of a connection → the request.
        once: number → what is sent behind the request; behind its 101 for a WebSocket handshake.
        again: number → what is sent after that, as fast as the relay reads it.
        reads: number → whether the connection is read.
        leaves: whether a connection ends after its answer.
        waits: whether nothing is sent behind the request before its answer.
        options: the options of the relay beside the defaults.
    """

    name: str
    connections: int
    network_connections: int
    room: Callable[[int], str] = lambda number: f"attack/{number}"
    request: Callable[[int, str], bytes] = lambda _number, room: client.request(room, deflate=False)
    once: Callable[[int], bytes] = lambda _: b""
    again: Callable[[int], bytes] = lambda _: b""
    reads: Callable[[int], bool] = lambda _: True
    leaves: bool = False
    waits: bool = True
    options: tuple[str, ...] = ()


def flood(unit: bytes) -> Callable[[int], bytes]:
    """Return a function for `Attack.again`: whole units, in one buffer."""
    buffer = unit * (FLOOD_BYTES // len(unit) + 1)
    return lambda _: buffer


def first(of: int, sender: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """Return a function for `Attack.again`: the first of every few connections sends."""
    return lambda number: b"" if number % of else sender(number)


def with_fields(fields: str, path: str = "") -> Callable[[int, str], bytes]:
    """Return a function for `Attack.request`: a handshake with more header fields, and more behind its path."""

    def request(_number: int, room: str) -> bytes:
        whole = client.request(room + path, deflate=False)
        return whole.replace(b"\r\n\r\n", b"\r\n" + fields.encode() + b"\r\n\r\n", 1) if fields else whole

    return request


def post(_number: int, room: str) -> bytes:
    """Return the head of a POST in chunks."""
    return f"POST /{room} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()


def windowed(number: int, room: str) -> bytes:
    """Return a handshake with deflate: of a publisher, then of a subscriber for each window."""
    bits = 15 if number % 4 == 0 else WINDOWS[number % 4 - 1]
    offer = f"permessage-deflate; server_max_window_bits={bits}"
    return with_fields(f"Sec-WebSocket-Extensions: {offer}")(number, room)


def half(_number: int, room: str) -> bytes:
    """Return a request that does not end, with as many bytes as it may have."""
    return client.request(room, deflate=False)[:-2] + b"Cookie: " + b"x" * 16_000


SMALL = frame(0x80 | BINARY, b"x" * 16)
FRAGMENTS = frame(BINARY, b"x" * 16) + frame(0, b"x" * 16) * 14 + frame(0x80, b"x" * 16)
LARGE_FRAMES = frame(BINARY, bytes(8192)) + frame(0, bytes(8192)) * 6 + frame(0x80, bytes(8192))
BOMB = frame(0xC0 | BINARY, deflated(bytes(2**18)))
BAD = frame(0x83, b"x")

ATTACKS = [
    Attack("nothing", 0, 0),
    Attack("connections, each in a room of its own", 2048, 18_000),
    Attack("silent connections", 2048, 18_000, request=lambda _number, _room: b""),
    Attack("handshakes", 64, 512, leaves=True),
    Attack("handshakes with 3900 query fields", 64, 512, leaves=True, request=with_fields("", "?a" + "&a" * 3899)),
    Attack(
        "handshakes with 3900 extensions",
        64,
        512,
        leaves=True,
        request=with_fields("Sec-WebSocket-Extensions: " + ",".join("a" * 3900)),
    ),
    Attack("handshakes of a foreign origin", 64, 512, leaves=True, request=with_fields("Origin: http://evil.example")),
    Attack("malformed requests", 64, 512, leaves=True, request=lambda _number, _room: b"GET / HTTP/1.0\r\n\r\n"),
    Attack("unfinished requests", 512, 8192, request=half),
    Attack("pings", 200, 1600, again=flood(frame(0x80 | PING, b""))),
    Attack("messages of 16 bytes, rooms of one", 200, 1600, again=flood(SMALL)),
    Attack(
        "messages of 16 bytes, rooms of 20", 200, 1600, room=lambda number: f"attack/{number // 20}", again=flood(SMALL)
    ),
    Attack("empty messages", 200, 1600, again=flood(frame(0x80 | BINARY, b""))),
    Attack("messages in 16 fragments", 200, 1600, again=flood(FRAGMENTS)),
    Attack("messages in frames of 8 KiB", 200, 1600, again=flood(LARGE_FRAMES)),
    Attack("messages in frames of 8 KiB, all connections", 1024, 4096, again=flood(LARGE_FRAMES)),
    Attack(
        "deflate 1:1000, rooms with three windows",
        200,
        1600,
        room=lambda number: f"attack/{number // 4}",
        request=windowed,
        again=first(4, flood(BOMB)),
    ),
    Attack("bad frames", 64, 512, once=lambda _: BAD),
    Attack("unfinished messages of 1 MiB", 1024, 2048, once=lambda _: frame(0x80 | BINARY, bytes(MESSAGE_BYTES))[:-1]),
    Attack(
        "never-readers, and one publisher",
        121,
        1921,
        room=lambda _: "attack",
        again=first(2**62, flood(frame(0x80 | BINARY, bytes(FLOOD_BYTES)))),
        reads=lambda number: number == 0,
    ),
    Attack(
        "POST in chunks of one byte",
        64,
        512,
        request=post,
        waits=False,
        again=flood(b"1\r\nx\r\n"),
        options=("--http",),
    ),
]

BY_NAME = {attack.name: attack for attack in ATTACKS}
