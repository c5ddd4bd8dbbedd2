"""Faults in which the broker loses messages that it had acknowledged: relays have them, and send them again.

Live subscribers get each message once. One order of a room's messages at all clients is promised only around messages
that were not lost (docs/reliability.md).
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.accounts import Report
from tests.faults.clocks import WallClock, compiled
from tests.faults.nodes import Node, counted, ports, started
from tests.faults.talkers import Talk
from tests.harness.background import Background
from tests.harness.broker import Broker, Sentinel
from tests.harness.live import until

pytestmark = pytest.mark.deploy

#: The key of the log.
LOG = "wsrelay:{0}:log"


class Cluster:
    """Two relays, and brokers that keep nothing, one of which serves the relays.

    Attributes:
        nodes: the relays.
        broker: the serving broker.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.background = stack.enter_context(Background())
        self.broker = self.add(Broker())
        # Last, so that relays stop before their brokers.
        self.nodes = stack.enter_context(started(self.background, self.broker.port))

    def add(self, broker: Broker) -> Broker:
        """Start a broker."""
        return self._stack.enter_context(broker)

    def replica(self, **options: object) -> Broker:
        """Start a replica of the serving broker, and wait until it has all."""
        replica = self.add(Broker(master=self.broker, **options))
        replica.await_replica()
        return replica

    def serve(self, broker: Broker, *nodes: Node) -> None:
        """Let a broker serve relays, by default all."""
        for node in nodes or self.nodes:
            node.forwarder.move(broker.port)
        self.broker = broker


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two relays, and a broker without persistence."""
    with ExitStack() as stack:
        yield Cluster(stack)


@pytest.fixture
def talk(cluster: Cluster) -> Iterator[Talk]:
    """Clients that publish; the test ends with relays that are ready."""
    with Talk(cluster.background, ports(cluster.nodes)) as talking:
        talking.wait()
        yield talking
    for node in cluster.nodes:
        node.await_ready()


def check(talk: Talk) -> None:
    """Publish a little longer; then each message was delivered once, and no client was closed."""
    talk.wait()
    assert (talk.finish(one_order=False), talk.endings()) == (Report(), {})


def test_all_lost(talk: Talk, cluster: Cluster) -> None:
    """`kill -9` of a broker without persistence, twice."""
    for _ in range(2):
        with counted(cluster.nodes, "resent_total"):
            cluster.broker.kill()
            talk.wait()
            cluster.broker.start()
        talk.wait()
    check(talk)


def test_all_lost_while_frozen(talk: Talk, cluster: Cluster) -> None:
    """One relay is frozen (SIGSTOP) while the broker loses all, and the other publishes on."""
    with cluster.nodes[1].frozen():
        talk.wait(100)
        cluster.broker.kill()
        cluster.broker.start()
        cluster.nodes[0].await_ready()
        talk.wait(500)
    check(talk)


def test_new_node(talk: Talk, cluster: Cluster) -> None:
    """A third relay starts while the others send again: what is from before its start is not for its clients."""
    with counted(cluster.nodes, "resent_total"):
        cluster.broker.kill()
        with started(cluster.background, cluster.broker.port, count=1) as (third,):
            cluster.broker.start()
            third.await_ready()
            talk.join_node(third.port)
            check(talk)
            assert (third.metric("gaps_total"), third.metric("read_entries_total") > 0) == (0, True)


def test_failover_behind(talk: Talk, cluster: Cluster) -> None:
    """The relays are moved to a replica that lacks the last 0.8 seconds."""
    replica = cluster.replica()
    with counted(cluster.nodes, "resent_total"):
        replica.promote()  # now, so that it cannot catch up from its socket
        talk.wait(400)
        cluster.serve(replica)
    check(talk)


def test_failover_skewed(talk: Talk, cluster: Cluster, tmp_path: Path) -> None:
    """The same with a replica whose clock is 3 seconds behind: the log's ids go back."""
    clock = WallClock(compiled(tmp_path), tmp_path / "shift")
    clock.step(-3)
    replica = cluster.replica(environ=clock.environ)
    old = cluster.broker
    with counted(cluster.nodes, "resent_total"):
        replica.promote()
        talk.wait(400)
        cluster.serve(replica)
    talk.wait()
    assert newest(replica) < newest(old)
    check(talk)


def newest(broker: Broker) -> list[int]:
    """Return the newest id of a broker's log, as two numbers."""
    reply = broker.command("XREVRANGE", LOG, "+", "-", "COUNT", 1)
    assert isinstance(reply, list)
    assert isinstance(reply[0], list)
    assert isinstance(reply[0][0], bytes)
    return [int(number) for number in reply[0][0].split(b"-")]


def test_split_brain(talk: Talk, cluster: Cluster) -> None:
    """For a while each relay has a master of its own."""
    replica = cluster.replica()
    replica.promote()
    with counted(cluster.nodes, "incarnations_total"):
        cluster.serve(replica, cluster.nodes[0])
        talk.wait(400)
        cluster.serve(replica)
    check(talk)


def test_two_servers(talk: Talk, cluster: Cluster) -> None:
    """An address that leads to two masters in turn: no relay reads from one and writes to the other."""
    other = cluster.add(Broker())
    forwarder = cluster.nodes[1].forwarder
    accepted = forwarder.accepted
    forwarder.move(other.port, cluster.broker.port)  # the first one is the writer's
    until(lambda: forwarder.accepted > accepted + 4)
    assert not cluster.nodes[1].is_ready()
    assert other.command("EXISTS", LOG) == 0
    forwarder.move(cluster.broker.port)
    check(talk)


def test_sentinel_failover() -> None:
    """Sentinel promotes the replica of a killed master, and the relays ask it for the new one."""
    with ExitStack() as stack:
        background = stack.enter_context(Background())
        master = stack.enter_context(Broker())
        replica = stack.enter_context(Broker(master=master))
        replica.await_replica()
        sentinel = stack.enter_context(Sentinel(master))
        sentinel.await_replicas()
        nodes = stack.enter_context(started(background, 0, url=sentinel.url))
        with Talk(background, ports(nodes)) as talk, counted(nodes, "incarnations_total"):
            talk.wait()
            master.kill()
            until(lambda: sentinel.master_port() == replica.port)
            check(talk)
