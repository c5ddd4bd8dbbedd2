"""Tests of wsrelay.policies. Rooms that apply slow policies are tested in tests/rooms/test_room.py."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.policies import COUNTS, DISCONNECT, MAX_COUNT, SLOW_POLICIES, ByRoom


class TableTests(SynchronousTestCase):
    """The table."""

    def test_names(self) -> None:
        """Each policy is found by its name; the first is the default."""
        self.assertEqual([*SLOW_POLICIES], ["disconnect", "drop-oldest", "latest", "pause-publishers"])
        self.assertEqual(
            {name: policy.name for name, policy in SLOW_POLICIES.items()}, {name: name for name in SLOW_POLICIES}
        )
        self.assertIs(SLOW_POLICIES["disconnect"], DISCONNECT)

    def test_evicts(self) -> None:
        """disconnect and pause-publishers evict; the others leave less than all of the log."""
        self.assertEqual(
            [name for name, policy in SLOW_POLICIES.items() if policy.evicts], ["disconnect", "pause-publishers"]
        )
        for policy in SLOW_POLICIES.values():
            self.assertLess(policy.log_share or 0, 1)


CHOICES = {"red": 1, "green": 2, "blue": 3}


class ByRoomTests(SynchronousTestCase):
    """Which room has which."""

    def problem(self, *texts: str) -> str:
        return str(self.assertRaises(ValueError, ByRoom, texts, CHOICES))

    def test_default(self) -> None:
        """Rooms without a choice of their own have the one for all, or else the first there is."""
        self.assertEqual(ByRoom([], CHOICES).of("room"), 1)
        self.assertEqual(ByRoom(["green"], CHOICES).of("room"), 2)
        self.assertEqual(ByRoom(["a=green"], CHOICES).of("room"), 1)

    def test_patterns(self) -> None:
        """The first pattern that fits counts, wherever the one for all stands."""
        by_room = ByRoom(["log/a=red", "green", "/log/**=blue", "log/b=red", "a=b=red"], CHOICES)
        for room, choice in {"log/a": 1, "log/b": 3, "log/b/c": 3, "a=b": 1, "log": 2, "/": 2}.items():
            self.assertEqual(by_room.of(room), choice, room)

    def test_chosen(self) -> None:
        """What some room may have can be asked for, the one for all first."""
        self.assertEqual(ByRoom([], CHOICES).chosen, [1])
        self.assertEqual(ByRoom(["a=blue", "green"], CHOICES).chosen, [2, 3])

    def test_wrong(self) -> None:
        """All wrong texts are named, with what to write instead."""
        write = "write NAME or PATTERN=NAME with one of red, green, blue"
        self.assertEqual(self.problem("pink"), f"'pink': {write}")
        self.assertEqual(self.problem(""), f"'': {write}")
        self.assertEqual(self.problem("room=", "red=a"), f"'room=': {write}; 'red=a': {write}")
        self.assertEqual(self.problem("=red"), "'=red': a room pattern may not be empty")
        self.assertIn("'a/**/b=red': 'a/**/b' is not a room pattern: ", self.problem("a/**/b=red"))
        self.assertEqual(
            self.problem("red", "green"), "'green': red is for all rooms already; write PATTERN=green for some of them"
        )


class CountTests(SynchronousTestCase):
    """Numbers per room."""

    def test_by_room(self) -> None:
        """A room has the number of its pattern, or else the one for all rooms, or 0."""
        by_room = ByRoom(["chat/**=100", "1", "news=0"], COUNTS)
        self.assertEqual([by_room.of(room) for room in ("chat/a/b", "news", "chat")], [100, 0, 1])
        self.assertEqual(by_room.chosen, [1, 100, 0])
        self.assertEqual(ByRoom([], COUNTS).chosen, [0])

    def test_counts(self) -> None:
        """The numbers from 0 to a million are found by their digits."""
        self.assertEqual([COUNTS[text] for text in ("0", "007", "1000000")], [0, 7, 1_000_000])
        self.assertEqual((len(COUNTS), next(iter(COUNTS))), (MAX_COUNT + 1, "0"))
        for text in ("", "-1", "+1", "1.0", "1_0", " 1", "1\n", "\u0661", "1000001", "9" * 5000, "text"):
            self.assertNotIn(text, COUNTS)

    def test_wrong(self) -> None:
        """All wrong texts are named, with what to write instead."""
        write = "write COUNT or PATTERN=COUNT with a whole number from 0 to 1000000"
        error = self.assertRaises(ValueError, ByRoom, ["many", "a=", "b=1000001", "c=1", "2", "3"], COUNTS)
        self.assertEqual(
            str(error),
            f"'many': {write}; 'a=': {write}; 'b=1000001': {write};"
            " '3': 2 is for all rooms already; write PATTERN=3 for some of them",
        )
