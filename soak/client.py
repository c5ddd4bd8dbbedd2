"""A small WebSocket client, for correct and incorrect behaviour.

Lives here: one connection. Must not live here: behaviours, see churn.py.
"""

import asyncio
import itertools
import os
import random
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

#: Bound on all waits.
SECONDS = 30

#: Clients connect from many addresses of 127.0.0.0/8, because limits are per address.
ADDRESSES: Iterator[str] = (f"127.{1 + n // 62500 % 250}.{n // 250 % 250}.{1 + n % 250}" for n in itertools.count())


_dialled: ContextVar[list[asyncio.StreamWriter]] = ContextVar("_dialled")


@contextmanager
def hanging_up() -> Iterator[None]:
    """Drop all connections made in the block when it ends."""
    writers: list[asyncio.StreamWriter] = []
    token = _dialled.set(writers)
    try:
        yield
    finally:
        _dialled.reset(token)
        for writer in writers:
            writer.transport.abort()


class RefusedError(Exception):
    """The handshake was refused.

    Attributes:
        status: of the response; 0 without a response.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class EndedError(Exception):
    """The connection is closed.

    Attributes:
        code: of the relay's close frame; 1006 without one.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def request(room: str, deflate: bool) -> bytes:
    """Return a handshake."""
    extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else ""
    return (
        f"GET /{room} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extension}\r\n"
    ).encode("ascii")


def frame(first: int, payload: bytes) -> bytes:
    """Return a frame with any first byte, masked with any key."""
    length = len(payload)
    if length < 126:
        header = bytes((first, 0x80 | length))
    elif length < 65536:
        header = struct.pack(">BBH", first, 0xFE, length)
    else:
        header = struct.pack(">BBQ", first, 0xFF, length)
    key = os.urandom(4)
    stream = (key * (length // 4 + 1))[:length]
    return header + key + (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(length, "big")


def deflated(payload: bytes) -> bytes:
    """Return a payload compressed for permessage-deflate."""
    compressor = zlib.compressobj(1, wbits=-15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


def inflated(payload: bytes) -> bytes:
    """Return a decompressed payload."""
    return zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")


async def dial(port: int, receive_bytes: int = 0) -> "tuple[asyncio.StreamReader, asyncio.StreamWriter]":
    """Connect from the next address.

    Args:
        port: of the relay, on 127.0.0.1.
        receive_bytes: size of the kernel's receive buffer; None for the default.
    """
    connection = socket.socket()
    try:
        connection.setblocking(False)
        if receive_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.bind((next(ADDRESSES), 0))
        async with asyncio.timeout(SECONDS):
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
            reader, writer = await asyncio.open_connection(sock=connection)
    except BaseException:
        connection.close()
        raise
    _dialled.get([]).append(writer)
    return reader, writer


@dataclass
class Client:
    """An open connection. Made by `join`."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    deflate: bool
    _unread: bytearray = field(default_factory=bytearray)

    async def say(self, payload: bytes, opcode: int = BINARY) -> None:
        """Send a message, deflated if negotiated, sometimes in fragments."""
        first, sent = (0x40 | opcode, deflated(payload)) if self.deflate else (opcode, payload)
        if random.random() < 0.1:
            half = len(sent) // 2
            self.writer.write(frame(first, sent[:half]) + frame(0x80, sent[half:]))
        else:
            self.writer.write(frame(0x80 | first, sent))
        await self.writer.drain()

    async def hear(self) -> bytes:
        """Return the next message; pings before it are answered.

        Raises:
            EndedError: the connection is closed.
        """
        while True:
            first, payload = await self._frame()
            opcode = first & 15
            if opcode == CLOSE:
                raise EndedError(int.from_bytes(payload[:2], "big") if payload else 1005)
            if opcode == PING:
                self.writer.write(frame(0x80 | PONG, payload))
            elif opcode in (TEXT, BINARY):
                return inflated(payload) if first & 0x40 else payload

    async def _frame(self) -> tuple[int, bytes]:
        """Return first byte and payload of the next frame; a cancelled call loses no bytes."""
        while True:
            have = len(self._unread)
            length, begin = (self._unread[1], 2) if have >= 2 else (0, 2)
            if length > 125:
                begin = 4 if length == 126 else 10
                length = int.from_bytes(self._unread[2:begin], "big")
            if have >= begin + length:
                first, payload = self._unread[0], bytes(self._unread[begin : begin + length])
                del self._unread[: begin + length]
                return first, payload
            try:
                more = await self.reader.read(65536)
            except OSError:
                more = b""
            if not more:
                raise EndedError(1006)
            self._unread += more

    async def close(self, code: int = 1000) -> int:
        """Close with a close frame, and return the relay's code."""
        try:
            self.writer.write(frame(0x80 | CLOSE, struct.pack(">H", code)))
            return await self.ended()
        finally:
            await hang_up(self.writer)

    async def ended(self) -> int:
        """Read until the relay closes, and return its code."""
        try:
            async with asyncio.timeout(SECONDS):
                while True:
                    await self.hear()
        except EndedError as end:
            return end.code
        except TimeoutError:
            return 0


async def join(port: int, room: str, deflate: bool = False, receive_bytes: int = 0) -> Client:
    """Open a connection.

    Raises:
        RefusedError: the relay refused the handshake.
    """
    reader, writer = await dial(port, receive_bytes)
    try:
        writer.write(request(room, deflate))
        response = await answer(reader)
        if not response.startswith(b"HTTP/1.1 101 "):
            raise RefusedError(status_of(response))
    except BaseException:
        await hang_up(writer)
        raise
    return Client(reader, writer, deflate)


async def answer(reader: asyncio.StreamReader) -> bytes:
    """Return the head of a response; empty without one."""
    try:
        async with asyncio.timeout(SECONDS):
            return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
        return b""


def status_of(response: bytes) -> int:
    """Return the status of a response; 0 without one."""
    return int(response.split()[1]) if response.startswith(b"HTTP/1.1 ") else 0


async def hang_up(writer: asyncio.StreamWriter, abort: bool = False) -> None:
    """Drop the connection by FIN, or by RST."""
    if abort:
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
