"""Tests of wsrelay.admin.server: one request per connection, its deadlines, and the number of connections."""

from collections.abc import Callable

from twisted.logger import LogLevel

from tests.harness.admin import Connection, head, server, tls_transport
from tests.harness.support import MAX_REQUEST_BYTES, RelayTestCase
from wsrelay.admin.server import ANSWER_SECONDS, LINGER_SECONDS, MAX_CONNECTIONS
from wsrelay.errors import Denied
from wsrelay.http.exchange import Exchange
from wsrelay.http.fields import MAX_FIELDS
from wsrelay.request import HandshakeRequest


def echo(exchange: Exchange) -> None:
    """Answer with method and path."""
    exchange.respond(200, [], f"{exchange.request.method} {exchange.request.path}".encode())


class ServerTestCase(RelayTestCase):
    """A server that remembers its requests."""

    def setUp(self) -> None:
        super().setUp()
        self.exchanges: list[Exchange] = []
        self.answer: Callable[[Exchange], None] = echo
        self.server, self.clock = server(self.take)

    def take(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        self.answer(exchange)

    def connect(self) -> Connection:
        return Connection(self.server)

    def pending(self) -> Connection:
        """Return a connection whose request is not answered."""
        self.answer = lambda exchange: None
        connection = self.connect()
        connection.send(head("/first"))
        return connection

    def refused(self, data: bytes) -> tuple[int, str]:
        """Send bytes that are refused; return the status and the reason."""
        connection = self.connect()
        response = connection.send(data)
        self.assertTrue(connection.ended, data)
        self.assertEqual(self.exchanges, [])
        self.assertEqual(response.fields["connection"], "close")
        self.assertEqual(response.fields["x-content-type-options"], "nosniff")
        self.assertEqual(response.fields["cross-origin-resource-policy"], "same-origin")
        connection.hang_up()
        return response.status, response.text


class RequestTests(ServerTestCase):
    """One request."""

    def test_tls_records(self) -> None:
        """TLS records without data end the connection; records with data do not."""
        connection = self.connect()
        connection.connection.charge_records(100, 0)
        self.assertFalse(connection.ended)
        connection.connection.charge_records(0, 1)
        self.assertTrue(connection.transport.disconnected)
        connection.connection.refused_plain_http()  # TLS has answered, and ends TCP
        connection.hang_up()

    def test_escaped_path(self) -> None:
        """Routes see the path as it is written: a proxy in front may forbid one by that."""
        self.assertEqual(self.connect().send(head("/%64rain?a=%20", "POST")).text, "POST /%64rain")

    def test_methods(self) -> None:
        """A well-formed request is answered, and the connection ends."""
        for method in ("GET", "POST", "DELETE"):
            connection = self.connect()
            response = connection.send(head("/a?b=c", method))

            self.assertEqual((response.status, response.text), (200, f"{method} /a"))
            self.assertEqual(response.fields["connection"], "close")
            self.assertTrue(connection.ended)
            connection.hang_up()
        self.assertEqual((len(self.server.connections), self.clock.getDelayedCalls()), (0, []))

    def test_byte_by_byte(self) -> None:
        """A request may come in pieces, cut anywhere."""
        connection = self.connect()
        for byte in head()[:-1]:
            self.assertEqual(connection.send(bytes([byte])).status, 0)
        self.assertEqual(connection.send(b"\n").status, 200)

    def test_pipelining(self) -> None:
        """A second request on the same connection is not read."""
        self.pending().send(head("/second"))

        self.assertEqual([exchange.request.path for exchange in self.exchanges], ["/first"])

    def test_refusals(self) -> None:
        """Anything but one well-formed request without a body is refused with a reason."""
        for data, status in (
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
            (b"GET /\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (head(X_A="a\x0bX-User: admin"), 400),
            (head(X_A="a\nX-User: admin"), 400),
            (head() + head("/second"), 400),
            (head("http://other.example/"), 400),
            (head("ftp://localhost/"), 400),
            (head("*"), 400),
            (head(Host="\xe9"), 400),
            (head(Origin="a")[:-2] + b"Origin: a\r\n\r\n", 400),
            (head(method="PUT"), 405),
            (head(method="CONNECT"), 405),
            (b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n", 426),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 426),
            (head(method="POST", Content_Length="5") + b"hello", 413),
            (head(method="POST", Content_Length="5"), 413),
            (head(method="POST", Content_Length="-1"), 413),
            (head(method="POST", Transfer_Encoding="chunked") + b"0\r\n\r\n", 413),
            (b"GET /" + b"x" * MAX_REQUEST_BYTES, 414),
            (head(X_A="a" * MAX_REQUEST_BYTES), 431),
            (head(**{f"X{number}": "a" for number in range(MAX_FIELDS)}), 431),
        ):
            refused, reason = self.refused(data)
            self.assertEqual(refused, status, data)
            self.assertGreater(len(reason), 15)

    def test_refusals_of_head(self) -> None:
        """HEAD is refused with the same head as GET, and without content."""

        def check(request: HandshakeRequest) -> None:
            if request.path == "/gate":
                raise Denied(418, "no")

        self.server.check = check
        self.answer = lambda exchange: exchange.respond(1 // 0, [])
        for data in (head("/gate"), head("/bug"), head(X_A="a\x0b"), head("http://localhost/"), head()[:20], b"GET /"):
            answers = []
            for method in (b"GET", b"HEAD"):
                connection = self.connect()
                response = connection.send(data.replace(b"GET", method))
                if not response.status:
                    self.clock.advance(self.server.request_seconds)
                    response = connection.send(b"")
                answers.append(response)
            get, bare = answers
            self.assertEqual((bare.status, bare.fields, bare.text), (get.status, get.fields, ""), data)
            self.assertGreater(len(get.text), 0)
        self.flushLoggedErrors(ZeroDivisionError)

    def test_options(self) -> None:
        """OPTIONS is a 405, and no answer is for pages of other origins: a preflight fails."""
        fields = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        for method, status in (("OPTIONS", 405), ("GET", 200)):
            response = self.connect().send(head(method=method, **fields))
            self.assertEqual(response.status, status)
            self.assertNotIn("access-control-allow-origin", response.fields)

    def test_unusual_requests(self) -> None:
        """URLs as targets, bytes above 0x7f, repeated lists and an unread malformed query are served."""
        for data in (
            head("http://localhost/a"),
            head("HTTPS://localhost:443/a?b=c"),
            head("/a?q=%E9"),
            head("/a", Cookie="name=José"),
            head("/a", Cookie="a=b", cookie="c=d", Accept="text/html", ACCEPT="*/*"),
            head("/a", Cookie="a" * 9000),
        ):
            self.assertEqual(self.connect().send(data).text, "GET /a", data)
        self.assertEqual(self.connect().send(head("http://localhost")).text, "GET /")

    def test_check(self) -> None:
        """The gate may refuse a well-formed request."""

        def check(request: HandshakeRequest) -> None:
            raise Denied(418, f"no {request.method} of {request.path}")

        self.server.check = check
        self.assertEqual(self.refused(head("/a", "DELETE")), (418, "no DELETE of /a"))

    def test_failure(self) -> None:
        """An exception in an answer is a 500 with the id of its line in the log."""
        self.answer = lambda exchange: exchange.respond(1 // 0, [])
        response = self.connect().send(head())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

        self.assertEqual(response.status, 500)
        [line] = self.logged(LogLevel.critical)
        self.assertIn(response.text.removeprefix("internal error: "), line)

    def test_alpn(self) -> None:
        """ALPN over TLS agrees on HTTP/1.1."""
        self.assertEqual(self.server.acceptableProtocols(), [b"http/1.1"])


class DeadlineTests(ServerTestCase):
    """Deadlines of the request, of the answer, and of the end."""

    def test_request_deadline(self) -> None:
        """An incomplete request is a 408 after 10 s, however it dribbles in."""
        connection = self.connect()
        for byte in head()[:9]:
            connection.send(bytes([byte]))
            self.clock.advance(1)
        self.assertFalse(connection.ended)
        self.clock.advance(1)

        self.assertEqual(connection.response.status, 408)
        self.assertTrue(connection.ended)

    def test_linger(self) -> None:
        """A refused client's bytes are discarded for LINGER_SECONDS, so that it can read the reason; then TCP ends."""
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

    def test_linger_tls(self) -> None:
        """TLS has no halves: the connection is closed."""
        transport = tls_transport()
        Connection(self.server, transport).send(b"?")

        self.assertEqual((transport.half_closed, transport.disconnecting), (False, True))

    def test_half_closed(self) -> None:
        """A client that ends its half behind its request is answered, or refused; behind less, it has left."""
        waiting = self.pending()
        for connection, data in ((waiting, b""), (self.connect(), head(Host="a@b")), (self.connect(), head()[:-1])):
            connection.send(data)
            connection.connection.readConnectionLost()
            connection.connection.writeConnectionLost()
            self.assertEqual(connection.transport.disconnecting, connection is not waiting)
        self.exchanges[0].respond(200, [])
        self.assertTrue(waiting.transport.disconnecting)

    def test_answer_deadline(self) -> None:
        """A connection is aborted ANSWER_SECONDS after its request."""
        connection = self.pending()
        self.clock.advance(ANSWER_SECONDS)

        self.assertTrue(connection.transport.disconnected)


class ConnectionsTests(ServerTestCase):
    """The number of connections."""

    def test_max_connections(self) -> None:
        """The oldest silent connections get a 503 and are aborted for newer ones, which are answered."""
        connections = [self.connect() for _ in range(2 * MAX_CONNECTIONS + 1)]
        statuses = [connection.response.status for connection in connections]

        self.assertEqual(statuses, [503] * (MAX_CONNECTIONS + 1) + [0] * MAX_CONNECTIONS)
        self.assertEqual([one.transport.disconnected for one in connections], [True] + [False] * 2 * MAX_CONNECTIONS)
        self.assertEqual(len(self.server.connections), 2 * MAX_CONNECTIONS)
        self.assertEqual(connections[-1].send(head()).status, 200)
        self.assertEqual(self.connect().send(head()).status, 200)
        for connection in connections:
            connection.hang_up()
        self.assertEqual(len(self.server.waiting), 0)

    def test_max_connections_answered(self) -> None:
        """A connection whose answer takes its time is not aborted for silent ones."""
        pending = self.pending()
        for _ in range(4 * MAX_CONNECTIONS):
            self.connect()
        self.assertFalse(pending.transport.disconnected)
        self.exchanges[0].respond(200, [])
        self.assertEqual(pending.response.status, 200)

    def test_max_connections_one_turn(self) -> None:
        """Of a crowd in one turn, none of it closed yet, the newest is answered, and the number stays bounded."""
        crowd = [self.connect() for _ in range(10 * MAX_CONNECTIONS)]

        self.assertEqual(crowd[-1].send(head()).status, 200)
        self.assertEqual((len(self.server.connections), len(self.server.waiting)), (128, MAX_CONNECTIONS - 1))

    def test_max_connections_unanswered(self) -> None:
        """Complete requests that get no answer, or do not read it, are aborted for newer connections, oldest first."""
        unanswered = [self.pending() for _ in range(2 * MAX_CONNECTIONS)]
        self.answer = echo

        self.assertEqual(self.connect().send(head()).status, 200)
        self.assertEqual([one.transport.disconnected for one in unanswered[:2]], [True, False])

    def test_end(self) -> None:
        """The server ends all connections politely."""
        connection = self.connect()
        self.server.end()

        self.assertTrue(connection.transport.disconnecting)
