"""Relays that share a broker, each behind a forwarder of its own.

Must not live here: clients (:mod:`tests.faults.talkers`), brokers (:mod:`tests.harness.broker`).
"""

import http.client
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Final

from tests.harness.background import Background
from tests.harness.forwarder import Forwarder
from tests.harness.live import SECONDS, Relay, relay, until

#: Options of all nodes; TCP's own limits on one address are not what is tested.
OPTIONS: Final = ("--http", "--admin", "tcp:0", "--drain-seconds", "0")


class Node:
    """A relay of several.

    Attributes:
        relay: its process.
        forwarder: between it and the broker.
        background: the forwarder's loop.
    """

    def __init__(self, server: Relay, forwarder: Forwarder, background: Background) -> None:
        self.background = background
        self.relay = server
        self.forwarder = forwarder

    @property
    def port(self) -> int:
        """Its port for clients."""
        return int(self.relay.addresses[0].rstrip("/").rpartition(":")[2])

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels; 0 without any.

        Args:
            name: without ``wsrelay_backplane_``.
            labels: and their values.
        """
        _, page = self.relay.ask("/metrics")
        found = re.findall(rf"(?m)^wsrelay_backplane_{name}(?:{{(.*)}})? (\S+)$", page)
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(float(value) for given, value in found if all(one in given.split(",") for one in wanted))

    def is_ready(self) -> bool:
        """Whether it is ready for clients."""
        status, _ = self.relay.ask("/readyz")
        return bool(status == 200)

    def await_ready(self, *, ready: bool = True) -> None:
        """Wait until it is ready, or is not."""
        until(lambda: self.is_ready() == ready)

    def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, str], str]:
        """Send a request to the relay's own port; return status, fields and body."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)) as connection:
            connection.request(method, path, body, UPGRADE if method == "GET" else {})
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read().decode()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop it with SIGSTOP while the block runs."""
        self.relay.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.relay.signal(signal.SIGCONT)


#: The fields of a handshake.
UPGRADE: Final = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def ports(nodes: Sequence[Node]) -> list[int]:
    """Return the ports of relays."""
    return [node.port for node in nodes]


@contextmanager
def counted(nodes: Sequence[Node], metric: str, **labels: str) -> Iterator[None]:
    """Wait, at the end of the block, until a metric of each relay has grown: the fault took place."""
    before = [node.metric(metric, **labels) for node in nodes]
    yield
    for node, count in zip(nodes, before, strict=True):
        until(lambda node=node, count=count: node.metric(metric, **labels) > count)


@contextmanager
def started(
    background: Background, broker: int, *options: str, count: int = 2, url: str = "redis://127.0.0.1:{port}"
) -> Iterator[list[Node]]:
    """Run relays that share a broker.

    Args:
        background: the loop of their forwarders.
        broker: its port.
        options: of all of them.
        count: how many.
        url: of the broker; ``{port}`` is the port of the relay's forwarder.
    """
    with ExitStack() as stack:
        nodes = []
        for number in range(count):
            forwarder = stack.enter_context(Forwarder(background, broker))
            backplane = ("--backplane", url.format(port=forwarder.port), "--node-name", f"node{number}")
            server = stack.enter_context(relay(*OPTIONS, *backplane, *options))
            nodes.append(Node(server, forwarder, background))
        yield nodes
