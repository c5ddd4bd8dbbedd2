"""Tests of wsrelay.connection.member."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.connection.test_reading import Reader
from wsrelay import closecodes
from wsrelay.connection.member import NO_GRANT, Member
from wsrelay.connection.stage import Stage
from wsrelay.grant import Grant
from wsrelay.interfaces import Hold
from wsrelay.message_id import MessageId
from wsrelay.wire import frames


class Owner(Reader):
    """A connection that records calls."""

    def __init__(self) -> None:
        super().__init__(Stage.OPEN)
        self.writer: Any = self

    def send(self, data: bytes) -> int:
        return len(data)

    def write_later(self, data: bytes, sent: int) -> None:
        self.noted.append((data, sent))

    def close(self, reason: closecodes.CloseReason) -> None:
        self.noted.append(reason)

    def fail(self, error: Exception) -> None:
        self.noted.append(error)


class MemberTests(SynchronousTestCase):
    """The room's view of a connection."""

    def test_member_delegates(self) -> None:
        """A member passes calls to its connection; ``send`` is the socket's own."""
        owner, error = Owner(), RuntimeError()
        member = Member(owner, Grant("room"), frames.plain)
        member.write_later(b"abc", 1)
        member.hold()
        member.release()
        member.evict(closecodes.TOO_SLOW)
        member.fail(error)

        member.skipped(MessageId("00000000", (1,)), "latest")

        self.assertEqual(member.send, owner.send)
        self.assertEqual(owner.noted, [(b"abc", 1), "paused", closecodes.TOO_SLOW, error])
        self.assertEqual(owner.flow.held, Hold.RESUMING)

    def test_no_grant(self) -> None:
        """NO_GRANT, for connections that are not open, allows nothing."""
        self.assertFalse(NO_GRANT.can_publish or NO_GRANT.can_subscribe)
