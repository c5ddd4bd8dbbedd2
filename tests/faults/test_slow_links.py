"""Members behind a slow link, alone and behind nginx: what they take counts as life, and the slow policy decides."""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.faults.proxies import nginx
from tests.faults.support import ATTACKED, Attack, attacked, port
from tests.harness import network
from tests.harness.clients import WebsocketsClient, binary
from tests.harness.live import LOOPBACK, SECONDS, missing, relay
from wsrelay import closecodes

pytestmark = pytest.mark.interop

#: The size of a message: a number, and noise that nothing compresses.
MESSAGE_BYTES = 2000

#: More than the bytes between publishing the newest message and reading it, in the transport, the kernel and the link;
#: less than half of the log.
PATH_BYTES = 400_000

#: Options of nginx's ``listen``.
NGINX = "sndbuf=64k"


@contextmanager
def slow_member(link: network.SlowLink, url: str) -> Iterator[ClientConnection]:
    """Connect a member behind the link, which reads when the test does."""
    with ExitStack() as stack:
        with link.far():
            connecting = connect(url, compression=None, max_queue=1, ping_interval=None, proxy=None)
            member = stack.enter_context(connecting)
        yield member
        with suppress(OSError):
            member.socket.shutdown(socket.SHUT_RDWR)  # a close would take as long as the bytes before it


def flood(attack: Attack, publisher: WebsocketsClient, member: ClientConnection, count: int) -> tuple[int, list[int]]:
    """Publish more than the link carries while the member reads messages; return the number published, and those."""
    last, read = 0, []
    while len(read) < count:
        for _ in range(20):
            last += 1
            publisher.say(binary(last.to_bytes(4) + bytes(MESSAGE_BYTES - 4)))
        attack.bystanders.exchange()
        read.append(int.from_bytes(bytes(member.recv(SECONDS))[:4]))
    return last, read


@pytest.mark.parametrize(
    ("policy", "proxied", "ping_seconds", "count"),
    [
        ("drop-oldest", False, 0.5, 100),
        ("latest", False, 0.5, 100),
        ("disconnect", False, 0.5, 100),
        ("latest", True, 2, 250),
        ("disconnect", True, 2, 250),
    ],
)
def test_slow_link(policy: str, proxied: bool, ping_seconds: float, count: int, tmp_path: Path) -> None:
    """On a link slower than its room, a member that reads on is not closed for late pongs: its policy alone decides.

    The link carries 32 messages per second: three pings and more are due while the member reads. nginx on the same
    host reads from the relay once a second, 64 KiB at a time.
    """
    if (problem := network.problem()) is not None:
        missing("a slow link", problem)
    options = ["--slow-policy", policy, "--ping-seconds", str(ping_seconds)]
    options += ["--max-message-bytes", "65536", "--room-log-bytes", "1000000"]
    listen = [LOOPBACK, f"tcp:0:interface={network.NEAR}"]
    with ExitStack() as stack:
        link = stack.enter_context(network.slow_link(kbit=512))
        server = stack.enter_context(relay(*options, listen=listen))
        attack = stack.enter_context(attacked(server, shared=False))
        url = server.addresses[1]
        if proxied:
            url = f"ws://{network.NEAR}:{stack.enter_context(nginx(port(server), tmp_path, NGINX, network.NEAR))}/"
        member = stack.enter_context(slow_member(link, url + ATTACKED))
        publisher = stack.enter_context(WebsocketsClient(server.url(ATTACKED)))
        if policy == "disconnect":
            with pytest.raises(ConnectionClosed) as closed:
                flood(attack, publisher, member, 10 * count)
            assert closed.value.rcvd is not None, server.output.text
            assert closed.value.rcvd.code == closecodes.TOO_SLOW.code
        else:
            last, read = flood(attack, publisher, member, count)
            assert read == sorted(set(read))
            assert last > 2 * len(read)
        if policy == "latest" and not proxied:  # nginx's kernel takes an unknown number of bytes more
            publisher.say(binary(bytes(MESSAGE_BYTES)))
            behind = 0
            while any(bytes(member.recv(SECONDS))):
                behind += MESSAGE_BYTES
            assert behind < PATH_BYTES
        assert not re.search(rf"relay closed with (?!{closecodes.TOO_SLOW.code})", server.output.text)
