"""Tests of wsrelay.net.reactor, on real sockets; what Twisted's reactor does as well is run on both."""

import os
import socket
from collections.abc import Callable
from typing import Any, Final, cast
from unittest import mock

from twisted.internet import error
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IHalfCloseableDescriptor
from twisted.logger import globalLogPublisher
from twisted.python import log
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from wsrelay.net import reactor
from wsrelay.net.reactor import LeanReactor

#: A turn that waits so long ends the test.
FOREVER: Final = 3600.0


class Peer:
    """A descriptor on one end of a socket pair, which keeps what the reactor calls.

    Args:
        called: where all peers of a test keep their calls.
        name: its name there, and in the log.
    """

    def __init__(self, called: list[object], name: str) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self._called, self._name = called, name
        #: What doRead and doWrite do and return.
        self.read: Callable[[], object] = lambda: None
        self.write: Callable[[], object] = lambda: None
        self.fileno: Callable[[], int] = self.near.fileno

    def logPrefix(self) -> str:
        return self._name

    def doRead(self) -> object:
        self._called.append(f"{self._name} reads")
        return self.read()

    def doWrite(self) -> object:
        self._called.append(f"{self._name} writes")
        return self.write()

    def connectionLost(self, reason: Failure) -> None:
        self._called.append((f"{self._name} ends", reason.type))

    def close(self) -> None:
        self.near.close()
        self.far.close()


@implementer(IHalfCloseableDescriptor)
class HalfPeer(Peer):
    """A descriptor that can be closed in one direction."""

    def readConnectionLost(self, reason: Failure) -> None:
        self._called.append((f"{self._name} has read all", reason.type))

    def writeConnectionLost(self, reason: Failure) -> None:
        raise NotImplementedError


class ReactorTestCase(SynchronousTestCase):
    """A reactor of its own."""

    def setUp(self) -> None:
        self.start(LeanReactor)

    def start(self, kind: Callable[[], EPollReactor]) -> None:
        """Begin again, with a new reactor."""
        self.called: list[object] = []
        self.reactor: Any = kind()
        self.addCleanup(self.stop, self.reactor)

    def stop(self, started: Any) -> None:
        """Close the descriptors of a reactor."""
        started.waker.connectionLost(None)
        started._poller.close()

    def peer(self, name: str, kind: type[Peer] = Peer, *, writes: bool = False, reads: bool = True) -> Peer:
        """Return a peer that the reactor watches; it has input if it reads."""
        made = kind(self.called, name)
        self.addCleanup(made.close)
        if reads:
            made.far.send(b"x")
            self.reactor.addReader(made)
        if writes:
            self.reactor.addWriter(made)
        return made

    def end(self, name: str, then: Callable[[], object] = lambda: None) -> Callable[[], None]:
        """Return a function for the end of a turn."""

        def call() -> None:
            self.called.append(name)
            then()

        return call


class EndOfTurnTests(ReactorTestCase):
    """callAtEndOfTurn."""

    def test_end_of_turn(self) -> None:
        """A function is called once, after all events of its turn."""
        for name in "ab":
            peer = self.peer(name)
            peer.read = lambda peer=peer: peer.near.recv(1) and self.reactor.callAtEndOfTurn(self.end("end"))
        self.reactor.doIteration(FOREVER)
        self.assertEqual((sorted(map(str, self.called[:2])), self.called[2:]), (["a reads", "b reads"], ["end", "end"]))

        self.reactor.doIteration(0)
        self.assertEqual(len(self.called), 4)

    def test_end_of_turn_order(self) -> None:
        """Functions are called in the order in which they were added, one that was added twice twice."""
        first, second = self.end("first"), self.end("second")
        for function in (first, second, first):
            self.reactor.callAtEndOfTurn(function)
        self.reactor.doIteration(0)
        self.assertEqual(self.called, ["first", "second", "first"])

    def test_end_of_turn_again(self) -> None:
        """A function added at the end of a turn is called at the end of the next one, which does not wait."""
        again = self.end("again", lambda: self.reactor.callAtEndOfTurn(again))
        self.reactor.callAtEndOfTurn(again)
        for turns in range(1, 4):
            self.reactor.doIteration(None)
            self.assertEqual(self.called, ["again"] * turns)

    def test_end_of_turn_reads_between(self) -> None:
        """Sockets are read between a function and one that it adds."""
        peer = self.peer("a", reads=False)
        self.reactor.addReader(peer)

        def publish() -> None:
            peer.far.send(b"x")
            self.reactor.callAtEndOfTurn(self.end("last"))

        self.reactor.callAtEndOfTurn(self.end("first", publish))
        self.reactor.doIteration(FOREVER)
        self.reactor.doIteration(FOREVER)
        self.assertEqual(self.called, ["first", "a reads", "last"])

    def test_end_of_turn_timed_call(self) -> None:
        """A function added by a timed call is called in the same turn, which does not wait but handles events."""
        self.peer("a")
        self.reactor.callLater(0, lambda: self.reactor.callAtEndOfTurn(self.end("end")))
        self.reactor.iterate(FOREVER)
        self.assertEqual(self.called, ["a reads", "end"])

    def test_end_of_turn_exceptions(self) -> None:
        """An exception is logged as critical, and the remaining functions are called."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        for mistake in (ZeroDivisionError, SystemExit):
            self.reactor.callAtEndOfTurn(self.end("wrong", mock.Mock(side_effect=mistake)))
        self.reactor.callAtEndOfTurn(self.end("right"))
        self.reactor.doIteration(0)

        self.assertEqual(self.called, ["wrong", "wrong", "right"])
        self.assertEqual([failure.type for failure in self.flushLoggedErrors()], [ZeroDivisionError, SystemExit])
        self.assertEqual({event["log_level"].name for event in events}, {"critical"})
        self.assertEqual({event["log_format"] for event in events}, {"while handling a call at the end of a turn"})

    def test_end_of_turn_stop(self) -> None:
        """The reactor can be stopped at the end of a turn."""
        self.reactor.addSystemEventTrigger("during", "shutdown", self.end("stopped"))
        self.reactor.startRunning(installSignalHandlers=False)
        self.reactor.callAtEndOfTurn(self.reactor.stop)
        self.reactor.iterate(FOREVER)
        self.assertEqual(self.called, [])
        self.reactor.runUntilCurrent()
        self.assertEqual(self.called, ["stopped"])


class DispatchTests(ReactorTestCase):
    """What becomes of an event, here and in Twisted's reactor."""

    def on_both(self, check: Callable[[], None]) -> None:
        """Run a check with both reactors."""
        for kind in (EPollReactor, LeanReactor):
            self.start(kind)
            check()

    def turn(self, *expected: object) -> None:
        """Have a turn, and compare what it has called."""
        self.called.clear()
        self.reactor.doIteration(0)
        self.assertEqual(self.called, list(expected), type(self.reactor))

    def errors(self) -> list[type[BaseException]]:
        """Return the logged exceptions, and forget them."""
        return [cast("type[BaseException]", failure.type) for failure in self.flushLoggedErrors()]

    def test_reads_and_writes(self) -> None:
        """A socket with input is read, one with room in its buffer written, one with both both; it stays watched."""

        def check() -> None:
            peer = self.peer("a", writes=True)
            for _ in range(2):
                self.turn("a reads", "a writes")
            self.reactor.removeReader(peer)
            self.turn("a writes")
            self.reactor.removeWriter(peer)
            self.turn()
            self.reactor.addReader(peer)
            self.turn("a reads")

        self.on_both(check)

    def test_end_of_input(self) -> None:
        """A read at the end of the input ends a socket with ConnectionDone, or its reading where it can be half."""

        def check() -> None:
            peer = self.peer("a")
            peer.read = error.ConnectionDone
            self.turn("a reads", ("a ends", error.ConnectionDone))
            self.turn()
            half = self.peer("b", HalfPeer, writes=True)
            half.read = error.ConnectionDone
            self.turn("b reads", ("b has read all", error.ConnectionDone))
            self.turn("b writes")

        self.on_both(check)

    def test_errors_of_sockets(self) -> None:
        """An error that a read or a write returns ends the socket with it; after that of a read, nothing is written."""

        def check() -> None:
            for mistake, ends in ((error.ConnectionLost(), error.ConnectionLost), (OSError(5, ""), OSError)):
                reading, writing = self.peer("a", writes=True), self.peer("b", writes=True, reads=False)
                reading.read = writing.write = lambda mistake=mistake: mistake
                self.turn("a reads", ("a ends", ends), "b writes", ("b ends", ends))
                self.turn()

        self.on_both(check)

    def test_exceptions(self) -> None:
        """An exception of a read or a write is logged and ends the socket, also no Exception; others go on."""

        def check() -> None:
            for mistake in (ZeroDivisionError, KeyboardInterrupt, error.ConnectionDone):
                reading, writing = self.peer("a", HalfPeer), self.peer("b", writes=True, reads=False)
                reading.read = writing.write = mock.Mock(side_effect=mistake)
                self.peer("c")
                self.turn("a reads", ("a ends", mistake), "b writes", ("b ends", mistake), "c reads")
                self.assertEqual(self.errors(), [mistake, mistake])
                self.reactor.removeAll()

        self.on_both(check)

    def test_exceptions_at_the_end(self) -> None:
        """An exception of connectionLost is logged, and others go on."""

        def check() -> None:
            peer = self.peer("a")
            peer.read = error.ConnectionDone
            peer.connectionLost = mock.Mock(side_effect=ZeroDivisionError)  # type: ignore[method-assign]  # a failure
            self.peer("b")
            self.turn("a reads", "b reads")
            self.assertEqual(self.errors(), [ZeroDivisionError])
            self.turn("b reads")

        self.on_both(check)

    def test_no_descriptor(self) -> None:
        """A socket without a descriptor ends with ConnectionFdescWentAway, one that cannot name it with why."""

        def check() -> None:
            for ready in ({}, {"writes": True, "reads": False}):
                peer = self.peer("a", **ready)
                peer.fileno = lambda: -1
                self.turn(("a ends", error.ConnectionFdescWentAway))
            raising = self.peer("b")
            descriptor, raising_now = raising.near.fileno(), iter([True])

            def fileno() -> int:
                return 1 // 0 if next(raising_now, False) else descriptor

            raising.fileno = fileno
            self.turn(("b ends", ZeroDivisionError))
            self.assertEqual(self.errors(), [ZeroDivisionError])

        self.on_both(check)

    def test_hang_up(self) -> None:
        """A peer has hung up: a socket that reads goes on to read what is left; another ends with ConnectionLost."""

        def check() -> None:
            unread, empty = self.peer("a"), self.peer("b", reads=False)
            unread.far.close()
            empty.far.close()
            self.reactor.addWriter(empty)
            self.turn("a reads", ("b ends", error.ConnectionLost))

        self.on_both(check)

    def test_timeout(self) -> None:
        """A turn without bound on its wait handles what comes."""
        self.peer("a")
        self.reactor.doIteration(None)
        self.assertEqual(self.called, ["a reads"])

    def test_removed_by_earlier_event(self) -> None:
        """A socket that an earlier event of the turn has removed is not read."""

        def check() -> None:
            one, other = self.peer("a"), self.peer("b")
            one.read = lambda: self.reactor.removeReader(other)
            other.read = lambda: self.reactor.removeReader(one)
            self.turn("a reads")
            self.turn("a reads")

        self.on_both(check)

    def test_descriptor_used_again(self) -> None:
        """A socket that got the descriptor of one closed in the same turn is read at once; it finds nothing."""

        def check() -> None:
            one, other = self.peer("a"), self.peer("b")
            empty: list[Peer] = []

            def replace() -> None:
                self.reactor.removeReader(other)
                new = self.peer("c", reads=False)
                os.dup2(new.near.fileno(), other.near.fileno(), inheritable=False)
                new.fileno = other.near.fileno
                new.read = lambda: self.assertRaises(BlockingIOError, new.near.recv, 1) and None
                self.reactor.addReader(new)
                empty.append(new)

            one.read = lambda: None if empty else replace()
            self.turn("a reads", "c reads")
            self.turn("a reads")

        self.on_both(check)

    def test_log_system(self) -> None:
        """A logged failure of a socket has its prefix as the system; other old-style messages only with Twisted's."""
        found: dict[object, list[object]] = {}
        for kind in (EPollReactor, LeanReactor):
            self.start(kind)
            systems = found[kind] = []
            log.addObserver(observe := lambda event, systems=systems: systems.append(event["system"]))
            self.addCleanup(log.removeObserver, observe)
            peer = self.peer("a")
            peer.read = lambda: log.msg("read") or 1 // 0
            self.turn("a reads", ("a ends", ZeroDivisionError))
            log.removeObserver(observe)
            self.errors()
        self.assertEqual(found, {EPollReactor: ["a", "a"], LeanReactor: ["-", "a"]})

    def test_twisted_internals(self) -> None:
        """Canary (TRAPS 143): doPoll of Twisted uses what ours uses, and nothing more."""
        names = {"_poller", "_selectables", "_doReadOrWrite", "poll", "len", "log", "callWithLogger"}
        handled = {"OSError", "errno", "EINTR", "KeyError"}
        self.assertEqual(set(EPollReactor.doPoll.__code__.co_names), names | handled)
        self.assertIs(vars(EPollReactor)["doIteration"], EPollReactor.doPoll)
        self.assertIs(vars(LeanReactor)["doIteration"], LeanReactor.doPoll)
        ends = LeanReactor._disconnectSelectable.__code__
        self.assertEqual(ends.co_varnames[: ends.co_argcount], ("self", "selectable", "why", "isRead", "faildict"))


class InstallTests(SynchronousTestCase):
    """Installing."""

    def test_install(self) -> None:
        """A lean reactor becomes that of the process."""
        installed: list[object] = []
        self.patch(reactor, "installReactor", installed.append)
        self.patch(reactor, "LeanReactor", lambda: "lean")
        reactor.install()
        self.assertEqual(installed, ["lean"])
