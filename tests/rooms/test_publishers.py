"""Tests of wsrelay.rooms.publishers."""

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import RecordingSubscriber
from wsrelay.rooms.publishers import Publishers
from wsrelay.stats import Stats


class PublishersTests(SynchronousTestCase):
    """Holding and releasing; rooms do it in tests/rooms/test_room.py."""

    def setUp(self) -> None:
        self.stats = Stats()
        self.publishers = Publishers(self.stats)
        self.members = [RecordingSubscriber(name) for name in "abc"]
        for member in self.members:
            self.publishers.add(member, can_publish=member.name != "c")

    def held(self) -> str:
        return "".join(member.name for member in self.members if member.held)

    def test_hold_and_release(self) -> None:
        """All that may publish are held, once, and released; it is counted how often."""
        for _ in range(2):
            self.publishers.hold(True, self.members)
        self.assertEqual((self.held(), self.publishers.held, self.stats.pauses), ("ab", True, 1))
        self.publishers.hold(False, self.members)
        self.assertEqual((self.held(), self.publishers.held, self.stats.pauses), ("", False, 1))

    def test_join_and_leave_while_held(self) -> None:
        """A publisher that joins a held room is held; one that leaves is released."""
        self.publishers.hold(True, self.members)
        for name, can_publish in (("d", True), ("e", False)):
            self.members.append(RecordingSubscriber(name))
            self.publishers.add(self.members[-1], can_publish=can_publish)
        self.assertEqual((self.held(), self.publishers.count(5)), ("abd", 3))
        self.publishers.discard(self.members[0])
        self.publishers.discard(self.members[-1])
        self.assertEqual((self.held(), self.publishers.count(3)), ("bd", 2))
