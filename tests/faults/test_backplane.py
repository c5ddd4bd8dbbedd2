"""Faults of a broker that keeps its data: two relays deliver each message once, and their clients see a delay at most.

In each test ten clients publish on each relay, 500 messages a second, and five listen.
"""

from collections.abc import Iterator

import pytest

from tests.faults.accounts import Report
from tests.faults.nodes import Node, counted, ports, started
from tests.faults.talkers import Talk
from tests.harness.background import Background
from tests.harness.broker import Broker
from tests.harness.live import until
from wsrelay.closecodes import MESSAGES_LOST

pytestmark = pytest.mark.deploy

#: Refusals of writes: name → settings of the broker that lead to it, and those that end it.
REFUSALS = {
    "OOM": ({"maxmemory": 1}, {"maxmemory": 0}),
    "NOREPLICAS": ({"min-replicas-to-write": 1}, {"min-replicas-to-write": 0}),
    "MISCONF": ({"save": "3600 1", "dbfilename": "appendonlydir"}, {"save": "", "dbfilename": "dump.rdb"}),
}


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A broker with an append-only file."""
    with Broker(aof=True) as running:
        yield running


@pytest.fixture(scope="module")
def nodes(broker: Broker) -> Iterator[list[Node]]:
    """Two relays."""
    with Background() as background, started(background, broker.port) as running:
        yield running


@pytest.fixture
def talk(nodes: list[Node]) -> Iterator[Talk]:
    """Clients that publish; the test ends with relays that are ready."""
    with Talk(nodes[0].background, ports(nodes)) as talking:
        talking.wait()
        yield talking
    for node in nodes:
        node.await_ready()


def check(talk: Talk, *, one_order: bool = True) -> None:
    """Publish a little longer; then each message was delivered once, and no client was closed."""
    talk.wait()
    assert (talk.finish(one_order=one_order), talk.endings()) == (Report(), {})


def test_connection_cut(talk: Talk, nodes: list[Node], broker: Broker) -> None:
    """Connections are reset, by the way or by CLIENT KILL: the relays connect again, and send again."""
    with counted(nodes, "reconnects_total"):
        nodes[0].forwarder.cut()
        talk.wait()
        broker.command("CLIENT", "KILL", "TYPE", "normal")
    check(talk)


def test_slow_broker(talk: Talk, nodes: list[Node], broker: Broker) -> None:
    """The broker answers nothing for a while (CLIENT PAUSE, DEBUG SLEEP 3): relays wait; newcomers are let in."""
    broker.command("CLIENT", "PAUSE", 1000, "ALL")
    talk.wait()
    broker.command("DEBUG", "SLEEP", 3)
    talk.join()
    check(talk)


def test_slow_network(talk: Talk, nodes: list[Node]) -> None:
    """A way with a delay of 50 ms in each direction, for one relay."""
    nodes[0].forwarder.delay_seconds = 0.05
    try:
        check(talk)
    finally:
        nodes[0].forwarder.delay_seconds = 0


def test_clean_restart(talk: Talk, nodes: list[Node], broker: Broker) -> None:
    """A restart of the broker by SIGTERM."""
    with counted(nodes, "incarnations_total"):
        broker.stop()
        talk.wait()
        broker.start()
    check(talk)


def test_kill(talk: Talk, nodes: list[Node], broker: Broker) -> None:
    """`kill -9` of the broker: its file has all, because the kernel has it."""
    with counted(nodes, "incarnations_total"):
        broker.kill()
        talk.wait()
        broker.start()
    check(talk)


def test_truncated_aof(talk: Talk, nodes: list[Node], broker: Broker) -> None:
    """A power cut: the broker lacks its last entries, which all relays had read; they are sent again, not delivered."""
    with counted(nodes, "resent_total"), counted(nodes, "duplicates_total"):
        size = broker.aof_bytes()
        talk.wait()
        broker.kill()
        broker.truncate_aof(size)
        broker.start()
    check(talk, one_order=False)


def test_flushall(talk: Talk, nodes: list[Node], broker: Broker) -> None:
    """FLUSHALL empties the log of the same broker: a relay that had not read all of it tells its clients of the gap."""
    broker.command("FLUSHALL")
    talk.wait()
    assert talk.finish(one_order=False) == Report()
    assert set(talk.endings()) <= {(MESSAGES_LOST.code, MESSAGES_LOST.text)}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_refused_writes(talk: Talk, nodes: list[Node], broker: Broker, refusal: str) -> None:
    """The broker refuses writes for want of memory, disk or replicas: messages wait."""
    begin, end = REFUSALS[refusal]
    broker.command("CONFIG", "SET", *(word for pair in begin.items() for word in pair))
    try:
        if refusal == "MISCONF":
            broker.command("BGSAVE")
            until(lambda: broker.info("persistence")["rdb_last_bgsave_status"] == "err")
        until(lambda: not any(node.is_ready() for node in nodes))
        talk.wait()
    finally:
        broker.command("CONFIG", "SET", *(word for pair in end.items() for word in pair))
    check(talk)


def test_readonly(talk: Talk, nodes: list[Node], broker: Broker) -> None:
    """The broker becomes a replica under its connections, and then a master again."""
    with counted(nodes, "reconnects_total"):
        broker.command("REPLICAOF", "127.0.0.1", 1)
        until(lambda: not any(node.is_ready() for node in nodes))
        talk.wait()
        broker.command("REPLICAOF", "NO", "ONE")
    check(talk)


def test_noperm(talk: Talk, nodes: list[Node], broker: Broker) -> None:
    """The user loses its right to write, and gets it back."""
    broker.command("ACL", "SETUSER", "default", "-xadd")
    try:
        until(lambda: not any(node.is_ready() for node in nodes))
        talk.wait()
    finally:
        broker.command("ACL", "SETUSER", "default", "+xadd")
    check(talk)
