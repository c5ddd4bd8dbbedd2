"""Tests of wsrelay.limits.turns. On connections: tests/connection/test_websocket.py; live: tests/faults."""

from collections.abc import Callable
from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.limits.turns import SHORT_SECONDS, TURN_SECONDS, Turns


class Reader:
    """A connection that takes time for each read, and notes it."""

    def __init__(self, turns: Turns, network: str, name: str, noted: list[str], seconds: float = 0.0) -> None:
        self.turns, self.network, self.name, self.noted, self.seconds = turns, network, name, noted, seconds
        #: By default as :class:`wsrelay.connection.protocol.RelayProtocol` does.
        self.take_turn: Callable[[bytes], object] = self.read

    def read(self, data: bytes) -> None:
        """Read, now or later."""
        if not self.turns.is_contended or not self.turns.postpone(self, data):
            self.take(data)

    def take(self, data: bytes) -> None:
        """Handle a read."""
        self.noted.append(f"{self.name}{data.decode()}")
        self.turns.took(self, self.seconds)


class TurnsTests(SynchronousTestCase):
    """Shares of a turn."""

    def setUp(self) -> None:
        self.calls: list[Callable[[], None]] = []
        self.turns = Turns(self.calls.append, lambda: 0.0)
        self.noted: list[str] = []

    def reader(self, name: str, seconds: float = 0.0, network: str = "here") -> Reader:
        return Reader(self.turns, network, name, self.noted, seconds)

    def turn(self) -> list[str]:
        """Begin a turn; return what was read in it."""
        self.noted.clear()
        calls, self.calls[:] = tuple(self.calls), []
        for call in calls:
            call()
        return list(self.noted)

    def test_within_share(self) -> None:
        """Reads within the share are handled at once."""
        for _ in range(9):
            self.reader("a", TURN_SECONDS / 20).read(b"1")

        self.assertEqual((self.noted, len(self.calls), self.turns.is_contended), (["a1"] * 9, 0, False))

    def test_shares_of_turns(self) -> None:
        """What was taken in earlier turns does not use up the share of this one, from half a share on."""
        for _ in range(5):
            self.reader("a", TURN_SECONDS * 2 / 3).read(b"1")
            self.assertEqual((len(self.calls), self.turns.is_contended), (1, False))
            self.turn()
        for _ in range(2):
            self.reader("a", TURN_SECONDS * 2 / 3).read(b"1")

        self.assertTrue(self.turns.is_contended)

    def test_tick(self) -> None:
        """Networks that have not used up their share are forgotten; where one has, its turn comes first."""
        self.reader("a", TURN_SECONDS / 2).read(b"1")
        self.turns.tick()
        self.reader("a", TURN_SECONDS / 2).read(b"2")
        self.assertFalse(self.turns.is_contended)
        self.reader("a", TURN_SECONDS / 2).read(b"3")
        self.turns.tick()
        self.reader("b").read(b"4")

        self.assertEqual((list(self.noted), self.turn()), (["a1", "a2", "a3"], ["b4"]))

    def test_beyond_share(self) -> None:
        """Reads beyond the share wait, first come, first served; those of other networks do not."""
        readers = [self.reader(name, TURN_SECONDS * 0.6) for name in "abcde"]
        other = self.reader("x", network="there")
        for reader in (*readers, other):
            reader.read(b"1")
        self.assertEqual(self.noted, ["a1", "b1", "x1"])
        self.assertEqual([self.turns.waiting_bytes(reader) for reader in readers], [0, 0, 1, 1, 1])
        self.assertEqual([self.turn(), self.turn(), self.turn()], [["c1", "d1"], ["e1"], []])

        self.assertEqual((self.calls, self.turns.is_contended), ([], False))

    def test_bytes_of_waiting(self) -> None:
        """Bytes that come while a connection waits stay behind those that it waits with."""
        a, b = self.reader("a", TURN_SECONDS), self.reader("b")
        a.read(b"1")
        b.read(b"1")
        self.turn()
        self.turns.wait(b, b"2")
        b.read(b"3")

        self.assertEqual((self.turn(), self.turn()), (["b23"], []))

    def test_shares_of_many_networks(self) -> None:
        """Networks that wait divide the time of a turn between them."""
        for network in "pqrs":
            for _ in range(40):
                self.turns.wait(self.reader(network, TURN_SECONDS / 20, network))
        counts = [self.noted.count(network) for network in "pqrs" if self.turn() is not None]

        self.assertEqual(counts, [5, 5, 5, 5])

    def test_very_many_networks(self) -> None:
        """Shares below a short read serve one connection of each network, in some turns of the usual length."""
        many = 3 * int(TURN_SECONDS / SHORT_SECONDS)
        for number in range(many):
            self.turns.wait(self.reader(str(number), SHORT_SECONDS, str(number)))
        turns = [self.turn() for _ in range(8)]

        self.assertEqual([name for turn in turns for name in turn], [str(number) for number in range(many)])
        self.assertLessEqual(max(map(len, turns)), many // 6 + 1)

    def test_wait_again(self) -> None:
        """A connection that must wait again in its turn comes behind the others of its network."""
        a, b = self.reader("a"), self.reader("b")
        take, again = a.take, [b"again"]

        def take_and_wait(data: bytes) -> None:
            take(data)
            if again:
                self.turns.wait(a, again.pop())

        a.take_turn = take_and_wait
        self.turns.wait(a, b"1")
        self.turns.wait(b, b"1")

        self.assertEqual([self.turn(), self.turn(), self.turn()], [["a1", "b1"], ["aagain"], []])

    def test_keeps_place(self) -> None:
        """A connection that could not use its turn stays before the others; so does its network, if none could."""
        readers = [self.reader(name, network=network) for name, network in (("a", "p"), ("b", "p"), ("c", "q"))]
        room = [1]  # the messages for which there is room

        def take_turn(reader: Reader, data: bytes) -> None:
            if room[0]:
                room[0] -= 1
                reader.take(data)
                self.turns.wait(reader, data)
            else:
                self.turns.wait(reader, data, keeps_place=True)

        for reader in readers:
            reader.take_turn = partial(take_turn, reader)
            self.turns.wait(reader, b"1")
        taken: list[str] = []
        for room[0] in (1, 0, 1, 1, 1, 1):
            taken += self.turn()

        self.assertEqual(taken, ["a1", "c1", "b1", "c1", "a1"])

    def test_withdraw(self) -> None:
        """A connection that has ended gives its bytes back, and gets no turn; not even in a turn that has begun."""
        a, b, c = (self.reader(name) for name in "abc")
        for reader in (a, b, c):
            self.turns.wait(reader, b"1")
        self.assertEqual((self.turns.withdraw(a), self.turns.withdraw(a)), (b"1", b""))
        b.take_turn = lambda data: self.assertEqual(self.turns.withdraw(c), b"1")

        self.assertEqual((self.turn(), self.turn(), self.turns.is_contended), ([], [], False))

    def test_short_reads(self) -> None:
        """A turn of its own counts as a short read at least, so that a queue of those is cut, too."""
        many = 2 * int(TURN_SECONDS / SHORT_SECONDS)
        for number in range(many):
            self.turns.wait(self.reader(str(number)))
        first = len(self.turn())

        self.assertLess(first, many)
        self.assertEqual(first + len(self.turn()) + len(self.turn()), many)

    def test_short_reads_leave(self) -> None:
        """Connections with short reads do not wait again after their turn: the queue becomes empty."""
        readers = [self.reader(str(number)) for number in range(3 * int(TURN_SECONDS / SHORT_SECONDS))]
        for reader in readers:
            self.turns.wait(reader, b"1")
            reader.take = lambda data: None  # as short reads, which are not told
        turns = 0
        while self.turns.is_contended and turns < 10:
            self.turn()
            for reader in readers:
                reader.read(b"2")
            turns += 1

        self.assertEqual(turns, 3)

    def test_shares_behind_queue(self) -> None:
        """What a queue has used of the last turn does not count in later ones."""
        self.turns.wait(self.reader("a", TURN_SECONDS * 0.9), b"1")
        self.assertEqual([self.turn(), self.turn()], [["a1"], []])
        self.reader("a", TURN_SECONDS * 0.2).read(b"2")

        self.assertEqual((self.calls, self.turns.is_contended), ([], False))

    def test_many_keep_place(self) -> None:
        """Those behind any number of connections that cannot use their turn have theirs."""
        for number in range(2 * int(TURN_SECONDS / SHORT_SECONDS)):
            held = self.reader(str(number))
            held.take_turn = lambda data, held=held: self.turns.wait(held, data, keeps_place=True)
            self.turns.wait(held, b"1")
        self.turns.wait(self.reader("a"), b"1")

        self.assertEqual(self.turn(), ["a1"])

    def test_changes_network(self) -> None:
        """A turn in which a connection comes to another network counts for the one that it waited in."""
        now = [0.0]
        self.turns.seconds = lambda: now[0]

        def take_turn(reader: Reader, data: bytes) -> None:
            now[0] += TURN_SECONDS * 0.6
            reader.network = "there"
            self.noted.append(reader.name)

        for name in "abc":
            reader = self.reader(name)
            reader.take_turn = partial(take_turn, reader)
            self.turns.wait(reader, b"1")

        self.assertEqual([self.turn(), self.turn()], [["a", "b"], ["c"]])

    def test_raises(self) -> None:
        """An exception of one transport does not keep the others waiting."""
        broken, other = self.reader("broken"), self.reader("other")
        broken.take_turn = lambda data: 1 / 0
        for reader in (broken, other):
            self.turns.wait(reader, b"1")
        self.assertRaises(ZeroDivisionError, self.turn)

        self.assertEqual((self.turn(), self.turns.is_contended), (["other1"], False))
