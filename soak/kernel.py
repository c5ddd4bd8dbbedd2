"""Kernel memory of a server's TCP connections, by netlink's sock_diag, as ``ss -m`` reads it."""

import socket
import struct
from collections.abc import Iterator

#: linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, _ERROR, _DONE = 4, 20, 0x301, 2, 3
_MEMORY_INFO = 7
_ALL_STATES = 0xFFF

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_BUFFER_BYTES = 2**20

#: Offsets in struct inet_diag_msg: the port in network order, and the attributes behind it.
_PORT_AT, _ATTRIBUTES_AT = 4, 72


def buffers(port: int) -> list[int]:
    """Return the kernel memory of each connection of the server on a local port, in bytes: queued, received, reserved.

    The other ends of connections of this machine are not counted. Empty where the kernel does not say.
    """
    found = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(5)
        query = struct.pack("=BBBxI48x", socket.AF_INET, socket.IPPROTO_TCP, 1 << (_MEMORY_INFO - 1), _ALL_STATES)
        netlink.send(_HEADER.pack(_HEADER.size + len(query), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + query)
        for message in _messages(netlink):
            if int.from_bytes(message[_PORT_AT : _PORT_AT + 2], "big") == port:
                found += [
                    _memory(value) for kind, value in _attributes(message[_ATTRIBUTES_AT:]) if kind == _MEMORY_INFO
                ]
    return found


def _messages(netlink: socket.socket) -> Iterator[bytes]:
    """Iterate over the messages of a dump."""
    while True:
        data = netlink.recv(_BUFFER_BYTES)
        while data:
            length, kind, *_ = _HEADER.unpack_from(data)
            if kind in (_DONE, _ERROR):
                return
            yield data[_HEADER.size : length]
            data = data[_aligned(length) :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]


def _memory(info: bytes) -> int:
    """Return received, reserved and queued bytes of SK_MEMINFO, with the overhead of their buffers."""
    received, _, _, _, reserved, queued, *_ = struct.unpack_from("=8I", info)
    return int(received + reserved + queued)


def _aligned(length: int) -> int:
    return (length + 3) & ~3
