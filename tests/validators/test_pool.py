"""Tests of wsrelay.validators.pool: kept connections, and the second try."""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import INegotiated
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.web._newclient import Request, RequestNotSent
from twisted.web.client import Agent, HTTPConnectionPool, ResponseNeverReceived
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse
from zope.interface import implementer

from wsrelay.validators.backend import Backend, NoAnswerError
from wsrelay.validators.pool import IDLE_SECONDS, Pool

from .back_end import URL, BackendTestCase, Connection, answer

Asked = Deferred[tuple[IResponse, bytes]]


class PoolTests(BackendTestCase):
    """Questions on kept connections."""

    def setUp(self) -> None:
        """Make a back end."""
        super().setUp()
        self.backend = Backend(URL, 3, reactor=self.reactor)

    def ask(self) -> Asked:
        """Ask a question."""
        return Deferred.fromCoroutine(self.backend.ask(b"{}"))

    def kept(self) -> Connection:
        """Return a connection that has had an answer."""
        asked = self.ask()
        connection = self.accept()
        connection.send(answer("200 OK"))
        self.successResultOf(asked)
        connection.transport.clear()
        return connection

    def test_kept_connection_ended(self) -> None:
        """If a kept connection ends without a byte of an answer, the same question is asked on a new one."""
        connection = self.kept()
        asked = self.ask()
        sent = connection.transport.value()
        connection.close()
        self.assertNoResult(asked)
        fresh = self.accept()

        self.assertEqual(len(self.reactor.tcpClients), 2)
        self.assertEqual(fresh.transport.value(), sent)
        fresh.send(answer("200 OK", b"{}"))
        self.assertEqual(self.successResultOf(asked)[1], b"{}")
        self.reactor.advance(IDLE_SECONDS)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_one_retry(self) -> None:
        """The question is asked twice at most."""
        connection = self.kept()
        asked = self.ask()
        connection.close()
        self.accept().close()

        self.assertEqual(len(self.reactor.tcpClients), 2)
        self.failureResultOf(asked, NoAnswerError)

    def test_new_connection_ended(self) -> None:
        """If a new connection ends without an answer, there is no second question."""
        asked = self.ask()
        self.accept().close()

        self.assertEqual(len(self.reactor.tcpClients), 1)
        self.failureResultOf(asked, NoAnswerError)

    def test_answer_begun(self) -> None:
        """After one byte of an answer there is no second question."""
        connection = self.kept()
        asked = self.ask()
        connection.send(b"H")
        connection.close()

        self.assertEqual(len(self.reactor.tcpClients), 1)
        self.failureResultOf(asked, NoAnswerError)

    def test_timeout_over_both(self) -> None:
        """The timeout counts from the first question."""
        connection = self.kept()
        asked = self.ask()
        self.reactor.advance(2)
        connection.close()
        fresh = self.accept()
        self.reactor.advance(1)

        self.assertEqual(str(self.failureResultOf(asked, NoAnswerError).value), "no answer within 3 s")
        self.assertTrue(fresh.transport.disconnecting)

    def test_cancelled(self) -> None:
        """A cancelled question is not asked again."""
        self.kept()
        asked = self.ask()
        asked.cancel()

        self.failureResultOf(asked)
        self.assertEqual(len(self.reactor.tcpClients), 1)

    def test_ended_while_idle(self) -> None:
        """A kept connection that has ended is not used."""
        self.kept().close()
        asked = self.ask()
        self.accept().send(answer("200 OK"))

        self.successResultOf(asked)

    def test_request_behind_the_end(self) -> None:
        """A connection that has ended sends nothing."""
        connection = self.kept()
        connection.close()
        request = Request(b"POST", b"/", Headers(), None)

        self.failureResultOf(connection.protocol._wrappedProtocol.request(request), RequestNotSent)
        self.assertEqual(connection.transport.value(), b"")

    def test_idle_connections_end(self) -> None:
        """An idle connection ends after IDLE_SECONDS."""
        connection = self.kept()
        self.reactor.advance(IDLE_SECONDS - 1)
        self.assertFalse(connection.transport.disconnecting)
        self.reactor.advance(1)

        self.assertTrue(connection.transport.disconnecting)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_tls_is_aborted(self) -> None:
        """A TLS connection ends without waiting for the back end's close_notify."""
        asked = self.ask()
        transport = _TLSTransport()
        protocol = self.reactor.tcpClients[-1][2].buildProtocol(None)
        protocol.makeConnection(transport)
        protocol.dataReceived(answer("200 OK", b"", "Connection: close"))

        self.successResultOf(asked)
        self.assertTrue(transport.is_aborted)

    def test_silent(self) -> None:
        """Connections cause no log line of Twisted's client."""
        events: list[object] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.kept()
        factory = self.reactor.tcpClients[-1][2]
        factory.doStart()
        factory.doStop()

        self.assertEqual(events, [])

    def test_interim_answers(self) -> None:
        """Interim answers (1xx) are ignored without a log line, on a new and on a kept connection."""
        events: list[object] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        asked = self.ask()
        connection = self.accept()
        for _ in range(2):
            connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer("200 OK", b"{}"))
            self.assertEqual(self.successResultOf(asked)[1], b"{}")
            asked = self.ask()
        asked.cancel()

        self.failureResultOf(asked)
        self.assertEqual(events, [])


class TwistedTests(BackendTestCase):
    """Twisted's own pool (TRAPS 105)."""

    def test_twisted_does_not_retry_post(self) -> None:
        """It does not repeat a request with a body."""
        agent = Agent(self.reactor, pool=HTTPConnectionPool(self.reactor))
        backend = Backend(URL, 3, agent=agent, reactor=self.reactor)
        first = Deferred.fromCoroutine(backend.ask(b"{}"))
        connection = self.accept()
        connection.send(answer("200 OK"))
        self.successResultOf(first)
        second = Deferred.fromCoroutine(backend.ask(b"{}"))
        connection.close()

        self.assertIn(ResponseNeverReceived.__name__, str(self.failureResultOf(second, NoAnswerError).value))

    def test_other_connections(self) -> None:
        """A connection of another class passes through a pool."""
        pool = Pool(self.reactor, 1)
        endpoint = _Endpoint()

        self.assertIs(self.successResultOf(pool.getConnection("key", endpoint)), endpoint)


@implementer(INegotiated)
class _TLSTransport(StringTransport):
    is_aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing."""

    def abortConnection(self) -> None:
        """Note it."""
        self.is_aborted = True


class _Endpoint:
    def connect(self, _: object) -> "Deferred[object]":
        """Return itself as a connection."""
        connected: Deferred[object] = Deferred()
        connected.callback(self)
        return connected
