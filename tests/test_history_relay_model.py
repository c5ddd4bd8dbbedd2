"""A whole relay with histories against a model: clients that are cut off at any byte, and return.

Event streams return with the last id that they read; WebSockets, which know of no ids, with the position that they
asked for by GET before they came. The same for the hub alone: :mod:`tests.rooms.test_history_model`; without
histories: :mod:`tests.test_relay_model`.
"""

import json
import math
import os
from collections import defaultdict
from itertools import pairwise
from typing import Any
from unittest import mock

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from twisted.logger import globalLogPublisher
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Opcode

from tests.harness.framing import DEFLATE, fragmented
from tests.harness.http import Response, http_bytes
from tests.harness.sockets import Peers
from tests.harness.strategies import messages
from tests.harness.streams import chunks, events
from tests.harness.support import Relay, request_bytes
from tests.test_relay_model import NoCase, whole_frames_bytes
from tests.wire.test_frames import parse
from wsrelay import closecodes
from wsrelay.message_id import MessageId

#: Room → the number of kept messages, and whether members may miss some.
ROOMS = {"a": (6, False), "b": (1000, False), "c": (1000, True)}

SETTINGS: dict[str, Any] = {
    "http": True,
    "max_message_bytes": 6000,
    "room_log_bytes": 16_000,
    "history": ("a=6", "b=1000", "c=1000"),
    "history_bytes": 8000,
    "history_seconds": 0,
    "slow_policy": ("c=drop-oldest",),
    "slow_seconds": 5,
    "compress_min_bytes": 8,
    "close_seconds": 1,
    "ping_seconds": 0,
    "max_messages_per_second": 0,
    "max_bytes_per_second": 0,
    "max_connects_per_second_per_address": 0,
    "max_connections_per_address": 0,
}

rooms = st.sampled_from(["a", "a", "b", "b", "c"])
kinds = st.sampled_from(["plain", "deflate", "stream", "stream"])


class Client:
    """One connection of a client.

    Attributes:
        begin: the index of the first message of its view.
        cursor: the id from which it came; ``None``: without one.
        present: whether it is in its room, according to the model.
        reads: whether it reads at once.
        code: of its close frame, or of its close event.
        gaps: what it was told to miss, from and to.
        first_id: the id with which its stream begins.
        last_id: the last one of its stream.
    """

    def __init__(self, peers: Peers, room: str, kind: str) -> None:
        self.socket, self.connection = peers.connect()
        self.room, self.kind = room, kind
        self.begin = 0
        self.cursor: MessageId | None = None
        self.present = self.reads = True
        self.code: int | None = None
        self.gaps: list[tuple[MessageId, MessageId]] = []
        self.seen: list[tuple[int, bytes]] = []
        self.ids: list[str] = []
        self.last_id = self.first_id = ""
        self._capacity = self.socket.free_bytes
        self._body: bytes | None = None
        self._data = b""

    def read(self, count: int = 10**9) -> bool:
        """Read bytes, and return whether there were any."""
        taken = bytes(self.socket.sent[:count])
        del self.socket.sent[: len(taken)]
        self.socket.free_bytes = self._capacity - len(self.socket.sent)
        self._data += taken
        if self._body is None and b"\r\n\r\n" in self._data:
            head, _, self._data = self._data.partition(b"\r\n\r\n")
            assert head.startswith((b"HTTP/1.1 101 ", b"HTTP/1.1 200 ")), head
            self._body = head
        if taken and self._body is not None:
            (self._read_events if self.kind == "stream" else self._read_frames)()
        return bool(taken)

    def _read_frames(self) -> None:
        extensions = [PerMessageDeflate(False, False, 15, 15)] if self.kind == "deflate" else None
        whole = whole_frames_bytes(self._data)
        for frame in parse(self._data[:whole], extensions):
            assert self.code is None, f"{frame} came behind a close frame"
            if frame.opcode is Opcode.CLOSE:
                self.code = int.from_bytes(frame.data[:2], "big") if frame.data else 1005
            else:
                self.seen.append((int(frame.opcode), bytes(frame.data)))
        self._data = self._data[whole:]

    def _read_events(self) -> None:
        self.seen, self.ids, self.gaps, self.last_id = [], [], [], ""
        for number, event in enumerate(events(chunks(self._data)[0])):
            if event.kind == "close":
                self.code = json.loads(event.data)["code"]
            elif event.kind == "gap":
                gap = json.loads(event.data)
                assert gap["at"] == event.last_id
                if gap["why"] != "gone":
                    self.gaps.append((MessageId.parse(self.last_id), MessageId.parse(gap["at"])))
            elif event.message is not None:
                self.seen.append(event.message)
                self.ids.append(event.last_id)
            if not number:
                assert not event.data, "the first block is an id alone"
                self.first_id = event.last_id
            self.last_id = event.last_id

    def __repr__(self) -> str:
        return f"<{self.kind} in {self.room}, from {self.cursor}, seen {len(self.seen)}, told {self.code}>"


class HistoryRelayMachine(RuleBasedStateMachine):
    """Clients come, are cut off, and return."""

    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self._events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self._events.append)
        self._patches = [
            mock.patch("wsrelay.rooms.scheduler.STRETCH_WRITES", 2),
            # A read in a crowded room waits, and the order of the rules is no longer that of the messages.
            mock.patch("wsrelay.rooms.hub.CROWDED_SHARE", math.inf),
            mock.patch("wsrelay.rooms.log.SLICE_BYTES", 1000),
        ]
        for patch in self._patches:
            patch.start()
        self.relay = Relay(NoCase(), **SETTINGS)  # type: ignore[arg-type]
        self.world = Peers(self.relay)
        self.everybody: list[Client] = []
        #: Room → its messages: content, id, and publisher.
        self.orders: dict[str, list[tuple[tuple[int, bytes], MessageId, Client | None]]] = defaultdict(list)
        self.serial = 0

    # --- acts of clients --------------------------------------------------------------------------

    @initialize(target=clients)
    def gather(self) -> Any:
        return multiple(*(self.enter(Client(self.world, "a", kind), "", None) for kind in ("plain", "stream")))

    @rule(target=clients, room=rooms, kind=kinds, between=st.lists(messages, max_size=3))
    def fetch_and_come(self, room: str, kind: str, between: list[tuple[int, bytes]]) -> Client:
        """The recipe: GET the position, fetch the state, connect with that position."""
        at = self.position(room)
        for message in between:
            self.post(room, message)
        return self.enter(Client(self.world, room, kind), f"?since={at}", at)

    @rule(target=clients, room=rooms, kind=kinds, last=st.sampled_from([0, 1, 3, 1000]))
    def come_with_last(self, room: str, kind: str, last: int) -> Client:
        self.notice_ends()
        _, found = self.ask(room, f"?last={last}")
        cursor = MessageId.parse(found[0]["id"]).plus(-1) if found else self.position(room)
        assert len(found) <= last
        return self.enter(Client(self.world, room, kind), f"?last={last}", cursor)

    @rule(target=clients, client=consumes(clients), count=st.integers(0, 3000), away=st.lists(messages, max_size=12))
    def cut_and_return(self, client: Client, count: int, away: list[tuple[int, bytes]]) -> Any:
        """TCP ends after some bytes; what was on its way is lost; the client returns after some messages."""
        self.notice_ends()
        client.read(count)
        client.present = False
        client.socket.broken = True
        self.world.read(client.socket)
        cursor = MessageId.parse(client.last_id) if client.last_id else client.cursor
        for message in away:
            self.post(client.room, message)
        new = Client(self.world, client.room, client.kind)
        if cursor is None:
            return self.enter(new, "", None)
        if client.kind == "stream":
            return self.enter(new, "", cursor, {"Last-Event-ID": str(cursor)})
        return self.enter(new, f"?since={cursor}", cursor)

    @rule(client=clients, message=messages, cuts=st.lists(st.integers(0, 20), max_size=3))
    def say(self, client: Client, message: tuple[int, bytes], cuts: list[int]) -> None:
        self.notice_ends()
        if not client.present or client.kind == "stream":
            return
        opcode, payload = self.unique(message)
        places = [0, *sorted(min(cut, len(payload)) for cut in cuts), len(payload)]
        self.orders[client.room].append(((opcode, payload), self.next_id(client.room), client))
        client.socket.unread += fragmented(opcode, [payload[begin:end] for begin, end in pairwise(places)])
        self.world.read(client.socket)
        assert self.relay.factory.hub.histories.at(client.room) == self.orders[client.room][-1][1]

    @rule(room=rooms, message=messages)
    def post(self, room: str, message: tuple[int, bytes]) -> None:
        """POST tells the id of the message."""
        self.notice_ends()
        opcode, payload = self.unique(message)
        self.orders[room].append(((opcode, payload), self.next_id(room), None))
        kind = (
            {"Content-Type": "application/octet-stream"} if opcode == Opcode.BINARY else {"Content-Type": "text/plain"}
        )
        status, body = self.exchange(http_bytes(f"POST /{room}", payload, kind))
        assert (status, body["id"]) == (202, str(self.orders[room][-1][1])), body

    @rule(room=rooms, count=st.sampled_from([1, 3, 6, 8]))
    def flood(self, room: str, count: int) -> None:
        for _ in range(count):
            self.post(room, (int(Opcode.BINARY), bytes(3000)))

    @rule(client=clients)
    def stall(self, client: Client) -> None:
        client.reads = False

    @rule(client=clients)
    def unstall(self, client: Client) -> None:
        client.reads = True

    @rule(client=clients, count=st.integers(1, 3000))
    def sip(self, client: Client, count: int) -> None:
        """Read a little, and stall."""
        client.reads = False
        client.read(count)
        self.world.turn()

    # --- time -------------------------------------------------------------------------------------

    @rule()
    def turn(self) -> None:
        self.world.turn()
        self.read_all()

    @rule()
    def turns(self) -> None:
        self.settle()
        self.notice_ends()
        for client in self.everybody:
            if client.present and client.reads:
                expected = self.expected(client)
                if ROOMS[client.room][1]:
                    assert client.seen[-1:] == expected[-1:] or self.is_own_newest(client), client
                else:
                    assert client.seen == expected, f"{client} reads, and yet is behind"

    @rule(quarters=st.integers(1, 8))
    def wait(self, quarters: int) -> None:
        for _ in range(quarters):
            self.relay.clock.advance(0.25)
            self.settle()

    # --- invariants -------------------------------------------------------------------------------

    @invariant()
    def order_or_told(self) -> None:
        """The order of the room from the cursor on; streams know the ids, and are told what they miss."""
        for client in self.everybody:
            expected = self.expected(client)
            if not ROOMS[client.room][1]:
                assert client.seen == expected[: len(client.seen)], client
            order = self.orders[client.room]
            if client.kind == "stream":
                known = {content: identity for content, identity, _ in order}
                start = MessageId.parse(client.first_id) if client.first_id else None
                begin = client.begin if start is None else sum(identity <= start for _, identity, _ in order)
                assert begin == client.begin, f"{client} begins with the id {start}"
                assert client.ids == [str(known[content]) for content in client.seen], client
            places = [expected.index(content) for content in client.seen]
            assert places == sorted(set(places)), client
            if client.kind == "stream":
                missing = [known[one] for one in expected[: max(places, default=-1) + 1] if one not in client.seen]
                untold = [one for one in missing if not any(after < one <= at for after, at in client.gaps)]
                assert not untold, f"{client} misses {untold}"
                told = [one for one in client.ids for after, at in client.gaps if after < MessageId.parse(one) <= at]
                assert not told, f"{client} got {told} in spite of a gap"

    @invariant()
    def invariants_hold(self) -> None:
        """The hub's invariants hold, and no callback raises."""
        self.relay.factory.hub.check()
        assert self.relay.stats.failures == 0
        assert not [event for event in self._events if "log_failure" in event]

    def teardown(self) -> None:
        """When all read, all is seen; in the end no connection is left, and the rooms keep their history."""
        globalLogPublisher.removeObserver(self._events.append)
        for client in self.everybody:
            client.reads = True
        self.turns()
        for client in self.everybody:
            client.socket.broken = True
            self.world.read(client.socket)
        self.wait(28)
        assert self.relay.factory.connections == set()
        for room in self.relay.factory.hub:
            assert self.relay.factory.hub.member_count(room) == 0
        self.relay.factory.doStop()
        assert self.relay.clock.getDelayedCalls() == []
        for patch in self._patches:
            patch.stop()

    # --- helpers ----------------------------------------------------------------------------------

    def enter(
        self, client: Client, query: str, cursor: MessageId | None, fields: dict[str, str | None] | None = None
    ) -> Client:
        """Connect a client; it starts at its cursor, or is told that the history is gone."""
        self.notice_ends()
        order = self.orders[client.room]
        kept = self.kept(client.room)
        gone_before = self.relay.stats.resumes["gone"]
        if client.kind == "stream":
            accept = {"Accept": "text/event-stream", **(fields or {})}
            request = http_bytes(f"GET /{client.room}{query}", None, accept)
        else:
            request = request_bytes(f"/{client.room}{query}", DEFLATE if client.kind == "deflate" else None)
        client.socket.unread += request
        self.world.read(client.socket)
        is_gone = self.relay.stats.resumes["gone"] > gone_before
        client.cursor = cursor
        client.begin = len(order)
        if cursor is not None and not is_gone:
            client.begin = sum(identity <= cursor for _, identity, _ in order)
        if is_gone:
            assert cursor is not None
            assert sum(identity > cursor for _, identity, _ in order) > kept, f"{cursor} is gone too soon"
            client.cursor = None
            if client.kind != "stream":
                client.present = False
                while client.code is None and (self.world.turn() or client.read()):
                    client.read()
                assert client.code == 4410, client
        self.everybody.append(client)
        return client

    def kept(self, room: str) -> int:
        """Return the number of messages that a room must have."""
        size_bytes = count = 0
        for (_, payload), _, _ in reversed(self.orders[room]):
            size_bytes += len(payload) + 260
            if count == ROOMS[room][0] or size_bytes > SETTINGS["history_bytes"]:
                break
            count += 1
        return count

    def expected(self, client: Client) -> list[tuple[int, bytes]]:
        """Return what a client is to see."""
        return [
            content for content, _, publisher in self.orders[client.room][client.begin :] if publisher is not client
        ]

    def is_own_newest(self, client: Client) -> bool:
        """Whether the newest message is its own."""
        return self.orders[client.room][-1][2] is client

    def next_id(self, room: str) -> MessageId:
        """Return the id that the next message must get."""
        return self.relay.factory.hub.histories.at(room).plus(1)

    def unique(self, message: tuple[int, bytes]) -> tuple[int, bytes]:
        """Return a message like none before, whose text is text."""
        self.serial += 1
        payload = message[1] if message[0] == Opcode.BINARY else message[1].hex().encode()
        return message[0], (b"%d:" % self.serial + payload)[:6000]

    def exchange(self, request: bytes) -> tuple[int, Any]:
        """Send a request on a connection of its own; return the status, and the JSON."""
        socket, _ = self.world.connect()
        socket.free_bytes = 10**9
        socket.unread += request
        self.world.read(socket)
        while not socket.closed and not socket.shut and self.world.turn():
            pass
        response = Response(bytes(socket.sent))
        socket.broken = True
        self.world.read(socket)
        return response.status, json.loads(response.body)

    def ask(self, room: str, query: str) -> tuple[MessageId, list[Any]]:
        """GET a room; its messages are those of the order."""
        status, body = self.exchange(http_bytes(f"GET /{room}{query}", None, {"Accept": "application/json"}))
        assert status == 200, body
        found = body.get("messages", [])
        ids = [str(identity) for _, identity, _ in self.orders[room]]
        assert [one["id"] for one in found] == ids[len(ids) - len(found) :], body
        return MessageId.parse(body["at"]), found

    def position(self, room: str) -> MessageId:
        """GET a room's position."""
        at, _ = self.ask(room, "")
        assert at == self.relay.factory.hub.histories.at(room)
        return at

    def notice_ends(self) -> None:
        """Mark evicted clients as absent: the model does not know the capacity of a log."""
        for client in self.everybody:
            connection = client.connection
            if client.present and (connection.state != connection.STATE_OPEN or client.code is not None):
                assert self.relay.stats.evictions["disconnect"], client
                assert client.code in (None, closecodes.TOO_SLOW.code), client
                assert not ROOMS[client.room][1], client
                client.present = False

    def read_all(self) -> bool:
        """Let all reading clients read, and return whether there were any bytes."""
        return any([client.read() for client in self.everybody if client.reads])  # noqa: C419 - all of them

    def settle(self) -> None:
        """Take turns until there is nothing to do."""
        while self.world.turn() or self.read_all():
            pass


HistoryRelayMachine.TestCase.settings = hypothesis_settings(
    max_examples=int(os.environ.get("WSRELAY_FUZZ_EXAMPLES", "60")), stateful_step_count=30
)
HistoryRelayModelTests = HistoryRelayMachine.TestCase
