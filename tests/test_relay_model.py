"""A whole relay against a model: the messages that each peer sees, for any acts of the peers.

The model knows no connections, logs and flushes: a message is appended to the expected list of every other peer in the
room when the relay has read it. The relay is the real one, on Twisted's own transports, over sockets with small buffers
(:mod:`tests.harness.sockets`). The same for the hub alone: :mod:`tests.rooms.test_hub_model`.
"""

import math
import os
from itertools import pairwise
from typing import Any
from unittest import mock

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from twisted.logger import globalLogPublisher
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Opcode

from tests.harness.framing import DEFLATE, deflated, fragmented, wire_frame
from tests.harness.sockets import Peers
from tests.harness.strategies import messages
from tests.harness.support import Relay, request_bytes
from tests.wire.test_frames import parse
from wsrelay import closecodes

#: Violation, within a message or not → close code.
GARBAGE = {
    wire_frame(0x83, b"x"): 1002,
    wire_frame(0x91, b"x"): 1002,
    wire_frame(0x81, b"x", None): 1002,
    wire_frame(0x88, b"\x03\xed"): 1002,
    wire_frame(0x80, b"x"): 1002,
    wire_frame(0x81, b"\xff"): 1007,
    wire_frame(0x82, b"")[:1] + b"\xff" + (2**40).to_bytes(8, "big") + bytes(4): 1009,
    fragmented(2, [b""] * 9): 1008,
}

#: Input that opens no connection: none, half a request, an invalid one.
STRANGERS = (b"", request_bytes()[:40], b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01" * 20, b"\r\n" * 5000)

#: Mostly one, so that peers meet.
rooms = st.sampled_from(["a", "a", "a", "a/b", "/"])

SETTINGS: dict[str, Any] = {
    "max_message_bytes": 6000,
    "max_fragments": 8,
    "room_log_bytes": 8000,
    "compress_min_bytes": 8,
    "handshake_seconds": 1,
    "close_seconds": 1,
    "ping_seconds": 0,
    # The clock stands still in a rule, so that no debt would be paid.
    "max_messages_per_second": 0,
    "max_bytes_per_second": 0,
}


class NoCase:
    """A stand-in for a test case, without patching: no Autobahn clients are used."""

    def patch(self, owner: Any, name: str, value: Any) -> None:
        pass


class Peer:
    """A peer, with its expected and seen messages.

    Attributes:
        expected: opcode and payload, in order.
        seen: the same for received messages.
        codes: codes of the received close frames; None for an empty one.
        pings, pongs: the numbers of sent pings and of received pongs.
        present: whether it is in its room, according to the model.
        reads: whether it reads at once.
        gone: whether it has ended TCP.
    """

    def __init__(self, peers: Peers, room: str, deflate: bool) -> None:
        self.socket, self.connection = peers.connect()
        self.room = room
        self.deflate = deflate
        self.expected: list[tuple[int, bytes]] = []
        self.seen: list[tuple[int, bytes]] = []
        self.codes: list[int | None] = []
        self.pings = self.pongs = 0
        self.present = self.reads = True
        self.gone = False
        self._unparsed = b""
        self._capacity = self.socket.free_bytes

    def read(self) -> bool:
        """Read all sent bytes, and return whether there were any."""
        taken = bytes(self.socket.sent)
        self.socket.sent.clear()
        self.socket.free_bytes = self._capacity
        self._unparsed += taken
        extensions = [PerMessageDeflate(False, False, 15, 15)] if self.deflate else None
        whole = whole_frames_bytes(self._unparsed)
        for frame in parse(self._unparsed[:whole], extensions):
            self._see(frame)
        self._unparsed = self._unparsed[whole:]
        return bool(taken)

    def _see(self, frame: Any) -> None:
        assert not self.codes, f"{frame} came behind a close frame"
        if frame.opcode is Opcode.CLOSE:
            self.codes.append(int.from_bytes(frame.data[:2], "big") if frame.data else None)
        elif frame.opcode is Opcode.PONG:
            self.pongs += 1
        else:
            self.seen.append((int(frame.opcode), bytes(frame.data)))

    def take_response(self) -> bytes:
        """Read the response to its handshake."""
        response, end, self._unparsed = bytes(self.socket.sent).partition(b"\r\n\r\n")
        self.socket.sent.clear()
        self.socket.free_bytes = self._capacity
        return response + end

    @property
    def stays(self) -> bool:
        """Whether it is in its room, and reads."""
        return self.present and self.reads

    def __repr__(self) -> str:
        return f"<peer in {self.room}, seen {len(self.seen)} of {len(self.expected)}, told {self.codes}>"


def whole_frames_bytes(data: bytes) -> int:
    """Return the length of the whole frames at the beginning of a server's bytes."""
    at = 0
    while len(data) - at >= 2:
        length, begin = data[at + 1], at + 2
        if length > 125:
            begin += 2 if length == 126 else 8
            length = int.from_bytes(data[at + 2 : begin], "big")
        if len(data) < begin + length:
            break
        at = begin + length
    return at


class RelayMachine(RuleBasedStateMachine):
    """Peers act at random, and the relay gets a turn now and then."""

    peers = Bundle("peers")

    def __init__(self) -> None:
        super().__init__()
        self._events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self._events.append)
        self._stretch = mock.patch("wsrelay.rooms.scheduler.STRETCH_WRITES", 2)
        self._stretch.start()
        # A read in a crowded room waits, and the order of the rules is no longer that of the messages.
        self._crowded = mock.patch("wsrelay.rooms.hub.CROWDED_SHARE", math.inf)
        self._crowded.start()
        self.relay = Relay(NoCase(), **SETTINGS)  # type: ignore[arg-type]
        self.world = Peers(self.relay)
        self.everybody: list[Peer] = []
        self.strangers: list[Any] = []

    # --- acts of peers ----------------------------------------------------------------------------

    @initialize(target=peers)
    def gather(self) -> Any:
        return multiple(*(self.open("a", deflate, 0) for deflate in (False, False, True)))

    @rule(target=peers, room=rooms, deflate=st.booleans(), cut=st.integers(0, 150))
    def open(self, room: str, deflate: bool, cut: int) -> Peer:
        peer = Peer(self.world, room, deflate)
        request = request_bytes("/" + room.strip("/"), DEFLATE if deflate else None)
        for part in (request[:cut], request[cut:]):
            self.send(peer, part)
        assert peer.take_response().startswith(b"HTTP/1.1 101 ")
        self.everybody.append(peer)
        return peer

    @rule(sent=st.sampled_from(STRANGERS))
    def knock(self, sent: bytes) -> None:
        socket, _ = self.world.connect()
        socket.unread += sent
        self.world.read(socket)
        self.strangers.append(socket)

    @rule(peer=peers, message=messages, cuts=st.lists(st.integers(0, 20), max_size=3), squeezed=st.booleans())
    def say(self, peer: Peer, message: tuple[int, bytes], cuts: list[int], squeezed: bool) -> None:
        self.notice_evictions()
        if not peer.present:
            return
        opcode, payload = message[0], message[1] if message[0] == Opcode.BINARY else message[1].hex().encode()
        payload = payload[:6000]
        first, sent = (0x40 | opcode, deflated(payload)) if squeezed and peer.deflate else (opcode, payload)
        places = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
        parts = [sent[begin:end] for begin, end in pairwise(places)]
        for other in self.everybody:
            if other.present and other.room == peer.room and other is not peer:
                other.expected.append((opcode, payload))
        self.send(peer, fragmented(first, parts))

    @rule(peer=peers, count=st.integers(1, 6))
    def flood(self, peer: Peer, count: int) -> None:
        for number in range(count):
            self.say(peer, (int(Opcode.BINARY), bytes([number]) * 3000), [], squeezed=False)

    @rule(peer=peers)
    def ping(self, peer: Peer) -> None:
        if peer.present:
            peer.pings += 1
            self.send(peer, wire_frame(0x89, b"p"))

    @rule(peer=peers)
    def stall(self, peer: Peer) -> None:
        peer.reads = False

    @rule(peer=peers)
    def unstall(self, peer: Peer) -> None:
        peer.reads = True

    @rule(peer=consumes(peers), code=st.sampled_from([None, 1000, 3000, 4999]))
    def close(self, peer: Peer, code: int | None) -> None:
        self.notice_evictions()
        if peer.present:
            self.end(peer, wire_frame(0x88, b"" if code is None else code.to_bytes(2, "big")), code)

    @rule(peer=consumes(peers), garbage=st.sampled_from(sorted(GARBAGE)))
    def break_protocol(self, peer: Peer, garbage: bytes) -> None:
        self.notice_evictions()
        if peer.present:
            self.end(peer, garbage + wire_frame(0x81, b"nobody hears this"), GARBAGE[garbage])

    @rule(peer=consumes(peers), politely=st.booleans())
    def vanish(self, peer: Peer, politely: bool) -> None:
        peer.gone, peer.present = True, False
        peer.socket.ended, peer.socket.broken = politely, not politely
        self.world.read(peer.socket)  # the kernel tells at once, or later

    # --- time -------------------------------------------------------------------------------------

    @rule()
    def turn(self) -> None:
        self.world.turn()
        self.read_all()

    @rule()
    def turns(self) -> None:
        self.settle()
        self.notice_evictions()
        for peer in self.everybody:
            if peer.stays:
                assert peer.seen == peer.expected, f"{peer} reads, and yet is behind"

    @rule(quarters=st.integers(1, 8))
    def wait(self, quarters: int) -> None:
        for _ in range(quarters):
            self.relay.clock.advance(0.25)
            self.settle()

    # --- invariants -------------------------------------------------------------------------------

    @invariant()
    def seen_is_prefix_of_expected(self) -> None:
        """Messages come in order, once each, unchanged, and only from others: the seen ones begin the expected ones."""
        for peer in self.everybody:
            assert peer.seen == peer.expected[: len(peer.seen)], peer
            assert peer.pongs <= peer.pings, peer

    @invariant()
    def closes_are_explained(self) -> None:
        """A peer is closed for its own acts or for being slow only, with the code of the reason."""
        self.notice_evictions()
        evicted = [peer for peer in self.everybody if peer.connection.localCloseCode == closecodes.TOO_SLOW.code]
        stats = self.relay.stats
        assert sum(stats.evictions.values()) == stats.closes_sent[closecodes.TOO_SLOW.code] == len(evicted)
        assert not evicted or stats.messages_missed

    @invariant()
    def rooms_match_members(self) -> None:
        """Each room has its members; empty rooms are gone."""
        self.notice_evictions()
        present = [peer for peer in self.everybody if peer.present]
        assert sorted(self.relay.factory.hub) == sorted({peer.room for peer in present})
        for room in self.relay.factory.hub:
            assert self.relay.factory.hub.member_count(room) == sum(peer.room == room for peer in present)

    @invariant()
    def invariants_hold(self) -> None:
        """The invariants of the hub, its rooms and their subscribers hold."""
        self.relay.factory.hub.check()

    @invariant()
    def no_failure(self) -> None:
        """No callback of the relay raises, and no failure is logged."""
        assert self.relay.stats.failures == 0
        assert not [event for event in self._events if "log_failure" in event]

    def teardown(self) -> None:
        """When all read, all expected messages are seen; when all close, nothing is left behind."""
        globalLogPublisher.removeObserver(self._events.append)
        for peer in self.everybody:
            peer.reads = True
        self.turns()
        for peer in self.everybody:
            if peer.connection.localCloseCode and not peer.gone and not peer.socket.closed:
                assert peer.codes == [peer.connection.localCloseCode], f"{peer} was not told"
            self.close(peer, 1000)
        self.wait(28)  # a close is extended while the peer takes bytes
        assert self.relay.factory.connections == set()
        assert all(peer.socket.closed for peer in self.everybody)
        assert all(socket.closed for socket in self.strangers)
        self.relay.factory.doStop()
        assert self.relay.clock.getDelayedCalls() == []
        self._stretch.stop()
        self._crowded.stop()

    # --- helpers ----------------------------------------------------------------------------------

    def send(self, peer: Peer, data: bytes) -> None:
        """Let the relay read a peer's bytes at once, so that events have the order of the rules."""
        peer.socket.unread += data
        self.world.read(peer.socket)

    def notice_evictions(self) -> None:
        """Mark evicted peers as absent: the model does not know the capacity of a log."""
        for peer in self.everybody:
            if peer.present and peer.connection.state != peer.connection.STATE_OPEN:
                assert peer.connection.localCloseCode == closecodes.TOO_SLOW.code, peer
                assert len(peer.seen) < len(peer.expected), f"{peer} was not slow"
                peer.present = False

    def end(self, peer: Peer, data: bytes, code: int | None) -> None:
        """Let a peer send its last bytes; if it reads, it gets the pending messages, then the close code.

        A paused peer may miss messages that are still in the room's log; all others get everything.
        """
        peer.present = False
        everything = not peer.connection.paused
        self.send(peer, data)
        if not peer.reads:
            return
        while not peer.codes and (self.world.turn() or peer.read()):
            peer.read()
        assert peer.codes == [code], peer
        assert not everything or peer.seen == peer.expected, peer
        self.read_all()

    def read_all(self) -> bool:
        """Let all reading peers read, and return whether there were any bytes."""
        return any([peer.read() for peer in self.everybody if peer.reads])  # noqa: C419 - all of them

    def settle(self) -> None:
        """Take turns until there is nothing to do."""
        while self.world.turn() or self.read_all():
            pass


RelayMachine.TestCase.settings = hypothesis_settings(
    max_examples=int(os.environ.get("WSRELAY_FUZZ_EXAMPLES", "100")), stateful_step_count=40
)
RelayModelTests = RelayMachine.TestCase
