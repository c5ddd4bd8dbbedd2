"""Tests of wsrelay.limits.shedding."""

import heapq
from collections.abc import Sequence
from unittest.mock import Mock

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import RecordingSubscriber
from wsrelay.closecodes import OVERLOADED, CloseReason
from wsrelay.errors import Denied
from wsrelay.limits import shedding
from wsrelay.limits.shedding import Shedding
from wsrelay.message import Run
from wsrelay.rooms.hub import Hub
from wsrelay.settings import Settings
from wsrelay.stats import Stats


class Held:
    """A fake connection of an address that holds some bytes."""

    def __init__(
        self,
        address: str | None,
        incoming_bytes: int = 0,
        unsent: bytes = b"",
        member: RecordingSubscriber | None = None,
    ) -> None:
        self.address = self.network = address
        self.incoming_bytes = incoming_bytes
        self.unsent = unsent
        self.member = member
        self.shed_for: list[tuple[CloseReason, int, str | None]] = []

    def shed(self, reason: CloseReason, denied: Denied) -> None:
        self.shed_for.append((reason, denied.status, denied.cause))


class SheddingTests(SynchronousTestCase):
    """What goes first."""

    def setUp(self) -> None:
        settings = Settings(max_message_bytes=1000, room_log_bytes=10**6, slow_seconds=0)
        self.hub = Hub(settings, Stats(), lambda _: None)

    def shed(self, excess_bytes: float, held: Sequence[Held]) -> int:
        """Free so many bytes."""
        return Shedding(self.hub, held).shed(excess_bytes)

    def gone(self, held: Sequence[Held]) -> list[int]:
        """Return which were closed, once each."""
        assert all(len(each.shed_for) < 2 for each in held)
        return [number for number, each in enumerate(held) if each.shed_for]

    def stalled(self, address: str, room: str, messages: int, member: RecordingSubscriber | None = None) -> Held:
        """Return a subscriber that is behind by so many messages of 1000 bytes."""
        member = member or RecordingSubscriber(room)
        self.hub.join(room, member)
        self.hub.pause(member)
        for _ in range(messages):
            self.hub.publish(room, Run.binary(bytes(1000)))
            self.hub.flush()
        return Held(address, member=member)

    def test_largest_address_first(self) -> None:
        """The address that holds most in sum goes first, its largest connections first; told why."""
        held = [Held("a", 900), *[Held("b", 200 + number) for number in range(6)], Held("a")]
        self.assertEqual(self.shed(401, held), 205 + 204)
        self.assertEqual(self.gone(held), [5, 6])
        self.assertEqual(held[6].shed_for, [(OVERLOADED, 503, "memory_budget")])

    def test_addresses_even_out(self) -> None:
        """Once another address holds more, it goes on with that one."""
        held = [Held("a", 300), Held("a", 300), Held("b", 400), Held("c", 200)]
        self.assertEqual(self.shed(700, held), 700)
        self.assertEqual(self.gone(held), [0, 2])

    def test_without_address(self) -> None:
        """Connections without a known address count alone."""
        held = [*[Held(None, 100) for _ in range(10)], Held("a", 60), Held("a", 60)]
        self.shed(1, held)
        self.assertEqual(self.gone(held), [10])

    def test_shared_unsent_bytes(self) -> None:
        """Shared bytes count in equal parts, as they are freed with the last connection."""
        shared = bytes(10_000)
        held = [*[Held("a", 0, shared) for _ in range(10)], Held("b", 99)]
        self.assertEqual(self.shed(9_500, held), 10_000)
        self.assertEqual(self.gone(held), [*range(10)])

    def test_nothing_held(self) -> None:
        """Connections that hold nothing are not closed."""
        held = [Held("a"), Held(None)]
        self.assertEqual((self.shed(1, held), self.gone(held)), (0, []))

    def test_slightly_behind(self) -> None:
        """A subscriber that is a little behind stays, where another address holds more in many small pieces."""
        held = [self.stalled("innocent", "room", 5), *[Held("attacker", 500) for _ in range(20)]]
        self.shed(4000, held)
        self.assertEqual(self.gone(held), [*range(1, 9)])

    def test_logs_per_address(self) -> None:
        """Logs of several rooms count together for the address whose subscribers pin them; the largest goes first."""
        held = [self.stalled("innocent", "r", 5), *[self.stalled("attacker", f"r{n}", n) for n in (1, 3, 2)]]
        before = self.hub.log_bytes
        self.assertEqual(self.shed(1, held), before - self.hub.log_bytes)
        self.assertEqual(self.gone(held), [2])
        self.assertEqual(held[2].member.evicted if held[2].member else None, [OVERLOADED])

    def test_log_once_per_address(self) -> None:
        """Several subscribers of one address that pin one log count once, and go together."""
        together = [self.stalled("crowd", "r", 0) for _ in range(10)]
        held = [*together, self.stalled("crowd", "r", 2), Held("a", 4000)]
        self.shed(1, held)
        self.assertEqual(self.gone(held), [11])
        self.assertGreater(self.shed(1, held[:11]), 2000)
        self.assertEqual(self.gone(held[:11]), [*range(11)])

    def test_next_slowest(self) -> None:
        """When the slowest have gone, the log counts for the next slowest."""
        held = [self.stalled("a", "r", 3), self.stalled("b", "r", 1), Held("c", 500)]
        self.shed(4500, held)
        self.assertEqual(self.gone(held), [0, 1])
        self.assertEqual(self.hub.log_bytes, 0)

    def test_pinned_by_two_addresses(self) -> None:
        """A log that two addresses pin is freed with the last of them; the larger one goes first."""
        held = [self.stalled("small", "r", 0), self.stalled("large", "r", 2), Held("large", 100)]
        self.assertGreater(self.shed(2000, held), 2000)
        self.assertEqual(self.gone(held), [0, 1])
        self.assertEqual((self.hub.log_bytes, held[2].shed_for), (0, []))

    def test_one_address_linear(self) -> None:
        """Subscribers of one address that are behind by different numbers of messages cost the same each."""
        held = [self.stalled("crowd", "r", 1) for _ in range(200)]
        push = Mock(wraps=heapq.heappush)
        self.patch(shedding, "heappush", push)
        self.shed(10**9, held)
        self.assertEqual(self.gone(held), [*range(200)])
        self.assertLess(push.call_count, 4 * 200)

    def test_stalled_and_unfinished(self) -> None:
        """A connection that holds input and pins a log is closed once; both are freed."""
        member = RecordingSubscriber("m")
        both = self.stalled("a", "r", 2, member)
        both.incoming_bytes = 5000
        held = [both, Held("b", 100)]
        self.assertGreater(self.shed(10**6, held), 7100)
        self.assertEqual(self.gone(held), [0, 1])
