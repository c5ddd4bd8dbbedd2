"""Tests of wsrelay.admin.gate: which requests twisted.web gets to see."""

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import ISSLTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import directlyProvides

from tests.harness.admin import Connection, Transport, head, site
from wsrelay.admin.gate import ANSWER_SECONDS, LINGER_SECONDS, MAX_CONNECTIONS, Guard, is_local
from wsrelay.errors import Denied
from wsrelay.http.head import MAX_HEAD_BYTES, parse_head
from wsrelay.request import HandshakeRequest


class Echo(Resource):
    """Says what it was asked; remembers the requests."""

    isLeaf = True

    def __init__(self, answer: Any = None) -> None:
        super().__init__()
        self.requests: list[Any] = []
        self.answer = answer

    def render(self, request: Any) -> Any:
        self.requests.append(request)
        return self.answer or request.method + b" " + request.uri


class GateTestCase(SynchronousTestCase):
    """A site."""

    def setUp(self) -> None:
        self.echo = Echo()
        self.site, self.clock = site(self.echo)

    def connect(self) -> Connection:
        return Connection(self.site)

    def refused(self, data: bytes) -> tuple[int, str]:
        """Send bytes that are refused, and return how."""
        connection = self.connect()
        response = connection.send(data)
        self.assertTrue(connection.ended, data)
        self.assertEqual(self.echo.requests, [])
        self.assertEqual(response.fields["connection"], "close")
        self.assertEqual(response.fields["x-content-type-options"], "nosniff")
        connection.hang_up()
        return response.status, response.text


class RequestTests(GateTestCase):
    """One request."""

    def test_answered(self) -> None:
        """A right request is answered, and that is the end."""
        for method in ("GET", "POST", "DELETE"):
            connection = self.connect()
            response = connection.send(head("/a?b=c", method))

            self.assertEqual((response.status, response.text), (200, f"{method} /a?b=c"))
            self.assertEqual(response.fields["connection"], "close")
            self.assertTrue(connection.ended)
            connection.hang_up()
        self.assertEqual((self.site.channels, self.clock.getDelayedCalls()), (set(), []))

    def test_byte_by_byte(self) -> None:
        """However it is cut."""
        connection = self.connect()
        for byte in head()[:-1]:
            self.assertEqual(connection.send(bytes([byte])).status, 0)
        self.assertEqual(connection.send(b"\n").status, 200)

    def test_one_each(self) -> None:
        """What comes behind the request is not read."""
        self.echo.answer = NOT_DONE_YET
        connection = self.connect()
        connection.send(head("/first"))
        connection.send(head("/second"))

        self.assertEqual([request.uri for request in self.echo.requests], [b"/first"])

    def test_refused(self) -> None:
        """Whatever is not one well-formed request without a body is refused, with what to do."""
        for data, status in (
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
            (b"GET /\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (head(X_A="a\x0bX-User: admin"), 400),
            (head(X_A="a\nX-User: admin"), 400),
            (head() + head("/second"), 400),
            (head("http://localhost/"), 400),
            (head(method="PUT"), 405),
            (head(method="CONNECT"), 405),
            (b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n", 426),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 426),
            (head(method="POST", Content_Length="5") + b"hello", 413),
            (head(method="POST", Content_Length="5"), 413),
            (head(method="POST", Content_Length="-1"), 413),
            (head(method="POST", Transfer_Encoding="chunked") + b"0\r\n\r\n", 413),
            (b"GET /" + b"x" * MAX_HEAD_BYTES, 414),
            (head(X_A="a" * MAX_HEAD_BYTES), 431),
            (head(**{f"X{number}": "a" for number in range(100)}), 431),
        ):
            refused, reason = self.refused(data)
            self.assertEqual(refused, status, data)
            self.assertGreater(len(reason), 15)

    def test_checked(self) -> None:
        """What is well-formed can be refused still."""

        def check(request: Any) -> None:
            raise Denied(418, f"no {request.method} of {request.path}")

        self.site.check = check
        self.assertEqual(self.refused(head("/a", "DELETE")), (418, "no DELETE of /a"))


class DeadlineTests(GateTestCase):
    """How long it may take."""

    def test_silent(self) -> None:
        """The whole request comes in time, however it dribbles in, or is told that it did not."""
        connection = self.connect()
        for byte in head()[:9]:
            connection.send(bytes([byte]))
            self.clock.advance(1)
        self.assertFalse(connection.ended)
        self.clock.advance(1)

        self.assertEqual(connection.response.status, 408)
        self.assertTrue(connection.ended)

    def test_lingers(self) -> None:
        """What a refused client still sends is thrown away for a while, so that it can read why; then it is ended."""
        connection = self.connect()
        connection.send(head(method="POST", Content_Length="99"))
        self.assertEqual((connection.transport.half_closed, connection.transport.disconnecting), (True, False))
        connection.send(b"x" * 99)
        self.clock.advance(LINGER_SECONDS - 0.1)
        self.assertFalse(connection.transport.disconnected)
        self.clock.advance(0.1)

        self.assertTrue(connection.transport.disconnected)
        connection.hang_up()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_tls(self) -> None:
        """TLS has no halves: it is closed."""
        transport = Transport()
        directlyProvides(transport, ISSLTransport)
        Connection(self.site, transport).send(b"?")

        self.assertEqual((transport.half_closed, transport.disconnecting), (False, True))

    def test_unread(self) -> None:
        """A client that does not read its answer is ended."""
        self.echo.answer = NOT_DONE_YET
        connection = self.connect()
        connection.send(head())
        self.clock.advance(ANSWER_SECONDS)

        self.assertTrue(connection.transport.disconnected)


class ManyTests(GateTestCase):
    """How many there may be."""

    def test_too_many(self) -> None:
        """One too many is told; when there are many of those, they are just ended. Who goes makes room."""
        connections = [self.connect() for _ in range(2 * MAX_CONNECTIONS + 1)]
        statuses = [connection.response.status for connection in connections]

        self.assertEqual(statuses, [0] * MAX_CONNECTIONS + [503] * MAX_CONNECTIONS + [0])
        self.assertTrue(connections[-1].transport.disconnected)
        for connection in connections[1:]:
            connection.hang_up()
        self.assertEqual(self.connect().send(head()).status, 200)
        self.assertEqual(connections[0].send(head()).status, 200)

    def test_end(self) -> None:
        """All can be ended, with what they have been sent."""
        connection = self.connect()
        self.site.end()

        self.assertTrue(connection.transport.disconnecting)


class SiteTests(GateTestCase):
    """What a Site of Twisted's does otherwise."""

    def test_quiet(self) -> None:
        """It writes no access log, and keeps no clock for one."""
        self.site.doStart()
        self.site.doStop()
        connection = self.connect()
        connection.send(head())
        connection.hang_up()

        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_http2(self) -> None:
        """Over TLS it agrees on HTTP/1.1, whose parser is behind the gate."""
        self.assertEqual(self.site.acceptableProtocols(), [b"http/1.1"])


METHODS = ("GET", "HEAD", "POST", "DELETE")


def request(method: str = "GET", **fields: str) -> HandshakeRequest:
    """Return a request."""
    return parse_head(head("/", method, **fields)[:-4], None, None, METHODS)


class HostTests(SynchronousTestCase):
    """DNS rebinding."""

    def setUp(self) -> None:
        self.guard = Guard()

    def test_own_names(self) -> None:
        """This machine's own names pass, whatever the port."""
        for host in ("localhost", "LOCALHOST:9100", "127.0.0.1:1", "127.1.2.3", "[::1]:9100", "[::1]"):
            self.guard.check(request(Host=host))

    def test_strange_names(self) -> None:
        """Any other name is refused: its owner may have pointed it here, to have a browser ask."""
        for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[2001:db8::1]"):
            denied = self.assertRaises(Denied, self.guard.check, request(Host=host))
            self.assertEqual(denied.status, 421, host)

    def test_beyond_loopback(self) -> None:
        """Where it listens for others, they know it by names that nobody has told it."""
        self.guard.is_local = False
        self.guard.check(request(Host="admin.example"))


class OriginTests(SynchronousTestCase):
    """Requests that somebody else's page makes a browser send."""

    def test_own_page(self) -> None:
        """The status page, a program and somebody at the address bar may change things."""
        for fields in (
            {},
            {"Origin": "http://localhost"},
            {"Sec_Fetch_Site": "same-origin"},
            {"Sec_Fetch_Site": "none"},
        ):
            Guard().check(request("POST", **fields))
        Guard().check(request("DELETE", Host="LocalHost:9100", Origin="http://localhost:9100"))

    def test_strange_pages(self) -> None:
        """Other sites may not, wherever they are; looking is theirs, but they never see the answer."""
        for fields in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://localhost:8000"},
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site"},
        ):
            for method in ("POST", "DELETE"):
                self.assertEqual(self.assertRaises(Denied, Guard().check, request(method, **fields)).status, 403)
            for method in ("GET", "HEAD"):
                Guard().check(request(method, **fields))

    def test_beyond_loopback(self) -> None:
        """Nor may they where it listens for others."""
        guard = Guard()
        guard.is_local = False
        strange = request("POST", Host="admin.example", Origin="https://evil.example")
        self.assertEqual(self.assertRaises(Denied, guard.check, strange).status, 403)


class AddressTests(SynchronousTestCase):
    """What other machines can reach."""

    def test_addresses(self) -> None:
        """Loopback and unix sockets are this machine's own."""
        for address, local in (
            (IPv4Address("TCP", "127.0.0.1", 1), True),
            (IPv4Address("TCP", "127.9.9.9", 1), True),
            (IPv6Address("TCP", "::1", 1), True),
            (UNIXAddress(b"/run/admin"), True),
            (IPv4Address("TCP", "0.0.0.0", 1), False),
            (IPv6Address("TCP", "::", 1), False),
            (IPv4Address("TCP", "192.0.2.1", 1), False),
        ):
            self.assertEqual(is_local(address), local, address)
