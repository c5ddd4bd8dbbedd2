"""Tests of wsrelay.backplane.survey."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.backplane.entry import Id
from wsrelay.backplane.redis_errors import RedisError
from wsrelay.backplane.redis_protocol import Reply
from wsrelay.backplane.survey import START, Survey, take_survey


class Connection:
    """Records commands, with what takes their replies."""

    def __init__(self) -> None:
        self.commands: list[tuple[Any, ...]] = []
        self.callbacks: list[Any] = []

    def command(self, callback: Any, *arguments: Any) -> None:
        """Record a command."""
        self.commands.append(arguments)
        self.callbacks.append(callback)


class SurveyTests(SynchronousTestCase):
    """The questions before a pair is used."""

    def take(self, *replies: Reply) -> list[object]:
        """Ask, and give these replies; return what came of it."""
        self.connection, found = Connection(), list[object]()
        take_survey(self.connection, "key", Id(7, 1), Id(8, 2), found.append, found.append)  # type: ignore[arg-type]
        for callback, reply in zip(self.connection.callbacks, replies, strict=False):
            callback(reply)
        return found

    def test_commands(self) -> None:
        """They show that trimming is allowed, the entries at two ids, and the last and the first id."""
        self.take()
        self.assertEqual(
            self.connection.commands,
            [
                ("XTRIM", "key", "MINID", "~", "0-0"),
                ("XRANGE", "key", "7-1", "7-1"),
                ("XRANGE", "key", "8-2", "8-2"),
                ("XREVRANGE", "key", "+", "-", "COUNT", 1),
                ("XRANGE", "key", "-", "+", "COUNT", 1),
            ],
        )

    def test_found(self) -> None:
        """Fields and id are given once all replies have come."""
        entries = [[[identity, [name, b"1"]]] for identity, name in ((b"7-1", b"a"), (b"8-2", b"b"), (b"9-3", b"c"))]
        replies = (0, *entries, [[b"6-0", [b"d", b"1"]]])
        self.assertEqual(self.take(*replies[:4]), [])
        self.assertEqual(self.take(*replies), [Survey([b"a", b"1"], [b"b", b"1"], Id(9, 3), Id(6, 0))])

    def test_empty(self) -> None:
        """An empty stream has nothing, and ends at its start."""
        [survey] = self.take(0, [], [], [], [])
        self.assertEqual(survey, Survey([], [], START))

    def test_refused(self) -> None:
        """An error reply is given instead, whichever it is."""
        for place in range(5):
            replies: list[Reply] = [0, [], [], [], []]
            replies[place] = error = RedisError("NOPERM no")
            self.assertEqual(self.take(*replies[: place + 1]), [error])
