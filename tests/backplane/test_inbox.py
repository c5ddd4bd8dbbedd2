"""Tests of wsrelay.backplane.inbox."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.backplane.entry import EMPTY, Entry
from wsrelay.backplane.inbox import FORGET_SECONDS, KNOWN_NODES, Inbox, Verdict

#: When the reader started.
START = 100.0


class InboxTests(SynchronousTestCase):
    """What a reader makes of entries."""

    def setUp(self) -> None:
        """Start a reader."""
        self.inbox = Inbox(START)

    def accept(self, seq: int, age: float | None = None, now: float = START, node: str = "a") -> Verdict:
        """Read an entry."""
        return self.inbox.accept(Entry(node, seq, EMPTY, age), now)

    def test_contiguous(self) -> None:
        """The entries of an unknown node from the first on are delivered, each node by itself."""
        self.assertEqual([self.accept(1), self.accept(1, node="b"), self.accept(2)], [Verdict.DELIVER] * 3)

    def test_duplicates(self) -> None:
        """An entry that was read is skipped, also if it is sent again."""
        self.accept(1)
        self.accept(2)
        self.assertEqual([self.accept(1), self.accept(2), self.accept(2, 0.0)], [Verdict.DUPLICATE] * 3)

    def test_gap(self) -> None:
        """An entry behind a lost one is delivered, with a report; what comes late is skipped."""
        self.accept(1)
        self.assertEqual(
            [self.accept(3), self.accept(2), self.accept(4)], [Verdict.GAP, Verdict.DUPLICATE, Verdict.DELIVER]
        )

    def test_gap_of_an_unknown_node(self) -> None:
        """Its first entry is lost."""
        self.assertEqual(self.accept(2), Verdict.GAP)

    def test_learn(self) -> None:
        """What the log had at the start is skipped; it may hold late copies."""
        found = [self.inbox.learn(Entry("a", seq, EMPTY)) for seq in (2, 4, 5, 4)]
        learned = [Verdict.LEARNED, Verdict.LEARNED_GAP, Verdict.LEARNED, Verdict.DUPLICATE]
        self.assertEqual(found, learned)
        self.assertEqual([self.accept(5), self.accept(6)], [Verdict.DUPLICATE, Verdict.DELIVER])

    def test_sent_again_from_before_the_start(self) -> None:
        """Entries from before the start are not delivered, be it the first of a node, and are no gap."""
        self.inbox.learn(Entry("b", 4, EMPTY))
        self.assertEqual(self.accept(1, 5.0, START + 4), Verdict.LEARNED)
        self.assertEqual(self.accept(2, 4.0, START + 4), Verdict.DELIVER)
        self.assertEqual(self.accept(3), Verdict.DELIVER)
        self.assertEqual(self.accept(5, 6.0, START + 4, "b"), Verdict.LEARNED)
        self.assertEqual(self.accept(7, 5.0, START + 4, "b"), Verdict.LEARNED_GAP)
        self.assertEqual(self.accept(8, node="b"), Verdict.DELIVER)

    def test_sent_again_from_after_the_start(self) -> None:
        """Entries from after the start are delivered, with a gap if some before them are missing."""
        self.accept(1)
        verdicts = [
            self.accept(2, 10.0, START + 20),
            self.accept(4, 10.0, START + 20),
            self.accept(3, 1.0, START + 20, "b"),
        ]
        self.assertEqual(verdicts, [Verdict.DELIVER, Verdict.GAP, Verdict.GAP])

    def test_age_is_rounded(self) -> None:
        """An entry of the same instant as the start counts as later."""
        inbox = Inbox(0.1)
        self.assertIs(inbox.accept(Entry("a", 1, EMPTY, 0.2), 0.3), Verdict.DELIVER)

    def test_seen(self) -> None:
        """Nodes that were read of late and have not said bye are counted."""
        self.inbox.learn(Entry("a", 1, EMPTY))
        self.inbox.learn(Entry("b", 1, EMPTY, bye=True))
        self.accept(1, now=START + 5, node="c")
        self.inbox.accept(Entry("d", 1, EMPTY, bye=True), START + 5)
        self.assertEqual(self.inbox.seen(START + 5, 10), 2)
        self.assertEqual(self.inbox.seen(START + 12, 10), 1)

    def test_last_of(self) -> None:
        """The last numbers of the nodes that were read since a time and have not said bye."""
        self.accept(1, now=START + 5)
        self.accept(2, now=START + 5)
        self.accept(1, now=START + 1, node="b")
        self.inbox.accept(Entry("c", 1, EMPTY, bye=True), START + 5)
        self.assertEqual(self.inbox.last_of(START + 2), {"a": 2})
        self.assertEqual(self.inbox.last_of(START), {"a": 2, "b": 1})

    def test_forget_keeps_few_nodes(self) -> None:
        """Below the limit no node is forgotten, however long it was silent."""
        self.accept(1)
        self.inbox.forget(START + 100 * FORGET_SECONDS)
        self.assertEqual(self.accept(1), Verdict.DUPLICATE)

    def test_forget_the_nodes_silent_for_longest(self) -> None:
        """Over the limit the longest silent ones go, if they are silent for long enough."""
        for number in range(KNOWN_NODES + 3):
            self.accept(1, now=START + number, node=str(number))
        self.inbox.forget(START + FORGET_SECONDS + 1.5)
        known = [self.accept(1, node=str(number)) is Verdict.DUPLICATE for number in range(4)]
        self.assertEqual(known, [False, False, True, True])

    def test_forgotten_node_is_not_delivered_twice(self) -> None:
        """What a forgotten node sends again is not new, and no gap."""
        for number in range(KNOWN_NODES + 1):
            self.accept(number + 1, now=START + number, node=str(number))
        now = START + FORGET_SECONDS + 1
        self.inbox.forget(now)
        self.assertIs(self.accept(1, now - START, now, "0"), Verdict.LEARNED)
        self.assertIs(self.accept(2, now=now, node="0"), Verdict.DELIVER)
        self.assertIs(self.accept(4, FORGET_SECONDS, now, "1"), Verdict.GAP)
        self.assertIs(self.accept(4, 1.0, now, "new"), Verdict.GAP)
