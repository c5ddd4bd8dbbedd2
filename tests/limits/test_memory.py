"""Tests of wsrelay.limits.memory."""

from twisted.trial.unittest import SynchronousTestCase

from tests.connection.test_protocol import client_frame
from tests.harness.support import RelayTestCase, request_bytes
from wsrelay.closecodes import OVERLOADED, CloseReason
from wsrelay.limits.admission import Admission
from wsrelay.limits.memory import CONNECTION_BYTES, MemoryBudget
from wsrelay.settings import Settings


class Rooms:
    """A fake hub: bytes in its logs, and how many of them shed() can free."""

    def __init__(self, log_bytes: int = 0, can_free: int = 0) -> None:
        self.log_bytes = log_bytes
        self.can_free = can_free
        self.asked: list[int] = []

    def shed(self, size_bytes: int) -> int:
        self.asked.append(size_bytes)
        freed = min(size_bytes, self.can_free)
        self.log_bytes -= freed
        return freed


class Held:
    """A fake connection that holds some bytes."""

    def __init__(self, incoming_bytes: int = 0, unsent: bytes = b"") -> None:
        self.incoming_bytes = incoming_bytes
        self.unsent = unsent
        self.reasons: list[CloseReason] = []

    def close(self, reason: CloseReason) -> None:
        self.reasons.append(reason)


class BudgetTests(SynchronousTestCase):
    """Counting and evicting."""

    def budget(self, budget_bytes: int, rooms: Rooms) -> MemoryBudget:
        self.admission = Admission(Settings(), 10, 0)
        settings = Settings(memory_budget=budget_bytes)
        return MemoryBudget(settings, rooms, self.admission)  # type: ignore[arg-type]

    def test_used_bytes(self) -> None:
        """Logs, incoming and unsent bytes, and connections are counted; shared unsent bytes once."""
        shared = bytes(1000)
        budget = self.budget(10**6, Rooms(500))
        budget.keep([Held(1), Held(2, shared), Held(0, shared), Held(0, bytes(100))])

        self.assertEqual(budget.used_bytes, 500 + 3 + 1000 + 100 + 4 * CONNECTION_BYTES)
        self.assertFalse(self.admission.overloaded)

    def test_evict_largest_first(self) -> None:
        """Over the budget, a tenth is freed: in the rooms first, then by closing the connections that hold most."""
        rooms = Rooms(1000, can_free=1000)
        most, much, little, nothing = Held(300), Held(0, bytes(200)), Held(50), Held()
        budget = self.budget(9325, rooms)
        budget.keep([nothing, little, much, most])

        self.assertTrue(self.admission.overloaded)
        self.assertEqual(rooms.asked, [1350])
        self.assertEqual([held.reasons for held in (most, much, little)], [[OVERLOADED], [OVERLOADED], []])

    def test_shared_unsent_bytes(self) -> None:
        """Shared bytes are freed with their last connection, so that enough connections are closed at once."""
        shared = bytes(10_000)
        sharers = [Held(0, shared) for _ in range(10)]
        small = Held(99)
        self.budget(25_200, Rooms()).keep([*sharers, small])

        self.assertEqual([held.reasons for held in sharers], [[OVERLOADED]] * 10)
        self.assertEqual(small.reasons, [])

    def test_evict_nothing(self) -> None:
        """Connections that hold nothing are not closed."""
        held = Held()
        self.budget(1, Rooms(100)).keep([held])

        self.assertEqual((held.reasons, self.admission.overloaded), ([], True))

    def test_hysteresis(self) -> None:
        """Connections are admitted again below 90 % of the budget."""
        rooms = Rooms(1001)
        budget = self.budget(1000, rooms)
        for log_bytes, overloaded in ((1000, False), (1001, True), (950, True), (900, False), (950, False)):
            rooms.log_bytes = log_bytes
            budget.keep([])
            self.assertEqual(self.admission.overloaded, overloaded, log_bytes)

    def test_off(self) -> None:
        """0 is no limit; bytes are counted all the same."""
        budget = self.budget(0, Rooms(10**12))
        budget.keep([])

        self.assertEqual((budget.used_bytes, self.admission.overloaded), (10**12, False))


class RelayTests(RelayTestCase):
    """The budget of a whole relay."""

    def test_unfinished_messages(self) -> None:
        """Over the budget, a client with a large incomplete message is closed; others are not."""
        relay = self.relay(memory_budget=330_000, message_seconds=0)
        bystander, other = relay.client(), relay.client()
        wires = [relay.wire() for _ in range(4)]
        for wire in wires:
            wire.send(request_bytes())
            wire.send(b"\x02\xff" + (100_000).to_bytes(8) + bytes(4) + bytes(90_000))
        self.assertEqual(relay.clock.seconds(), 0)
        relay.wait(1)

        answers = [wire.send(b"")[:4] for wire in wires]
        self.assertEqual(sorted(answers), [b"", b"", b"", b"\x88\x1d" + (1013).to_bytes(2)])
        self.assertGreater(relay.factory.memory.used_bytes, 270_000)
        bystander.say("hello")
        relay.settle()
        self.assertEqual(other.messages, ["hello"])

    def test_full(self) -> None:
        """Over the budget, new clients get 503; open connections without unsent bytes stay."""
        relay = self.relay(memory_budget=CONNECTION_BYTES)
        first, second = relay.client(), relay.client()
        relay.wait(1)
        self.assertEqual(relay.client().status, 503)
        self.assertTrue(first.open)
        self.assertTrue(second.open)

    def test_unsent(self) -> None:
        """Bytes in the transport of a paused connection count while it is open, and incomplete messages do."""
        relay = self.relay()
        wire = relay.wire()
        wire.send(request_bytes())
        [connection] = relay.factory.connections
        wire.transport.dataBuffer = b"waiting"  # as Twisted's own transports have it
        self.assertEqual(connection.unsent, b"")
        connection.pauseProducing()
        self.assertEqual(connection.unsent, b"waiting")
        wire.send(client_frame(1, b"abc", fin=False) + client_frame(0, b"de")[:-1])

        self.assertEqual(connection.incoming_bytes, 3 + 64 + 1 + 64)
        connection.close(OVERLOADED)
        self.assertEqual(connection.unsent, b"")
