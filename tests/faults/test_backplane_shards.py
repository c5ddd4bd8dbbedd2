"""Rooms spread over shards: on two brokers, and on the slots of a Redis Cluster. One broker of two fails."""

from collections.abc import Iterator

import pytest

from tests.faults.accounts import Report
from tests.faults.nodes import counted, ports, started
from tests.faults.talkers import Talk
from tests.harness.background import Background
from tests.harness.broker import Broker, join_cluster

pytestmark = pytest.mark.deploy

#: Redis Cluster has 16384 slots; the tags {0} to {3} are in both halves.
HALVES = ((0, 8191), (8192, 16383))


@pytest.fixture(scope="module")
def background() -> Iterator[Background]:
    """A loop for forwarders and clients."""
    with Background() as running:
        yield running


def check(background: Background, url: str, failing: Broker) -> None:
    """Kill and restart one of the brokers: each message is delivered once."""
    with started(background, 0, url=url) as nodes, Talk(background, ports(nodes)) as talk:
        with counted(nodes, "incarnations_total"):
            talk.wait()
            failing.kill()
            talk.wait()
            failing.start()
        talk.wait()
        assert (talk.finish(one_order=False), talk.endings()) == (Report(), {})


def test_two_brokers(background: Background) -> None:
    """Two shards on two brokers."""
    with Broker() as one, Broker() as other:
        check(background, f"redis://127.0.0.1:{one.port},127.0.0.1:{other.port}/0?shards=2", other)
        assert [broker.command("KEYS", "*:log") for broker in (one, other)] == [
            [b"wsrelay:{0}:log"],
            [b"wsrelay:{1}:log"],
        ]


def test_cluster(background: Background) -> None:
    """Four shards on the slots of two nodes of a Redis Cluster, which names the node of each slot (MOVED)."""
    with Broker(slots=HALVES[0]) as one, Broker(slots=HALVES[1]) as other:
        join_cluster(one, other)
        check(background, f"redis://127.0.0.1:{one.port}/0?shards=4", other)
        assert all(broker.command("KEYS", "*:log") for broker in (one, other))
