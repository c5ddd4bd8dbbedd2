"""Rooms with history on relays that share a broker: clients come back to any relay, and miss nothing or are told.

They are told by 4410, 410 or ``event: gap``. Bystanders talk in rooms without history on relays that stay.
"""

import json
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise, product

import pytest

from tests.faults.accounts import Report
from tests.faults.nodes import Node, counted, ports, started
from tests.faults.talkers import Talk
from tests.harness.background import Background
from tests.harness.broker import Broker
from tests.harness.live import SECONDS, until
from tests.harness.room_http import Room
from wsrelay.closecodes import MESSAGES_LOST
from wsrelay.message_id import MessageId

pytestmark = pytest.mark.deploy

OPTIONS = ("--history", "kept/**=5000", "--greet", "kept/greeting=2", "--slow-policy", "kept/drop/**=drop-oldest")

GONE = (4410, "the history is gone: fetch the state anew")

#: The key of the log.
LOG = "wsrelay:{0}:log"

#: Messages of a storm.
STORM = 2000


@pytest.fixture(scope="module")
def background() -> Iterator[Background]:
    """A loop for forwarders and clients."""
    with Background() as running:
        yield running


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A broker with an append-only file."""
    with Broker(aof=True) as running:
        yield running


@pytest.fixture(scope="module")
def nodes(background: Background, broker: Broker) -> Iterator[list[Node]]:
    """Two relays."""
    with started(background, broker.port, *OPTIONS) as running:
        yield running


@pytest.fixture
def room(request: pytest.FixtureRequest, nodes: list[Node]) -> Room:
    """A room on the first relay, which has history, and which no other test uses."""
    name = request.node.name.replace("[", "/").rstrip("]")
    return Room(nodes[0].port, f"kept/{name}")


@contextmanager
def bystanders(nodes: Sequence[Node], *, one_order: bool = True) -> Iterator[Talk]:
    """Let others talk on these relays; in the end each message was delivered once, and no client was closed."""
    with Talk(nodes[0].background, ports(nodes)) as talk:
        talk.wait(50)
        yield talk
        talk.wait(50)
        assert (talk.finish(one_order=one_order), talk.endings()) == (Report(), {})
    for node in nodes:
        node.await_ready()


@contextmanager
def extra(background: Background, broker: Broker, *options: str) -> Iterator[Node]:
    """Run one more relay, which is ready."""
    with started(background, broker.port, *OPTIONS, *options, count=1) as (node,):
        node.await_ready()
        yield node


def await_read(room: Room, newest: str) -> None:
    """Wait until a relay has read a message: it may be some milliseconds behind the one that published it."""
    until(lambda: MessageId.parse(room.at()) >= MessageId.parse(newest))


def await_epoch(begin: str, *rooms: Room) -> None:
    """Wait until relays agree on a later epoch than that of an id: before, each may have one of its own."""

    def epochs() -> set[str]:
        return {MessageId.parse(room.at()).epoch for room in rooms}

    until(lambda: len(found := epochs()) == 1 and max(found) > MessageId.parse(begin).epoch)


def assert_same(room: Room, nodes: Sequence[Node], expected: list[tuple[str, str]]) -> None:
    """Assert that relays serve the same history of a room, in ascending order."""
    ids = [MessageId.parse(one) for one, _ in expected]
    assert all(one < other for one, other in pairwise(ids))
    for node in nodes:
        there = room.on(node.port)
        await_read(there, expected[-1][0])
        assert there.history() == expected
        middle = len(expected) // 2
        assert there.history(f"?since={expected[middle - 1][0]}") == expected[middle:]
        assert there.history("?last=2") == expected[-2:]
        assert there.history(f"?since={there.at()}") == []


def assert_told(rooms: Sequence[Room], old: Sequence[tuple[str, str]]) -> None:
    """Assert that relays do not serve what came after ids, say so to each kind of client, and go on.

    Args:
        rooms: the room on each of them.
        old: the ids, each with its text.
    """
    newest = rooms[0].at()
    for room, (since, _) in product(rooms, old):
        await_read(room, newest)
        assert "the history is gone" in room.read(f"?since={since}", status=410)
        with room.client(f"?since={since}") as client:
            assert client.closed() == GONE
        with room.stream(last_id=since) as events, room.client() as client:
            at = events.first_id()
            assert events.gap() == {"after": since, "at": at, "why": "gone"}
            (new,) = room.publish("after the gap")
            assert (events.texts(1), events.last_id, client.hear()) == (["after the gap"], new, "after the gap")
        (newest,) = room.publish("and later")
        assert room.history(f"?since={at}") == [(new, "after the gap"), (newest, "and later")]


def published(room: Room, *texts: str) -> list[tuple[str, str]]:
    """Publish texts, and return them with their ids."""
    return list(zip(room.publish(*texts), texts, strict=True))


def test_resume_elsewhere(room: Room, nodes: list[Node], background: Background, broker: Broker) -> None:
    """`kill -9` of a relay: its clients come to another one, and get exactly what they missed."""
    with bystanders(nodes), extra(background, broker) as killed:
        here = room.on(killed.port)
        with here.stream() as events:
            begin = events.first_id()
            sent = published(here, "a", "b")
            assert (events.texts(2), events.last_id) == (["a", "b"], sent[-1][0])
            killed.relay.signal(signal.SIGKILL)
            killed.relay.wait()
            assert events.rest() == []
        missed = published(room, "c", "d")
        for node in nodes:
            there = room.on(node.port)
            with there.stream(last_id=events.last_id) as again, there.client(f"?since={sent[0][0]}") as client:
                assert again.first_id() == events.last_id
                missed += published(room, f"live on {node.port}")
                texts = [text for _, text in missed]
                assert (again.texts(len(texts)), again.last_id) == (texts, missed[-1][0])
                assert [client.hear() for _ in range(len(texts) + 1)] == ["b", *texts]
                client.hears_nothing()
        assert_same(room, nodes, sent + missed)
        assert room.history(f"?since={begin}") == sent + missed


def test_resume_elsewhere_in_a_storm(room: Room, nodes: list[Node], background: Background, broker: Broker) -> None:
    """The same while another client publishes without a pause: no message twice, none missing, in order."""

    def storm() -> None:
        with room.client() as client:
            for number in range(1, STORM + 1):
                client.ws.send(str(number))
            client.hears_nothing()  # its pong says that all was read

    with bystanders(nodes[1:]), extra(background, broker) as killed:
        thread = threading.Thread(target=storm)
        got = []
        with room.on(killed.port).stream() as events:
            events.first_id()
            thread.start()
            got += events.texts(STORM // 10)
            killed.relay.signal(signal.SIGKILL)
            killed.relay.wait()
            got += events.rest()
        with room.on(nodes[1].port).stream(last_id=events.last_id) as again:
            again.first_id()
            got += again.texts(STORM - len(got))
        thread.join(SECONDS)
    assert got == [str(number) for number in range(1, STORM + 1)]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_broker_restarted(room: Room, nodes: list[Node], broker: Broker, end: str) -> None:
    """A broker with an append-only file restarts, or is killed: the epoch is the same, and all ids hold."""
    with bystanders(nodes), room.stream() as events, room.client() as client:
        begin = events.first_id()
        sent = published(room, "a", "b")
        with counted(nodes, "incarnations_total"):
            getattr(broker, end)()
            client.ws.send("while it is away")
            broker.start()
        for node in nodes:
            node.await_ready()
        assert events.texts(3) == ["a", "b", "while it is away"]
        sent.append((events.last_id, "while it is away"))
        sent += published(room, "c")
        assert MessageId.parse(sent[-1][0]).epoch == MessageId.parse(begin).epoch
        assert_same(room, nodes, sent)
        for node in nodes:
            with room.on(node.port).stream(last_id=sent[0][0]) as again:
                assert (again.first_id(), again.texts(3)) == (sent[0][0], [text for _, text in sent[1:]])


def test_broker_truncated(room: Room, nodes: list[Node], background: Background, broker: Broker) -> None:
    """A power cut takes the tail of the broker's file: ids from before are void, on old relays and on a new one."""
    with bystanders(nodes, one_order=False), room.stream() as events:
        begin = events.first_id()
        sent = published(room, "a")
        size = broker.aof_bytes()
        sent += published(room, "b", "c")
        with counted(nodes, "resent_total"), counted(nodes, "incarnations_total"):
            broker.kill()
            broker.truncate_aof(size)
            broker.start()
        for node in nodes:
            node.await_ready()
        await_epoch(begin, room, room.on(nodes[1].port))
        (new,) = published(room, "d")
        assert events.texts(4) == ["a", "b", "c", "d"]  # live, nothing is lost, or doubled
        assert events.last_id == new[0]
        with extra(background, broker) as third:
            rooms = [room.on(node.port) for node in (*nodes, third)]
            assert_told(rooms, sent)
            await_read(room, rooms[-1].at())
            later = room.history(f"?since={new[0]}")
            for there in rooms:
                await_read(there, later[-1][0])
                assert there.history(f"?since={new[0]}") == later
                everything = there.history()
                assert everything[-len(later) - 1 :] == [new, *later]
                older = [text for _, text in everything[: -len(later) - 1]]
                assert len(older) == len(set(older))


def test_broker_truncated_publisher_gone(background: Background) -> None:
    """The same where the lost messages are those of a relay that was killed: another one, which had read them, tells.

    It has lost nothing of its own: while the bystanders pause, it publishes nothing. New relays tell after the grace,
    for which the killed one might come back and send them again.
    """
    grace = ("--backplane-grace-seconds", "1")
    with Broker(aof=True) as broker, extra(background, broker, *grace) as node:
        room = Room(node.port, "kept/truncated")
        with bystanders([node]) as talk:
            talk.pause()
            with extra(background, broker) as killed:
                sent = published(room, "a")
                size = broker.aof_bytes()
                sent += published(room.on(killed.port), "b", "c")
                await_read(room, sent[-1][0])
                killed.relay.signal(signal.SIGKILL)
                killed.relay.wait()
                with counted([node], "incarnations_total"):
                    broker.kill()
                    broker.truncate_aof(size)
                    broker.start()
            node.await_ready()
            for old, _ in sent:
                room.read(f"?since={old}", status=410)
            with extra(background, broker) as third:
                await_epoch(sent[0][0], room, room.on(third.port))
                assert_told([room, room.on(third.port)], sent)
            talk.speak()


def test_all_nodes_restarted(background: Background) -> None:
    """All relays end, and the broker stays: a relay that starts then serves what was published before."""
    with Broker() as broker:
        with extra(background, broker) as node:
            room = Room(node.port, "kept/restarted")
            begin = room.at()
            sent = published(room, "a", "b")
        with extra(background, broker) as node, bystanders([node]):
            room = room.on(node.port)
            with room.stream(last_id=sent[0][0]) as events, room.client(f"?since={begin}") as client:
                assert events.first_id() == sent[0][0]
                sent += published(room, "c")
                assert (events.texts(2), [client.hear() for _ in range(3)]) == (["b", "c"], ["a", "b", "c"])
            assert_same(room, [node], sent)


def test_broker_emptied(background: Background) -> None:
    """A broker without persistence is killed: live clients lose nothing, ids from before are void, new ones hold."""
    with Broker() as broker, started(background, broker.port, *OPTIONS) as nodes:
        room, other = (Room(node.port, "kept/emptied") for node in nodes)
        with bystanders(nodes, one_order=False), room.stream() as events, other.client() as client:
            begin = events.first_id()
            sent = published(room, "a", "b")
            with counted(nodes, "incarnations_total"):
                broker.kill()
                client.ws.send("while it is away")
                broker.start()
            for node in nodes:
                node.await_ready()
            assert events.texts(3) == ["a", "b", "while it is away"]
            await_epoch(begin, room, other)
            new = published(room, "c")
            assert (events.texts(1), events.last_id) == (["c"], new[0][0])
            assert [client.hear() for _ in range(3)] == ["a", "b", "c"]
            assert_told([room, other], sent)
            await_read(room, other.at())
            assert other.history(f"?since={new[0][0]}") == room.history(f"?since={new[0][0]}")


def test_new_node(nodes: list[Node], background: Background, broker: Broker) -> None:
    """A relay that starts later serves what was published before: by since, by last, as a greeting."""
    room = Room(nodes[0].port, "kept/greeting")
    with bystanders(nodes), room.client() as client:
        begin = room.at()
        sent = published(room, "a", "b")
        client.ws.send("c")
        client.ws.send(bytes(range(256)))
        until(lambda: len(room.read("?last=9")["messages"]) == 4)
        sent += published(room.on(nodes[1].port), "e", "f")
        with extra(background, broker) as third:
            there = room.on(third.port)
            assert there.read("?last=9")["messages"] == room.read("?last=9")["messages"]
            assert there.read(f"?since={begin}")["messages"] == room.read("?last=9")["messages"]
            with there.client() as greeted, there.client(f"?since={sent[1][0]}") as resumed:
                assert [greeted.hear() for _ in range(2)] == ["e", "f"]
                assert [resumed.hear() for _ in range(4)] == ["c", bytes(range(256)), "e", "f"]
                with there.stream("?last=1") as last, there.stream(last_id=sent[2][0]) as events:
                    for one in (last, events):
                        one.first_id()
                        assert (one.texts(1), one.last_id) == (["f"], sent[-1][0])
                (new,) = published(room, "g")
                assert (greeted.hear(), resumed.hear()) == ("g", "g")
            assert there.history("?last=1") == [new]


def test_new_node_trimmed_log(room: Room, nodes: list[Node], background: Background, broker: Broker) -> None:
    """The log was trimmed before a relay starts: it knows what it has read, and tells clients that want more."""
    with bystanders(nodes):
        sent = published(room, "a", "b", "c")
        first = "-".join(map(str, MessageId.parse(sent[1][0]).place[:2]))
        broker.command("XTRIM", LOG, "MINID", first)
        with extra(background, broker) as third:
            there = room.on(third.port)
            assert there.history() == sent[1:]
            assert not there.read("?last=9")["complete"]
            assert there.history(f"?since={sent[1][0]}") == sent[2:]
            assert_told([there], sent[:1])
        assert room.history()[:3] == sent


def test_node_behind(room: Room, nodes: list[Node]) -> None:
    """A client that comes with an id its new relay has not read yet waits, and gets no message twice."""
    behind = nodes[1]
    there = room.on(behind.port)
    known = published(room, "a")
    await_read(there, known[0][0])
    with bystanders(nodes[:1]), ThreadPoolExecutor() as pool:
        behind.forwarder.silence()
        try:
            sent = published(room, "b", "c")
            waiting = pool.submit(there.client(f"?since={sent[0][0]}").__enter__)
            until(lambda: in_progress(behind) == 1)
            early = there.client(f"?since={known[0][0]}").__enter__()
        finally:
            behind.forwarder.resume()
        ahead = waiting.result(SECONDS)
        sent += published(room, "d")
        try:
            assert [ahead.hear() for _ in range(2)] == ["c", "d"]
            assert [early.hear() for _ in range(3)] == ["b", "c", "d"]
        finally:
            for client in (ahead, early):
                client.__exit__()
        assert_same(room, nodes, known + sent)


def in_progress(node: Node) -> int:
    """Return the number of unfinished handshakes of a relay."""
    _, page = node.relay.ask("/metrics")
    (line,) = [line for line in page.splitlines() if line.startswith("wsrelay_handshakes_in_progress ")]
    return int(float(line.split()[1]))


def test_node_far_behind(room: Room, nodes: list[Node]) -> None:
    """A relay that does not catch up in time tells the client, which may come again: then nothing is missing."""
    behind = nodes[1]
    there = room.on(behind.port)
    known = published(room, "a")
    await_read(there, known[0][0])
    with bystanders(nodes[:1]):
        behind.forwarder.silence()
        try:
            sent = published(room, "b", "c")
            with there.client(f"?since={sent[0][0]}") as client:
                assert client.closed() == GONE
            with there.stream(last_id=sent[1][0]) as events:
                told = events.gap()
                assert (told["after"], told["why"]) == (sent[1][0], "gone")
                behind.forwarder.resume()
                assert events.texts(2) == ["b", "c"]  # live, after the gap
        finally:
            behind.forwarder.resume()
        with there.stream(last_id=events.last_id) as again:
            again.first_id()
            sent += published(room, "d")
            assert (again.texts(1), again.last_id) == (["d"], sent[-1][0])
        assert_same(room, nodes, known + sent)


def test_entries_lost(room: Room, nodes: list[Node], broker: Broker) -> None:
    """The log was trimmed before a relay had read it: streams there are told, or closed, by their room's slow policy.

    A client that comes back to it is told; the other relay has all, also for those that were closed.
    """
    here, there = (Room(node.port, "kept/drop/lost") for node in nodes)
    with bystanders(nodes[:1]), there.stream() as told, room.on(there.port).stream() as closed:
        sent, others = published(here, "a"), published(room, "a")
        assert (told.texts(1), closed.texts(1)) == (["a"], ["a"])
        with nodes[1].frozen():
            Room(here.port, "kept/answer").publish("to what it had asked for before")
            sent += published(here, "b")
            others += published(room, "b")
            broker.command("XTRIM", LOG, "MAXLEN", 0)
        assert told.gap()["why"] == "lost"
        event = closed.next()
        assert (event.kind, json.loads(event.data)["code"]) == ("close", MESSAGES_LOST.code)
        sent += published(here, "c")
        assert (told.texts(1), told.last_id) == (["c"], sent[-1][0])
        with here.stream(last_id=sent[0][0]) as again, room.stream(last_id=closed.last_id) as moved:
            assert (again.first_id(), again.texts(2)) == (sent[0][0], ["b", "c"])
            assert (moved.first_id(), moved.texts(1)) == (others[0][0], ["b"])
        assert_told([there], sent[:2])
        assert_told([room.on(there.port)], others[:1])
        assert room.history()[:2] == others
