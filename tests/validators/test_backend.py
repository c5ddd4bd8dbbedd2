"""Tests of wsrelay.validators.backend: one request, and a complete answer in time or none."""

import subprocess
import sys
from typing import Any
from unittest import mock

import twisted.internet
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.web.client import Agent
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface.verify import verifyObject

import wsrelay
from wsrelay.validators.backend import WAITING_PER_CONNECTION, Backend, BusyError, NoAnswerError, _Body, _Question

from .back_end import URL, BackendTestCase, Connection, answer

Asked = Deferred[tuple[IResponse, bytes]]

#: The parts of an answer received so far; ``None``: not even connected.
STAGES = (None, b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}")


class AskTestCase(BackendTestCase):
    """A test case with requests to a back end."""

    def setUp(self) -> None:
        """Make a back end with a timeout of 3 seconds."""
        super().setUp()
        self.backend = Backend(URL, 3, reactor=self.reactor)

    def ask(self) -> Asked:
        """Ask a question."""
        asked = Deferred.fromCoroutine(self.backend.ask(b'{"a": 1}'))
        self.to_end(asked)
        return asked

    def asked(self) -> tuple[Asked, Connection]:
        """Ask a question on a new connection."""
        self.backend = Backend(URL, 3, reactor=self.reactor)
        asked = self.ask()
        return asked, self.accept()

    def asked_until(self, sent: bytes | None) -> tuple[Asked, Connection | None]:
        """Ask a question, and send a part of the answer."""
        if sent is None:
            self.backend = Backend(URL, 3, reactor=self.reactor)
            return self.ask(), None
        asked, connection = self.asked()
        connection.send(sent)
        return asked, connection

    def assertAnswer(self, asked: Asked, status: int, body: bytes) -> None:
        """Assert the answer."""
        response, received = self.successResultOf(asked)

        self.assertEqual((status, body), (response.code, received))

    def assertNoAnswer(self, asked: Asked, problem: str) -> None:
        """Assert that there is no answer, and the cause."""
        self.assertEqual(problem, str(self.failureResultOf(asked, NoAnswerError).value))


class QuestionTests(AskTestCase):
    """Requests."""

    def test_post(self) -> None:
        """A question is a POST of JSON with our User-Agent."""
        _, connection = self.asked()
        line, headers, question = connection.take()

        self.assertEqual("POST /ask?key=backendsecret HTTP/1.1", line)
        self.assertEqual({"a": 1}, question)
        self.assertEqual("backend.example:8000", headers["host"])
        self.assertEqual("application/json", headers["content-type"])
        self.assertEqual("application/json", headers["accept"])
        self.assertEqual(f"wsrelay/{wsrelay.__version__}", headers["user-agent"])

    def test_one_write(self) -> None:
        """Headers and body are written in the same turn."""
        transport = StringTransport()
        question = _Question(b"{}")

        self.successResultOf(question.startProducing(transport))
        self.assertEqual(b"{}", transport.value())

    def test_body_producer(self) -> None:
        """The body provides IBodyProducer; pausing and stopping do nothing."""
        question = _Question(b"{}")

        self.assertTrue(verifyObject(IBodyProducer, question))
        question.pauseProducing()
        question.resumeProducing()
        question.stopProducing()

    def test_redirect(self) -> None:
        """Redirects are not followed."""
        asked, connection = self.asked()
        connection.send(answer("307 Elsewhere", b"", "Location: http://evil.example/"))

        self.assertAnswer(asked, 307, b"")
        self.assertEqual(1, len(self.reactor.tcpClients))

    def test_persistent_connection(self) -> None:
        """The next question uses the same connection, after any answer."""
        first, connection = self.asked()
        connection.send(answer("403 No", b"<html>"))
        self.assertAnswer(first, 403, b"<html>")
        second = self.ask()
        connection.send(answer("200 OK", b"{}"))

        self.assertAnswer(second, 200, b"{}")
        self.assertEqual(1, len(self.reactor.tcpClients))


class AnswerTests(AskTestCase):
    """Answers."""

    def test_chunks(self) -> None:
        """An answer may be chunked."""
        asked, connection = self.asked()
        for piece in (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n{\r\n", b"1\r\n}\r\n"):
            connection.send(piece)
            self.assertNoResult(asked)
        connection.send(b"0\r\n\r\n")

        self.assertAnswer(asked, 200, b"{}")

    def test_empty_answer(self) -> None:
        """An empty answer is accepted if its end is marked."""
        for data, status in ((b"HTTP/1.1 204 Yes\r\n\r\n", 204), (answer("200 OK"), 200)):
            asked, connection = self.asked()
            connection.send(data)
            self.assertAnswer(asked, status, b"")

    def test_answer_without_length(self) -> None:
        """An answer without a length ends with the connection; an empty one is refused as incomplete."""
        for body in (b"{}", b'{"can_publish": fal', b""):
            asked, connection = self.asked()
            connection.send(b"HTTP/1.0 200 OK\r\n\r\n" + body)
            self.assertNoResult(asked)
            connection.close()

            if body:
                self.assertAnswer(asked, 200, body)
            else:
                self.assertNoAnswer(asked, "twisted.web.http.PotentialDataLoss")

    def test_connection_refused(self) -> None:
        """A refused connection is no answer; only the kind of the error is told."""
        asked = self.ask()
        self.reactor.tcpClients[-1][2].clientConnectionFailed(None, Failure(ConnectError("secret")))
        self.reactor.advance(1)

        self.assertNoAnswer(asked, "twisted.internet.error.ConnectError")

    def test_incomplete_answer(self) -> None:
        """A connection that ends too early is no answer."""
        for sent in STAGES[1:]:
            asked, connection = self.asked_until(sent)
            assert connection is not None
            connection.close()

            self.assertIn("ConnectionDone", str(self.failureResultOf(asked, NoAnswerError).value))

    def test_not_http(self) -> None:
        """An answer in another protocol is refused, and not quoted."""
        asked, connection = self.asked()
        connection.send(b"SSH-2.0-secret\r\n")

        self.assertNotIn("secret", str(self.failureResultOf(asked, NoAnswerError).value))

    def test_max_answer_bytes(self) -> None:
        """An answer over 64 KiB is refused at once and its connection closed; 64 KiB are read."""
        asked, connection = self.asked()
        connection.send(answer("200 OK", b" " * 65536))
        self.assertAnswer(asked, 200, b" " * 65536)

        asked = self.ask()
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\n" + b" " * 65536 + b"\r\n")
        self.assertNoResult(asked)
        connection.send(b"1\r\n \r\n")
        self.assertNoAnswer(asked, "the answer has more than 65536 bytes")
        self.assertTrue(connection.transport.disconnecting)
        connection.send(b"1\r\n \r\n")
        connection.close()

    @given(st.binary() | st.binary().map(lambda body: answer("200 OK", body)))
    def test_garbage_answers(self, data: bytes) -> None:
        """Any bytes give one outcome: an answer, or NoAnswerError."""
        asked, connection = self.asked()
        connection.send(data)
        connection.close()
        self.reactor.advance(3)

        result: list[Any] = []
        asked.addErrback(lambda failure: failure.trap(NoAnswerError)).addBoth(result.append)
        self.assertEqual(1, len(result))
        self.assertNotIsInstance(result[0], Failure)


class TimeTests(AskTestCase):
    """Timeout and cancellation."""

    def test_timeout(self) -> None:
        """The timeout counts from the first byte of the question to the last of the answer."""
        for sent in STAGES:
            asked, connection = self.asked_until(sent)
            self.reactor.advance(2.5)
            self.assertNoResult(asked)
            self.reactor.advance(0.5)

            self.assertNoAnswer(asked, "no answer within 3 s")
            self.assertTrue(connection is None or connection.transport.disconnecting)
            self.assertEqual([], self.reactor.getDelayedCalls())

    def test_timeout_slow_answer(self) -> None:
        """An answer byte by byte does not extend the timeout."""
        asked, connection = self.asked()
        for piece in (b"HTTP/1.1 200 OK\r\n", b"Content-Length: 3\r\n", b"\r\n{}"):
            self.assertNoResult(asked)
            connection.send(piece)
            self.reactor.advance(1)

        self.assertNoAnswer(asked, "no answer within 3 s")

    def test_cancelled(self) -> None:
        """Cancelling closes the connection at every stage, and leaves no timer."""
        for sent in STAGES:
            asked, connection = self.asked_until(sent)
            asked.cancel()

            self.failureResultOf(asked, CancelledError)
            self.assertTrue(connection is None or connection.transport.disconnecting)
            self.assertEqual([], self.reactor.getDelayedCalls())

    def test_cancelled_before_the_body(self) -> None:
        """Cancelling before the body has no connection to close."""
        body = _Body()
        body.received.cancel()

        self.failureResultOf(body.received, CancelledError)

    def test_no_timer_left(self) -> None:
        """No timer outlives an answer."""
        asked, connection = self.asked()
        connection.send(answer("200 OK", b"", "Connection: close"))

        self.assertAnswer(asked, 200, b"")
        self.assertEqual([], self.reactor.getDelayedCalls())


class QueueTests(AskTestCase):
    """At most so many questions at once."""

    def setUp(self) -> None:
        """Make a back end with two connections."""
        super().setUp()
        self.backend = Backend(URL, 3, 2, reactor=self.reactor)

    def accept_all(self) -> list[Connection]:
        """Accept all connections."""
        return [Connection(client[2]) for client in self.reactor.tcpClients]

    def test_connections(self) -> None:
        """The third question waits for a connection, and uses it again."""
        asked = [self.ask() for _ in range(3)]
        first, second = self.accept_all()
        self.assertEqual(2, len(self.reactor.tcpClients))
        first.send(answer("204 Yes"))
        self.assertAnswer(asked[0], 204, b"")
        first.send(answer("200 OK", b"{}"))

        self.assertAnswer(asked[2], 200, b"{}")
        self.assertNoResult(asked[1])
        second.send(answer("403 No"))
        self.assertAnswer(asked[1], 403, b"")
        self.assertEqual(2, len(self.reactor.tcpClients))

    def test_kept_connections(self) -> None:
        """All connections are kept, more than Twisted's two."""
        self.backend = Backend(URL, 3, 4, reactor=self.reactor)
        asked = [self.ask() for _ in range(3)]
        connections = self.accept_all()
        for connection in connections:
            connection.send(answer("200 OK"))
        asked += [self.ask() for _ in range(3)]
        for connection in connections:
            connection.send(answer("200 OK"))

        for each in asked:
            self.assertAnswer(each, 200, b"")

    def test_failures_give_back(self) -> None:
        """Each outcome makes place for the next question: refused, incomplete, timed out, cancelled."""
        asked = [self.ask() for _ in range(2)]
        self.reactor.tcpClients[0][2].clientConnectionFailed(None, Failure(ConnectError()))
        self.reactor.advance(1)
        self.failureResultOf(asked[0], NoAnswerError)
        asked[1].cancel()
        self.failureResultOf(asked[1], CancelledError)
        late = [self.ask() for _ in range(2)]
        self.assertEqual(4, len(self.reactor.tcpClients))
        Connection(self.reactor.tcpClients[2][2]).close()
        self.failureResultOf(late[0], NoAnswerError)
        self.reactor.advance(3)
        self.failureResultOf(late[1], NoAnswerError)
        self.ask()
        self.ask()
        self.ask()

        self.assertEqual(6, len(self.reactor.tcpClients))

    def test_waiting_timeout(self) -> None:
        """A question waits for half the timeout at most; the timeout includes the wait."""
        asked = [self.ask() for _ in range(4)]
        self.reactor.advance(1)
        asked[0].cancel()
        self.failureResultOf(asked[0], CancelledError)
        self.reactor.advance(0.5)
        self.assertNoAnswer(asked[3], "no free connection within 1.5 s")
        self.assertNoResult(asked[2])
        self.reactor.advance(1.5)

        for each in asked[1:3]:
            self.assertNoAnswer(each, "no answer within 3 s")
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_cancelled_while_waiting(self) -> None:
        """A client that leaves leaves the queue, and no timer."""
        running = [self.ask() for _ in range(2)]
        waiting = self.ask()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        for each in running:
            each.cancel()
            self.failureResultOf(each, CancelledError)

        self.assertEqual(2, len(self.reactor.tcpClients))
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_queue_full(self) -> None:
        """Beyond the queue a question fails at once."""
        asked = [self.ask() for _ in range(2 + 2 * WAITING_PER_CONNECTION)]
        refused = self.failureResultOf(self.ask(), BusyError).value

        self.assertEqual("32 questions wait, the maximum", str(refused))
        for each in asked:
            self.assertNoResult(each)

    def test_fair(self) -> None:
        """A network with many questions delays another by one; in a full queue it gives its last place up."""
        asked = [self.ask() for _ in range(2 + 2 * WAITING_PER_CONNECTION)]
        other = Deferred.fromCoroutine(self.backend.ask(b"{}", "other"))
        self.assertNoAnswer(asked.pop(), "32 questions wait, the maximum")
        connection, _ = self.accept_all()
        for each in (asked[0], asked[2], other):
            connection.send(answer("200 OK"))
            self.assertAnswer(each, 200, b"")

    def test_descriptors(self) -> None:
        """Two descriptors are reserved for each connection."""
        self.assertEqual(4, self.backend.descriptors)


class AgentTests(AskTestCase):
    """Agent and reactor."""

    def test_injected_agent(self) -> None:
        """A given agent is used."""
        used = MemoryReactorClock()
        self.backend = Backend(URL, 3, agent=Agent(used), reactor=self.reactor)
        self.ask()

        self.assertEqual((1, 0), (len(used.tcpClients), len(self.reactor.tcpClients)))

    def test_broken_agent(self) -> None:
        """Any exception of an agent becomes NoAnswerError, without its text."""
        broken = mock.Mock(spec=["request"])
        broken.request.side_effect = ZeroDivisionError("secret")
        self.backend = Backend(URL, 3, agent=broken, reactor=self.reactor)

        self.assertNoAnswer(self.ask(), "builtins.ZeroDivisionError")

    def test_global_reactor(self) -> None:
        """Without a reactor, the global one is used from the first question on."""
        self.backend = Backend(URL, 3)
        with mock.patch.object(twisted.internet, "reactor", self.reactor, create=True):
            self.ask()
        self.ask()

        self.assertEqual(2, len(self.reactor.tcpClients))

    def test_reactor_is_not_imported(self) -> None:
        """Neither the import nor the constructor imports the reactor."""
        program = (
            "import sys; from wsrelay.validators.backend import Backend;"
            " Backend('http://a.example', 3); print('twisted.internet.reactor' in sys.modules)"
        )
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

        self.assertEqual("False\n", run.stdout)
