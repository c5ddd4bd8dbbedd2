"""Faults that clients are told of, by 1013 or 503. A told client received all before its close; others lose nothing.

Relays here have a grace of one second.
"""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.faults.accounts import Report
from tests.faults.nodes import Node, ports, started
from tests.faults.talkers import Talk
from tests.harness.background import Background
from tests.harness.broker import LOADING, Broker
from tests.harness.live import until
from wsrelay.closecodes import MESSAGES_LOST, NO_BROKER, RESTARTING

pytestmark = pytest.mark.deploy

#: The bound on what waits for the broker, in bytes.
PENDING = 2**20

OPTIONS = [
    *("--backplane-grace-seconds", "1", "--backplane-log-bytes", str(2**20), "--backplane-pending-bytes", str(PENDING)),
    *("--slow-policy", "drop/*=drop-oldest"),
]

UNAVAILABLE = (NO_BROKER.code, NO_BROKER.text)
GAP = (MESSAGES_LOST.code, MESSAGES_LOST.text)


@pytest.fixture(scope="module")
def background() -> Iterator[Background]:
    """A loop for forwarders and clients."""
    with Background() as running:
        yield running


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A broker without persistence."""
    with Broker() as running:
        yield running


@pytest.fixture(scope="module")
def nodes(background: Background, broker: Broker) -> Iterator[list[Node]]:
    """Two relays."""
    with started(background, broker.port, *OPTIONS) as running:
        yield running


@contextmanager
def talking(nodes: list[Node], **options: object) -> Iterator[Talk]:
    """Let clients publish; all nodes that still run are ready in the end, and serve new clients without loss."""
    with Talk(nodes[0].background, ports(nodes), **options) as talk:  # type: ignore[arg-type]
        talk.wait()
        yield talk
    left = [node for node in nodes if node.relay.running]
    for node in left:
        node.await_ready()
    with Talk(nodes[0].background, ports(left)) as again:
        again.wait(50)
        assert (again.finish(), again.endings()) == (Report(), {})


def assert_unavailable(node: Node) -> None:
    """Assert that a relay refuses clients and messages with 503 and Retry-After, and says so to its load balancer."""
    for method, body in (("GET", b""), ("POST", b"a message")):
        status, fields, _ = node.request(method, "/unavailable", body)
        assert (status, "Retry-After" in fields) == (503, True), method
    assert not node.is_ready()


def test_netsplit(nodes: list[Node]) -> None:
    """One relay cannot reach the broker for longer than the grace: its clients get 1013, new ones 503."""
    with talking(nodes) as talk:
        nodes[1].forwarder.silence()
        talk.await_close(lambda one: one.node == 1)
        assert set(talk.endings()) == {UNAVAILABLE}
        assert_unavailable(nodes[1])
        assert nodes[0].is_ready()
        talk.wait()
        nodes[1].forwarder.resume()
        assert (talk.finish(), talk.endings(lambda one: one.node == 0)) == (Report(), {})


def test_broker_gone(nodes: list[Node], broker: Broker) -> None:
    """The broker is away for longer than the grace: all clients of all relays get 1013, new ones 503."""
    with talking(nodes) as talk:
        broker.kill()
        talk.await_close()
        assert set(talk.endings()) == {UNAVAILABLE}
        for node in nodes:
            assert_unavailable(node)
        broker.start()
        assert talk.audit() == Report()


def test_node_killed(nodes: list[Node], background: Background, broker: Broker) -> None:
    """`kill -9` of one relay of three: its clients are reset, all others have the same of its messages."""
    with started(background, broker.port, *OPTIONS, count=1) as more, talking([*nodes, *more]) as talk:
        more[0].relay.signal(signal.SIGKILL)
        talk.await_close(lambda one: one.node == 2)
        talk.wait()
        assert (talk.finish(), set(talk.endings())) == (Report(), {(None, "")})
        assert talk.endings(lambda one: one.node < 2) == {}


def test_node_stopped(nodes: list[Node], background: Background, broker: Broker) -> None:
    """SIGTERM: what was read is published before the end, unless the broker does not answer for a second."""
    with started(background, broker.port, *OPTIONS, count=1) as more, talking([*nodes, *more]) as talk:
        more[0].relay.stop()
        talk.await_close(lambda one: one.node == 2)
        talk.wait()
        assert (talk.finish(), set(talk.endings())) == (Report(), {(RESTARTING.code, RESTARTING.text)})
    with started(background, broker.port, *OPTIONS, count=1) as (node,), Talk(background, [node.port]) as talk:
        broker.freeze()
        try:
            talk.wait(50)
            node.relay.stop()
        finally:
            broker.thaw()
        node.relay.output.wait_for("the last .* bytes could not be published")


def test_log_trimmed(nodes: list[Node]) -> None:
    """A relay is frozen until the log lacks what it has not read: its rooms' slow policies say what members get."""
    rooms = ["keep/0", "keep/1", "drop/2", "drop/3", "drop/4"]
    with talking(nodes, rooms=rooms, filler_bytes=4000) as talk:
        gaps = nodes[1].metric("gaps_total")
        with nodes[1].frozen():
            talk.wait(1000)
        talk.await_close(lambda one: one.node == 1 and one.room.startswith("keep/"))
        talk.wait()
        report = talk.finish()
        assert talk.endings() == {GAP: 6}
        assert (report, nodes[1].metric("gaps_total") > gaps) == (Report(lost=report.lost), True)
        assert talk.audit(lambda one: one.node == 0) == Report()
        assert talk.audit(lambda one: one.room.startswith("keep/")) == Report()


def test_pending_bytes(nodes: list[Node], broker: Broker) -> None:
    """The broker stands still while more is published than may wait: publishers are held, and nothing is lost.

    What was read of them before they were held comes on top of the bound: at most 64 KiB of each of ten.
    """
    with talking(nodes, filler_bytes=4000) as talk:
        broker.freeze()
        try:
            talk.wait(600)  # more than twice the bound
            waiting = [node.metric("pending_bytes") for node in nodes]
        finally:
            broker.thaw()
        assert all(PENDING // 2 < each < PENDING + 10 * 2**16 for each in waiting)
        assert (talk.finish(), talk.endings()) == (Report(), {})


def test_refused_from_the_start(background: Background) -> None:
    """A broker that refuses writes when a relay starts: H 503 and a line that names the reason, and later service."""
    with Broker() as full:
        full.command("CONFIG", "SET", "maxmemory", 1)
        with started(background, full.port, *OPTIONS, count=1) as (node,):
            node.relay.output.wait_for("backplane: .*OOM")
            assert_unavailable(node)
            full.command("CONFIG", "SET", "maxmemory", 0)
            node.await_ready()


def slow_to_load() -> Broker:
    """Return a broker that needs 3 ms for each key when it loads them."""
    return Broker(key_load_delay=3000, loading_process_events_interval_bytes=1024)


def test_wrong_brokers(background: Background, broker: Broker, tmp_path: Path) -> None:
    """A relay that meets a broker it cannot use says why, refuses clients, and takes it as soon as it is usable."""
    acl = tmp_path / "users.acl"
    acl.write_text("user default on nopass ~* &* +@all -xadd\n", "utf-8")
    with ExitStack() as stack:
        wrong = {
            "replica": stack.enter_context(Broker(master=broker)),
            "auth": stack.enter_context(Broker(password="secret")),
            "noperm": stack.enter_context(Broker(acl=acl)),
            "loading": stack.enter_context(slow_to_load()),
        }
        wrong["loading"].command("DEBUG", "POPULATE", 1000, "key", 100)
        wrong["loading"].command("SAVE")
        wrong["loading"].stop()
        wrong["replica"].await_replica()
        (node,) = stack.enter_context(
            started(background, wrong["replica"].port, *OPTIONS, "--validate-seconds", "1", count=1)
        )
        for reason, one in wrong.items():
            if reason == "loading":
                one.start(LOADING)
            node.forwarder.move(one.port)
            until(lambda reason=reason: node.metric("reconnects_total", reason=reason) > 0)
            assert_unavailable(node)
        node.await_ready()
