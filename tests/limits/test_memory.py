"""Tests of wsrelay.limits.memory."""

import math

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.connection.test_protocol import client_frame
from tests.harness.support import Answer, RelayTestCase, request_bytes
from tests.limits.test_shedding import Held
from wsrelay.closecodes import OVERLOADED, TOO_MUCH_UNFINISHED
from wsrelay.limits.admission import Admission
from wsrelay.limits.memory import CONNECTION_BYTES, MemoryBudget, address_limit_bytes
from wsrelay.settings import Settings


class Rooms:
    """A fake hub: bytes in its logs, which cannot be freed, and encoded frames, which can."""

    lagging = ()

    def __init__(self, log_bytes: int = 0, cached_bytes: int = 0) -> None:
        self.log_bytes = log_bytes
        self.cached_bytes = cached_bytes

    def free(self, excess_bytes: float) -> int:
        freed_bytes, self.cached_bytes = self.cached_bytes, 0
        return freed_bytes


class BudgetTests(SynchronousTestCase):
    """Counting and shedding."""

    def budget(self, budget_bytes: int, rooms: Rooms, *held: Held, **settings: int) -> MemoryBudget:
        self.admission = Admission(Settings(), 10, 0)
        limits = Settings()
        for name, value in {"memory_budget": budget_bytes, **settings}.items():  # also less than Settings allows
            object.__setattr__(limits, name, value)
        return MemoryBudget(limits, rooms, self.admission, held)  # type: ignore[arg-type]

    def test_used_bytes(self) -> None:
        """Logs, incoming and unsent bytes, and connections are counted; shared unsent bytes once."""
        shared = bytes(1000)
        held = Held("a", 1), Held("b", 2, shared), Held("c", 0, shared), Held("d", 0, bytes(100))
        budget = self.budget(10**6, Rooms(500), *held)
        budget.keep()

        self.assertEqual(budget.used_bytes, 500 + 3 + 1000 + 100 + 4 * CONNECTION_BYTES)
        self.assertFalse(self.admission.overloaded)
        self.assertEqual(budget.unfinished, {*held[:2]})

    def test_shed(self) -> None:
        """Over the budget, a tenth is freed, and newcomers are still admitted."""
        held = [Held(None, 1000 * number) for number in range(10)]
        budget = self.budget(45_000 + 10 * CONNECTION_BYTES - 1, Rooms(), *held)
        budget.keep()

        self.assertEqual([len(each.shed_for) for each in held], [0] * 9 + [1])
        self.assertEqual(budget.used_bytes, 36_000 + 10 * CONNECTION_BYTES)
        self.assertFalse(self.admission.overloaded)

    def test_encoded_frames(self) -> None:
        """Encoded frames are counted, and freed before any connection is closed; then the rest is shed as before."""
        rooms, held = Rooms(500, 400), Held("a", 100)
        budget = self.budget(1000 + CONNECTION_BYTES, rooms, held)
        budget.keep()
        self.assertEqual((budget.used_bytes, rooms.cached_bytes), (1000 + CONNECTION_BYTES, 400))
        rooms.cached_bytes += 1
        budget.keep()
        self.assertEqual((budget.used_bytes, rooms.cached_bytes), (600 + CONNECTION_BYTES, 0))
        self.assertEqual((held.shed_for, self.admission.overloaded), ([], False))
        rooms.cached_bytes, held.incoming_bytes = 400, 501
        budget.keep()

        self.assertEqual((len(held.shed_for), rooms.cached_bytes), (1, 0))

    def test_overloaded(self) -> None:
        """Newcomers are refused if nothing is left to shed."""
        held = Held("a")
        self.budget(1, Rooms(100), held).keep()

        self.assertEqual((held.shed_for, self.admission.overloaded), ([], True))

    def test_hysteresis(self) -> None:
        """Connections are admitted again below 90 % of the budget."""
        rooms = Rooms(1001)
        budget = self.budget(1000, rooms)
        for log_bytes, overloaded in ((1000, False), (1001, True), (950, True), (900, False), (950, False)):
            rooms.log_bytes = log_bytes
            budget.keep()
            self.assertEqual(self.admission.overloaded, overloaded, log_bytes)

    def test_off(self) -> None:
        """0 is no limit; bytes are counted all the same."""
        budget = self.budget(0, Rooms(10**12), Held("a", 10**12))
        budget.keep()
        budget.grow(Held("a"), 10**12)

        self.assertEqual((budget.used_bytes, self.admission.overloaded), (2 * 10**12 + CONNECTION_BYTES, False))

    def test_address_limit(self) -> None:
        """The limit of an address is the option's, or an eighth of the budget, or two of the largest messages."""
        for values, limit in (
            ({}, 64 * 2**20),
            ({"memory_budget": 3 * 2**20}, 2 * 2**20),
            ({"memory_budget": 0}, math.inf),
            ({"memory_budget": 0, "max_unfinished_bytes_per_address": 2**21}, 2**21),
            ({"max_unfinished_bytes_per_address": 2**30}, 2**30),
        ):
            self.assertEqual(address_limit_bytes(Settings(**values)), limit, values)

    def test_network_over_limit(self) -> None:
        """The addresses of a network have four times the limit of one together: the largest go."""
        held = [Held(f"address {number}", size) for number, size in enumerate([900] * 5 + [500] * 3)]
        for one in held[:7]:
            one.network = "network"
        budget = self.budget(10**6, Rooms(), *held, max_unfinished_bytes_per_address=1000)
        budget.keep()

        self.assertEqual(sum(bool(one.shed_for) for one in held), 2)
        self.assertFalse(held[7].shed_for)

    def test_address_over_limit(self) -> None:
        """The largest connections of an address over its limit are closed; other addresses are not."""
        held = [Held("a", 500), Held("a", 300), Held("a", 400), Held("b", 1000), Held(None, 900), Held(None, 900)]
        budget = self.budget(10**6, Rooms(), *held, max_unfinished_bytes_per_address=1000)
        budget.keep()

        self.assertEqual([len(each.shed_for) for each in held], [1, 0, 0, 0, 0, 0])
        self.assertEqual(held[0].shed_for, [(TOO_MUCH_UNFINISHED, 429, "max_unfinished_bytes_per_address")])
        self.assertEqual(budget.used_bytes, 3500 + 6 * CONNECTION_BYTES)

    def test_address_between_sweeps(self) -> None:
        """An address goes over its limit by at most a quarter, however fast its bytes come."""
        held = [Held("a") for _ in range(100)]
        budget = self.budget(10**6, Rooms(), *held, max_unfinished_bytes_per_address=1000)
        most = 0
        for each in held:
            each.incoming_bytes = 100
            budget.grow(each, 100)
            most = max(most, sum(one.incoming_bytes for one in held if not one.shed_for))

        self.assertEqual(most, 1000 + 250 - 50)

    def test_budget_between_sweeps(self) -> None:
        """All addresses together are bounded between two sweeps, too."""
        held = [Held(str(number)) for number in range(100)]
        budget = self.budget(10_000 + 100 * CONNECTION_BYTES, Rooms(), *held, max_unfinished_bytes_per_address=1000)
        budget.keep()
        most = 0
        for each in held:
            each.incoming_bytes = 500
            budget.grow(each, 500)
            most = max(most, sum(one.incoming_bytes for one in held if not one.shed_for))

        self.assertEqual(most, 10_000)


class RelayTests(RelayTestCase):
    """The budget of a whole relay."""

    def test_unfinished_messages(self) -> None:
        """Over the budget, a client with a large incomplete message is closed; others are not."""
        sizes = {"memory_budget": 330_000, "max_message_bytes": 100_000, "max_unfinished_bytes_per_address": 10**6}
        relay = self.relay(**sizes, message_seconds=0)
        bystander, other = relay.client(), relay.client()
        wires = [relay.wire() for _ in range(4)]
        for wire in wires:
            wire.send(request_bytes())
            wire.send(b"\x02\xff" + (100_000).to_bytes(8) + bytes(4) + bytes(90_000))
        self.assertEqual(relay.clock.seconds(), 0)
        relay.wait(1)

        answers = [wire.send(b"")[:4] for wire in wires]
        self.assertEqual(sorted(answers), [b"", b"", b"", b"\x88\x1d" + (1013).to_bytes(2)])
        self.assertLess(relay.factory.memory.used_bytes, 300_000)
        bystander.say("hello")
        relay.settle()
        self.assertEqual(other.messages, ["hello"])

    def test_unfinished_requests(self) -> None:
        """Heads that wait for a validator, and bodies that begin in the same read, are bounded between two sweeps."""
        head = request_bytes("/room", {"Cookie": "x" * 8000})
        body = b"POST /room HTTP/1.1\r\nHost: relay\r\nContent-Length: 99999\r\n\r\n" + bytes(60_000)
        for data, waits in ((head, True), (body, True), (body, False)):
            validators = [Answer(lambda *_: Deferred())] if waits else []
            limits = {"max_message_bytes": 100_000, "max_unfinished_bytes_per_address": 200_000}
            relay = self.relay(validators, http=True, **limits)
            for _ in range(20):
                relay.wire(IPv4Address("TCP", "192.0.2.7", 1)).send(data)
                kept_bytes = sum(one.incoming_bytes for one in relay.factory.connections)
                self.assertLess(kept_bytes, 250_000 + 70_000)
            self.assertGreater(kept_bytes, 100_000)
            self.assertGreater(relay.stats.handshakes_denied[429, "max_unfinished_bytes_per_address"], 10)

    def test_full(self) -> None:
        """Over the budget, new clients get 503; open connections without unsent bytes stay."""
        relay = self.relay(memory_budget=CONNECTION_BYTES, max_message_bytes=1)
        first, second = relay.client(), relay.client()
        relay.wait(1)
        self.assertEqual(relay.client().status, 503)
        self.assertTrue(first.open)
        self.assertTrue(second.open)

    def test_unsent(self) -> None:
        """Bytes in a transport count, also in front of the close frame."""
        relay = self.relay()
        wire = relay.wire()
        wire.send(request_bytes())
        [connection] = relay.factory.connections
        wire.transport.dataBuffer = b"waiting"  # as Twisted's own transports have it
        connection.pauseProducing()
        self.assertEqual(len(connection.unsent), 7)
        connection.close(OVERLOADED)
        self.assertEqual(len(connection.unsent), 7)
        relay.wait(1)
        self.assertEqual(relay.factory.memory.used_bytes, CONNECTION_BYTES + 7)

    def test_incoming_bytes(self) -> None:
        """Parts of an unfinished message count, with 64 bytes for each, and are freed when its connection closes."""
        relay = self.relay()
        wire = relay.wire()
        wire.send(request_bytes())
        [connection] = relay.factory.connections
        wire.send(client_frame(1, b"abc", fin=False) + client_frame(0, b"de")[:-1])
        self.assertEqual(connection.incoming_bytes, 3 + 64 + 1 + 64)
        connection.close(OVERLOADED)

        self.assertEqual(connection.incoming_bytes, 0)
