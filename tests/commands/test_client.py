"""Tests of wsrelay.commands.client."""

import io
import signal
from contextlib import redirect_stderr
from typing import Any
from unittest import mock

import txaio
from OpenSSL.SSL import Error as TLSError
from service_identity import VerificationError
from twisted.internet import error as errors
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from tests.commands.support import ClientTestCase
from tests.harness.support import Answer
from wsrelay.closecodes import CLOSED_BY_OPERATOR, EXPIRED, RESTARTING, TOO_FAST, for_status
from wsrelay.commands import client as module
from wsrelay.commands.client import Ending, connect
from wsrelay.commands.target import Target
from wsrelay.errors import Denied


class ConnectTests(ClientTestCase):
    """A connection, from its beginning to its end."""

    def connect(self, where: Target | None = None) -> Any:
        """Connect; return the result."""
        self.got: list[tuple[bytes, bool]] = []
        work = connect(self.server.clock, where or self.room, lambda *message: self.got.append(message), self.wires)
        return self.successResultOf(self.begin(work))

    def test_messages(self) -> None:
        """It is a member of its room: it sends, and gets text and binary messages."""
        self.start()
        other = self.server.client("/room")
        client = self.connect()
        self.successResultOf(client.send("hello"))
        other.say("text")
        other.say(b"binary")
        self.server.settle()
        self.assertEqual(other.messages, ["hello"])
        self.assertEqual(self.got, [(b"text", False), (b"binary", True)])

    def test_handshake(self) -> None:
        """Token, origin and our name are in the handshake."""
        seen = Answer(lambda request, grant: grant)
        self.start([seen])
        self.connect(Target("ws://relay.example:8080/a%20b", token="t", origin="https://app.example"))
        [request] = seen.requests
        self.assertEqual((request.room, request.origin), ("a b", "https://app.example"))
        self.assertEqual(request.headers["authorization"], "Bearer t")
        self.assertRegex(request.headers["user-agent"], r"^wsrelay/\d")

    def test_finish(self) -> None:
        """After a close that the relay answers, it has taken all; also if it has ended before."""
        self.start()
        client = self.connect()
        client.send("last")
        ended = client.finish()
        self.server.settle()
        ending = self.successResultOf(ended)
        self.assertEqual((ending.is_clean, ending.why), (True, "closed: 1000"))
        self.assertEqual(self.server.stats.messages_in, 1)

    def test_refused(self) -> None:
        """A refusal has its status and reason, what to do, and how long to wait."""
        for denied, is_final, why, seconds in (
            (Denied(401, "a token is needed"), True, "refused: 401 a token is needed; give a token with --token", 0),
            (Denied(403, "no"), True, "refused: 403 no; another room, --origin or --token", 0),
            (Denied(404, "no"), True, "refused: 404 no; is this the relay?", 0),
            (Denied(418, "no"), True, "refused: 418 no", 0),
            (Denied(429, "later", [("Retry-After", "7")]), False, "refused: 429 later", 7),
            (Denied(503, "later", [("Retry-After", "soon")]), False, "refused: 503 later", 0),
        ):
            self.start([Answer(denied)])
            ending = self.connect()
            self.assertEqual((ending.is_final, ending.retry_seconds, ending.is_clean), (is_final, seconds, False))
            self.assertTrue(ending.why.startswith(why), ending.why)
            self.start([Answer(denied)], explain_refusals=True)
            work = self.begin(connect(self.server.clock, self.room, endpoint=self.wires))
            self.server.wait(self.server.factory.settings.close_seconds + 1)  # in memory there is no half-close
            self.assertEqual(self.successResultOf(work), Ending(ending.why, is_final))

    def test_refused_later(self) -> None:
        """A close of an explained refusal that comes behind the 101 is a refusal, too."""
        self.start()
        client = self.connect()
        next(iter(self.server.factory.connections)).close(for_status(403, "no"))
        self.server.settle()
        ending = self.successResultOf(client.ended)
        self.assertTrue(ending.is_final and ending.why.startswith("refused: 403 no; another room"), ending)

    def test_not_connected(self) -> None:
        """Why there is no connection, and what to do."""
        self.start()
        for failure, is_final, why in (
            (errors.ConnectionRefusedError(), False, "no connection: Connection was refused by other side."),
            (OSError("no such host"), False, "no connection: no such host"),
            (FileNotFoundError(2, "No such file", "ca.pem"), False, "no connection: [Errno 2] No such file: 'ca.pem'"),
        ):
            self.wires.failures.append(failure)
            ending = self.connect()
            self.assertEqual(ending.is_final, is_final)
            self.assertTrue(ending.why.startswith(why), ending.why)

    def test_own_endpoint(self) -> None:
        """Without another endpoint, it is the target's."""
        self.start()
        ending = self.successResultOf(self.begin(connect(self.server.clock, Target("wss://a/", ca="/nowhere"))))
        self.assertIn("'/nowhere'", ending.why)

    def test_codes(self) -> None:
        """A close has code and reason; it is final where another try would end the same."""
        for reason, is_final in ((RESTARTING, False), (TOO_FAST, False), (CLOSED_BY_OPERATOR, True), (EXPIRED, True)):
            self.start()
            client = self.connect()
            next(iter(self.server.factory.connections)).close(reason)
            self.server.settle()
            ending = self.successResultOf(client.ended)
            self.assertEqual(ending, Ending(f"closed: {reason.code} {reason.text}", is_final))

    def test_closed_by_the_other(self) -> None:
        """A close that we did not ask for is not clean, whatever its code."""
        self.start()
        client = self.connect()
        next(iter(self.server.factory.connections)).sendClose(client.CLOSE_STATUS_CODE_NORMAL)
        self.server.settle()
        ending = self.successResultOf(client.ended)
        self.assertEqual((ending.is_clean, ending.why), (False, "closed: 1000"))

    def test_lost(self) -> None:
        """An end without a close frame is another kind of end, and a try again may help."""
        self.start()
        client = self.connect()
        client.theirs.abortConnection()
        self.server.settle()
        ending = self.successResultOf(client.ended)
        self.assertFalse(ending.is_final)
        self.assertTrue(ending.why.startswith("closed: 1006 "), ending.why)

    def test_backpressure(self) -> None:
        """While the relay takes nothing more, the sender waits; the end of the connection releases it."""
        self.start()
        client = self.connect()
        client.ours.stalled = True
        waiting = client.send("x" * 100_000)
        self.assertNoResult(waiting)
        client.ours.stalled = False
        self.server.settle()
        self.successResultOf(waiting)
        client.ours.stalled = True
        waiting = client.send("x" * 100_000)
        client.stopProducing()
        client.theirs.abortConnection()
        self.server.settle()
        self.successResultOf(waiting)

    def test_shutdown(self) -> None:
        """Ctrl-C closes the connection with a close frame."""
        self.start()
        self.connect()
        for call in self.server.clock.triggers["before"]["shutdown"]:
            call[0](*call[1], **call[2])
        self.server.settle()
        self.assertEqual(self.server.factory.connections, set())
        self.assertTrue(any("closed by the client" in line or "1005" in line for line in self.logged()), self.logged())


class HandshakeTests(ClientTestCase):
    """Answers of other servers than a relay."""

    def answered(self, *parts: bytes, lost: Exception | None = None) -> Ending | None:
        """Return how a connection ends, on which a server sends this."""
        self.patch(txaio.config, "loop", MemoryReactorClock())
        factory = module._Factory(Target("ws://a/b"), MemoryReactorClock(), lambda *_: None)
        client = factory.buildProtocol(None)
        client.makeConnection(StringTransport())
        client.transport.registerProducer(client, True)
        for part in parts:
            client.dataReceived(part)
        if lost or client.transport.disconnecting or client.transport.disconnected:
            client.connectionLost(Failure(lost or errors.ConnectionDone()))
        return client.ended.result if client.ended.called else None

    def test_in_parts(self) -> None:
        """A refusal is read to its end, and not beyond its length."""
        head = b"HTTP/1.1 404 Not Found\r\nServer: x\r\ncontent-length: 5\r\n\r\n"
        self.assertIsNone(self.answered(head[:10]))
        self.assertIsNone(self.answered(head, b"ab"))
        ending = self.answered(head, b"ab", b"cde")
        self.assertTrue(ending and ending.why.startswith("refused: 404 abcde; is this the relay?"))

    def test_other_answers(self) -> None:
        """An answer without a length ends with its head; one that is no HTTP has no status; both are final."""
        ending = self.answered(b"HTTP/1.1 200 OK\r\n\r\n")
        self.assertEqual(ending, Ending("refused: 200; is this the relay? Another server may have this port", True))
        ending = self.answered(b"220 hello\r\n\r\n")
        self.assertTrue(ending and ending.is_final)

    def test_lost(self) -> None:
        """What went wrong before the handshake, and what to do."""
        for lost, is_final, why in (
            (errors.ConnectionDone(), False, "no connection: it ended in the handshake; if that port has TLS"),
            (errors.ConnectionLost(), False, "no connection: it ended in the handshake; if that port has TLS"),
            (OSError("broken"), False, "no connection: broken"),
            (VerificationError(errors=[]), True, "the certificate is not for this host"),
            (TLSError([("SSL routines", "", "certificate verify failed")]), True, "TLS failed: certificate verify"),
            (TLSError([("SSL routines", "", "wrong version number")]), True, "TLS failed: wrong version number; that"),
        ):
            ending = self.answered(lost=lost)
            self.assertEqual(ending and ending.is_final, is_final)
            self.assertTrue(ending and ending.why.startswith(why), ending)


class RunReactorTests(ClientTestCase):
    """The reactor, as long as the work takes."""

    def run_work(self, work: Any, *, stop: bool = False, number: int | None = None) -> object:
        """Run with a reactor in memory; ``stop`` is the end by a signal, which a reactor may not know."""
        reactor = mock.Mock(_exitSignal=number)
        reactor.calls, reactor.triggers = [], []
        reactor.callWhenRunning.side_effect = reactor.calls.append
        reactor.callLater.side_effect = lambda _, call, *given: reactor.calls.append(lambda: call(*given))
        reactor.addSystemEventTrigger.side_effect = lambda *given: reactor.triggers.append(given[2])

        def run() -> None:
            reactor.calls.pop(0)()
            if stop:
                for trigger in reactor.triggers:
                    trigger()
                reactor.stop.side_effect = errors.ReactorNotRunning
            for call in reactor.calls:
                call()

        reactor.run.side_effect = run
        with (
            mock.patch.dict("sys.modules", {"twisted.internet.reactor": reactor}),
            mock.patch("twisted.internet.reactor", reactor, create=True),
        ):
            code = module.run_reactor(work)
        self.assertEqual(reactor.stop.call_count, 1)
        return code

    def test_result(self) -> None:
        """The exit code is that of the work."""

        async def work(reactor: object) -> int:
            return 7

        self.assertEqual(self.run_work(work), 7)

    def test_interrupted(self) -> None:
        """A signal cancels the work; the exit code is that of a shell."""
        cancelled: list[bool] = []

        async def work(reactor: object) -> int:
            try:
                await Deferred()
            except CancelledError:
                cancelled.append(True)
                raise
            return 0

        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (None, 130)):
            self.assertEqual(self.run_work(work, stop=True, number=number), code)
        self.assertEqual(cancelled, [True] * 3)

    def test_stopped_before(self) -> None:
        """A signal before the work has begun is the same."""
        reactor = mock.Mock(_exitSignal=None)
        with (
            mock.patch.dict("sys.modules", {"twisted.internet.reactor": reactor}),
            mock.patch("twisted.internet.reactor", reactor, create=True),
        ):
            self.assertEqual(module.run_reactor(mock.Mock()), 130)

    def test_failure(self) -> None:
        """A bug is raised, not swallowed."""

        async def work(reactor: object) -> int:
            raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, self.run_work, work)

    def test_note(self) -> None:
        """A line for people is on stderr, and cannot control the terminal."""
        with redirect_stderr(io.StringIO()) as said:
            module.note("a\x1b[2Jb")
        self.assertEqual(said.getvalue(), "* a\\x1b[2Jb\n")
