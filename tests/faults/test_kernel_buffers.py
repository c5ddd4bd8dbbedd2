"""Clients that never read: what the kernel keeps for each of them is bounded; the rest waits in the room's log."""

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.proxies import nginx
from tests.faults.support import ATTACKED, attacked, port
from tests.harness.clients import WebsocketsClient, binary, handshake
from tests.harness.live import SECONDS, relay

pytestmark = pytest.mark.interop

#: Clients that never read, and what is published to each: twice what Linux keeps of a connection without a bound.
CLIENTS, MESSAGES, MESSAGE_BYTES = 24, 90, 100_000

#: The most bytes that the kernel may keep of one connection, unsent or not taken by the reader.
MAX_QUEUED_BYTES = 300 * 2**10

#: Column of a connection's state in the kernel's table, and the state of an open one.
_STATE, _ESTABLISHED = 3, "01"


def queued_bytes(server_port: int) -> list[int]:
    """Return the bytes in the send queue of each open connection of a server, from the kernel's table."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
    ours = [row for row in rows if row[1].endswith(f":{server_port:04X}") and row[_STATE] == _ESTABLISHED]
    return [int(row[4].partition(":")[0], 16) for row in ours]


@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "nginx"])
def test_never_readers(proxied: bool, tmp_path: Path) -> None:
    """The kernel keeps at most 300 KiB for a client that never reads, on each side of nginx; readers get all."""
    with ExitStack() as stack:
        server = stack.enter_context(relay("--slow-policy", "drop-oldest", "--close-seconds", "1"))
        ports = [port(server)]
        if proxied:
            ports.append(stack.enter_context(nginx(ports[0], tmp_path, "sndbuf=64k")))
        with attacked(server) as attack, ExitStack() as clients:
            reader, publisher = (clients.enter_context(WebsocketsClient(server.url(ATTACKED))) for _ in range(2))
            for _ in range(CLIENTS):
                mute = clients.enter_context(socket.create_connection(("127.0.0.1", ports[-1]), SECONDS))
                mute.sendall(handshake(f"/{ATTACKED}"))
                assert mute.recv(12) == b"HTTP/1.1 101"
            for number in range(MESSAGES):
                message = bytes([number]) * MESSAGE_BYTES
                publisher.say(binary(message))
                assert reader.hear() == message
            attack.bystanders.exchange()
            for each in ports:
                queued = queued_bytes(each)
                assert len(queued) >= CLIENTS
                assert max(queued) <= MAX_QUEUED_BYTES
            attack.bystanders.welcome()
