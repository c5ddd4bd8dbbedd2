"""The promises of the seam :class:`wsrelay.interfaces.Backplane`: one suite for every backplane.

Each test has two nodes in memory; with the local backplane they are one and the same. The broker is in memory, or a
real one, to which the connections of the relays in memory are carried.
"""

import zlib
from itertools import combinations
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock

from tests.harness.backplane import BrokerTestCase
from tests.harness.broker import Broker
from tests.harness.fake_redis import FakeRedis
from tests.harness.framing import DEFLATE, deflated, fragmented, wire_frame
from tests.harness.http import ask, http_bytes
from tests.harness.real_redis import Bridge
from tests.harness.support import Client, Relay, RelayTestCase, Wire, request_bytes
from tests.wire.test_frames import parse
from wsrelay.http.site import EXCEPT, HANDLE
from wsrelay.message_id import MessageId
from wsrelay.wire.frames import BINARY, TEXT

PLAIN_TEXT = {"Content-Type": "text/plain"}
HISTORY = {"http": True, "history": ("room=100",)}


class Promises:
    """The suite; mixed into test cases."""

    def two(self, **settings: Any) -> list[Relay]:
        """Return two nodes."""
        raise NotImplementedError

    def another(self, nodes: list[Relay], **settings: Any) -> Relay:
        """Return a node that starts now; with one process: that one."""
        return nodes[0]

    def history(self: Any, node: Relay, query: str = "last=100") -> Any:
        """Return what a node tells of a room's history."""
        response = ask(node, http_bytes(f"GET /room?{query}", fields={"Accept": "application/json"}))
        self.assertEqual(response.status, 200, response.body)
        return response.json

    def clients(self, nodes: list[Relay], count: int = 2, path: str = "/room") -> list[Client]:
        """Return clients on each node."""
        return [node.client(path) for node in nodes for _ in range(count)]

    def wires(self, nodes: list[Relay]) -> list[Wire]:
        """Return a member's bytes on each node."""
        found = [node.wire() for node in nodes]
        for wire in found:
            wire.send(request_bytes())
        return found

    def messages(self, wire: Wire) -> list[tuple[int, bytes]]:
        """Return opcode and payload of what a member has got."""
        return [(frame.opcode, bytes(frame.data)) for frame in parse(wire.send(b""))]

    def test_others_only(self: Any) -> None:
        """Each member gets the messages of all others, and none of its own, also where the bytes are the same."""
        nodes = self.two()
        clients = self.clients(nodes, 3)
        for number, client in enumerate(clients):
            client.say(f"from {number}")
            client.say("the same")
        nodes[0].settle()
        for number, client in enumerate(clients):
            expected = {f"from {other}" for other in range(len(clients)) if other != number}
            self.assertEqual(set(client.messages), expected | {"the same"})
            self.assertEqual(len(client.messages), 2 * len(expected))

    def test_order(self: Any) -> None:
        """Any two members get the messages that both get in the same order."""
        nodes = self.two()
        clients = self.clients(nodes, 3)
        for turn in range(10):
            for number, client in enumerate(clients):
                for part in range(turn % 3):
                    client.say(f"{number}:{turn}.{part}")
            if turn % 2:
                nodes[0].settle()
        nodes[0].settle()
        for number in range(len(clients)):
            said = [(turn, part) for turn in range(10) for part in range(turn % 3)]
            for other in clients[:number] + clients[number + 1 :]:
                of_one = [message for message in other.messages if message.startswith(f"{number}:")]
                self.assertEqual(of_one, [f"{number}:{turn}.{part}" for turn, part in said])
        for one, other in combinations(clients, 2):
            common = set(one.messages) & set(other.messages)
            self.assertGreater(len(common), 30)
            self.assertEqual(
                [message for message in one.messages if message in common],
                [message for message in other.messages if message in common],
            )

    def test_unchanged(self: Any) -> None:
        """Payloads and types are unchanged: any bytes, empty ones, long ones, and what looks like a number."""
        nodes = self.two(max_message_bytes=300_000)
        clients = self.clients(nodes, 1)
        payloads = [
            "",
            b"",
            "0",
            "1e5",
            b"-1",
            "*3\r\n$3\r\nSET\r\n",
            bytes(range(256)),
            "\N{SNOWMAN}" * 50_000,
            b"\xff" * 300_000,
        ]
        for client in clients:
            for payload in payloads:
                client.say(payload)
            nodes[0].settle()
        for client in clients:
            self.assertEqual(client.messages, payloads)

    def test_larger_than_pending(self: Any) -> None:
        """A message larger than what may be on its way to the broker arrives, and its publisher goes on."""
        nodes = self.two(max_message_bytes=300_000, backplane_pending_bytes=1000, backplane_log_bytes=400_000)
        one, other = self.clients(nodes, 1)
        for number in range(3):
            one.say(bytes(300_000) if number else "first")
            nodes[0].wait(1)
        self.assertEqual([len(message) for message in other.messages], [5, 300_000, 300_000])

    def test_fragmented_and_deflated(self: Any) -> None:
        """Fragments and deflated messages arrive whole and plain, or deflated where the member takes that."""
        nodes = self.two()
        plain = self.wires(nodes)
        deflating = [node.client(deflate=True) for node in nodes]
        publisher = nodes[0].wire()
        publisher.send(request_bytes(fields=DEFLATE))
        publisher.send(
            fragmented(TEXT, [b"frag", b"", "m\N{LATIN SMALL LETTER E WITH ACUTE}nts".encode()])
            + wire_frame(0x80 | 0x40 | BINARY, deflated(b"\0" * 2000))
            + wire_frame(0x80 | TEXT, b"last")
        )
        expected = [
            (TEXT, "fragm\N{LATIN SMALL LETTER E WITH ACUTE}nts".encode()),
            (BINARY, b"\0" * 2000),
            (TEXT, b"last"),
        ]
        for wire in plain:
            self.assertEqual(self.messages(wire), expected)
        for client in deflating:
            self.assertEqual(client.messages, [expected[0][1].decode(), expected[1][1], "last"])

    def test_exactly_once(self: Any) -> None:
        """Each of many messages comes once."""
        nodes = self.two()
        clients = self.clients(nodes, 1)
        for number in range(300):
            clients[number % 2].say(f"{number}")
            if number % 7 == 0:
                nodes[0].settle()
        nodes[0].settle()
        self.assertEqual(clients[0].messages, [f"{number}" for number in range(300) if number % 2])
        self.assertEqual(clients[1].messages, [f"{number}" for number in range(300) if not number % 2])

    def test_echo(self: Any) -> None:
        """With echo, publishers get their own messages, too, once and in the order of all."""
        nodes = self.two(echo=True)
        clients = self.clients(nodes)
        for number in range(20):
            clients[number % 4].say(f"{number}")
        nodes[0].settle()
        self.assertEqual(sorted(clients[0].messages, key=int), [f"{number}" for number in range(20)])
        for client in clients[1:]:
            self.assertEqual(client.messages, clients[0].messages)

    def test_rooms(self: Any) -> None:
        """Members of other rooms get nothing, whichever node they are on."""
        nodes = self.two()
        rooms = {room: self.clients(nodes, 1, f"/{room}") for room in ("a", "b", "a/b", "c")}
        for room, (publisher, _) in rooms.items():
            publisher.say(room)
        nodes[0].settle()
        for room, (publisher, other) in rooms.items():
            self.assertEqual((publisher.messages, other.messages), ([], [room]))

    def test_coming_and_going(self: Any) -> None:
        """A member gets what is published while it is there."""
        nodes = self.two()
        publisher, leaver = nodes[0].client(), nodes[1].client()
        publisher.say("1")
        nodes[0].settle()
        joiner = nodes[1].client()
        publisher.say("2")
        nodes[0].settle()
        leaver.sendClose(1000)
        nodes[0].settle()
        publisher.say("3")
        nodes[0].settle()
        self.assertEqual((leaver.messages, joiner.messages, publisher.messages), (["1", "2"], ["2", "3"], []))

    def test_publisher_gone(self: Any) -> None:
        """What a member published before its end is delivered, also to a room that is empty on its node."""
        nodes = self.two()
        publisher, other = nodes[0].wire(), nodes[1].client()
        publisher.send(request_bytes())
        publisher.send(wire_frame(0x80 | TEXT, b"last words") + wire_frame(0x88, b"\x03\xe8"))
        publisher.hang_up()
        self.assertEqual(other.messages, ["last words"])

    def test_post(self: Any) -> None:
        """A POST reaches all members on both nodes."""
        nodes = self.two(http=True)
        clients = self.clients(nodes)
        answer = ask(nodes[0], http_bytes("POST /room", b"hi", PLAIN_TEXT))
        nodes[0].settle()
        self.assertEqual(answer.status, 202)
        self.assertEqual([client.messages for client in clients], [["hi"]] * 4)

    def test_post_except(self: Any) -> None:
        """A POST with a member's handle reaches all but that member, on whichever node it comes in."""
        nodes = self.two(http=True)
        wires = self.wires(nodes)
        mine = nodes[0].wire()
        handle = next(
            line.partition(b": ")[2].decode()
            for line in mine.send(request_bytes()).split(b"\r\n")
            if line.lower().startswith(HANDLE.lower().encode() + b":")
        )
        for node in nodes:
            ask(node, http_bytes("POST /room", b"hi", {**PLAIN_TEXT, EXCEPT: handle}))
            node.settle()
        self.assertEqual(
            [self.messages(wire) for wire in (*wires, mine)], [[(TEXT, b"hi")] * 2, [(TEXT, b"hi")] * 2, []]
        )

    def test_event_streams(self: Any) -> None:
        """Event streams on both nodes get texts and binaries; their order is that of all."""
        nodes = self.two(http=True)
        streams = [node.wire() for node in nodes]
        for stream in streams:
            stream.send(http_bytes("GET /room", fields={"Accept": "text/event-stream"}))
        publisher = nodes[0].client()
        for payload in ("one", b"\0\xff", "two\nlines"):
            publisher.say(payload)
        nodes[0].settle()
        first, second = (stream.send(b"") for stream in streams)
        self.assertEqual(first, second)
        self.assertIn(b"data: one\n", first)
        self.assertIn(b"data: two\ndata: lines\n", first)
        self.assertIn(b"AP8=", first)

    def test_types_across_encodings(self: Any) -> None:
        """A deflated message is inflated once, and reaches a plain member of the other node with the same checksum."""
        nodes = self.two()
        publisher, other = nodes[0].client(deflate=True), nodes[1].client()
        payload = b"".join(b"%d," % number for number in range(20_000))
        publisher.say(payload)
        nodes[0].settle()
        self.assertEqual([zlib.crc32(message) for message in other.messages], [zlib.crc32(payload)])

    def test_ready(self: Any) -> None:
        """Once members are in, the backplane has nothing to complain of, and lists all nodes in time."""
        nodes = self.two()
        self.clients(nodes)
        for node in nodes:
            self.assertEqual((node.factory.backplane.status().problem, node.factory.congested), ("", False))

    def test_stop(self: Any) -> None:
        """What was published right before the stop is delivered on the other node, or on the same one."""
        nodes = self.two()
        publisher, other = nodes[0].wire(), nodes[1].client()
        publisher.send(request_bytes())
        publisher.transport.bufferReceived(wire_frame(0x80 | TEXT, b"last"))
        stopped = Deferred.fromCoroutine(nodes[0].factory.backplane.stop())
        nodes[0].settle()
        self.successResultOf(stopped)
        self.assertEqual(other.messages, ["last"])

    def test_history_ids(self: Any) -> None:
        """Ids are the same on all nodes and ascend, also where one turn has several messages, of several rooms."""
        nodes = self.two(**HISTORY)
        clients, elsewhere = self.clients(nodes), nodes[0].client("/plain")
        for turn in range(5):
            for number, client in enumerate(clients):
                elsewhere.say("x")
                for part in range(turn % 3):
                    client.say(f"{number}:{turn}.{part}")
        nodes[0].settle()
        one, other = (self.history(node)["messages"] for node in nodes)
        self.assertEqual((one, len(one)), (other, 16))
        ids = [MessageId.parse(message["id"]) for message in one]
        self.assertEqual(ids, sorted(set(ids)))

    def test_history_since(self: Any) -> None:
        """On another node, ``since`` gives exactly what is missing behind each id, then what comes."""
        nodes = self.two(**HISTORY)
        publishers = self.clients(nodes, 1)
        for number in range(9):
            publishers[number // 2 % 2].say(f"{number}")
            if number % 3:
                nodes[0].settle()
        nodes[0].settle()
        messages = self.history(nodes[0])["messages"]
        texts, returned = [message["text"] for message in messages], []
        for node in nodes:
            returned += [node.client(f"/room?since={message['id']}") for message in messages]
        nodes[0].settle()
        publishers[0].say("live")
        nodes[0].settle()
        expected = [[*texts[number:], "live"] for number in range(1, 10)]
        self.assertEqual([client.messages for client in returned], expected * 2)

    def test_history_at(self: Any) -> None:
        """Nothing is missing between the position that one node tells and a client that comes to another with it."""
        nodes = self.two(**HISTORY)
        [publisher] = self.clients(nodes[:1], 1)
        publisher.say("old")
        nodes[0].settle()
        at = self.history(nodes[0], "last=0")["at"]
        publisher.say("new")
        nodes[0].settle()
        clients = [node.client(f"/room?since={at}") for node in nodes]
        nodes[0].settle()
        self.assertEqual([client.messages for client in clients], [["new"]] * 2)

    def test_history_post(self: Any) -> None:
        """A POST opens the room, and is answered with the id that the message has on each node."""
        nodes = self.two(**HISTORY)
        answer = ask(nodes[0], http_bytes("POST /room", b"hi", PLAIN_TEXT))
        nodes[0].settle()
        posted = {"id": answer.json["id"], "text": "hi"}
        self.assertEqual([self.history(node)["messages"] for node in nodes], [[posted]] * 2)

    def test_history_of_a_new_node(self: Any) -> None:
        """A node that starts later has what was published before, with the same ids."""
        nodes = self.two(**HISTORY)
        publishers = self.clients(nodes, 1)
        for number in range(6):
            publishers[number % 2].say(f"{number}")
        nodes[0].settle()
        before = self.history(nodes[0])["messages"]
        late = self.another(nodes, **HISTORY)
        self.assertEqual((self.history(late)["messages"], len(before)), (before, 6))
        client = late.client(f"/room?since={before[2]['id']}")
        publishers[0].say("live")
        nodes[0].settle()
        self.assertEqual(client.messages, [*(message["text"] for message in before[3:]), "live"])

    def test_history_gone(self: Any) -> None:
        """An id of another epoch is gone on each node: 4410."""
        nodes = self.two(**HISTORY)
        self.clients(nodes, 1)
        clients = [node.client("/room?since=00000000-1") for node in nodes]
        nodes[0].settle()
        self.assertEqual([client.closed[0] for client in clients], [4410] * 2)


class LocalTests(Promises, RelayTestCase):
    """One process."""

    def two(self, **settings: Any) -> list[Relay]:
        """Return one node, twice."""
        return [self.relay(**settings)] * 2


class BrokerPromises(Promises):
    """Nodes with a broker; abstract."""

    def another(self: Any, nodes: list[Relay], **settings: Any) -> Any:
        """Return a node that starts now."""
        return self.node(backplane=nodes[0].factory.settings.backplane, **settings)


class FakeTests(BrokerPromises, BrokerTestCase):
    """A broker in memory."""

    def two(self, **settings: Any) -> list[Relay]:
        """Return two nodes."""
        return self.nodes(2, **settings)


class ShardsTests(BrokerPromises, BrokerTestCase):
    """Several shards on two brokers in memory."""

    def two(self, **settings: Any) -> list[Relay]:
        """Return two nodes."""
        self.pumps.append(FakeRedis(self.clock, 6380))
        return self.nodes(2, backplane="redis://a,b:6380/?shards=5", **settings)


@pytest.mark.deploy
class RedisTests(BrokerPromises, BrokerTestCase):
    """A real broker."""

    def setUp(self) -> None:
        """Start it."""
        super().setUp()
        self.clock = MemoryReactorClock()
        real = self.enterContext(Broker())
        bridge = Bridge(self.clock, real.path)
        self.addCleanup(bridge.close)
        self.pumps = [bridge]

    def two(self, **settings: Any) -> list[Relay]:
        """Return two nodes."""
        return self.nodes(2, **settings)
