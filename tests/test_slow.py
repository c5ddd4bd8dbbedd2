"""Tests of wsrelay.slow; doing what the policies say is ``tests/test_room.py``'s."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.slow import DISCONNECT, SLOW_POLICIES, SlowPolicies


class TableTests(SynchronousTestCase):
    """The table."""

    def test_names(self) -> None:
        """Each is found by its name; the first is what is done where nothing was chosen."""
        self.assertEqual([*SLOW_POLICIES], ["disconnect", "drop-oldest", "latest", "pause-publishers"])
        self.assertEqual(
            {name: policy.name for name, policy in SLOW_POLICIES.items()}, {name: name for name in SLOW_POLICIES}
        )
        self.assertIs(SLOW_POLICIES["disconnect"], DISCONNECT)

    def test_who_is_evicted(self) -> None:
        """Those policies that let nobody miss a message in silence evict; the others keep less than all of the log."""
        self.assertEqual(
            [name for name, policy in SLOW_POLICIES.items() if policy.evicts], ["disconnect", "pause-publishers"]
        )
        for policy in SLOW_POLICIES.values():
            self.assertLess(policy.keep or 0, 1)


class SlowPoliciesTests(SynchronousTestCase):
    """Which room has which."""

    def problem(self, *texts: str) -> str:
        return str(self.assertRaises(ValueError, SlowPolicies, texts))

    def test_default(self) -> None:
        """Rooms without a policy of their own are disconnected from, unless another one is for all."""
        self.assertIs(SlowPolicies().of("room"), DISCONNECT)
        self.assertEqual(SlowPolicies(["latest"]).of("room").name, "latest")

    def test_patterns(self) -> None:
        """The first pattern that fits counts, wherever the one for all stands."""
        policies = SlowPolicies(
            ["log/a=latest", "drop-oldest", "/log/**=pause-publishers", "log/b=latest", "a=b=latest"]
        )
        for room, name in {
            "log/a": "latest",
            "log/b": "pause-publishers",
            "log/b/c": "pause-publishers",
            "a=b": "latest",
            "log": "drop-oldest",
        }.items():
            self.assertEqual(policies.of(room).name, name, room)

    def test_whether_publishers_may_be_held(self) -> None:
        """It does not matter whether for some rooms or for all."""
        for texts, held in (
            ([], False),
            (["latest", "a=disconnect"], False),
            (["pause-publishers"], True),
            (["latest", "a=pause-publishers"], True),
        ):
            self.assertIs(SlowPolicies(texts).any_holds_publishers, held, texts)

    def test_wrong(self) -> None:
        """What is wrong is named, all of it, with what to write."""
        choice = "there is no such policy; write POLICY or PATTERN=POLICY with one of "
        choice += "disconnect, drop-oldest, latest, pause-publishers"
        self.assertEqual(self.problem("newest"), f"'newest': {choice}")
        self.assertEqual(self.problem(""), f"'': {choice}")
        self.assertEqual(self.problem("room=", "latest=a"), f"'room=': {choice}; 'latest=a': {choice}")
        self.assertEqual(self.problem("=latest"), "'=latest': a room pattern may not be empty")
        self.assertIn("'a/**/b=latest': 'a/**/b' is no room pattern: ", self.problem("a/**/b=latest"))
        self.assertEqual(
            self.problem("latest", "disconnect"),
            "'disconnect': latest is for all rooms already; write PATTERN=disconnect for some of them",
        )
