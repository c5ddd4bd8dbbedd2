"""Tests of wsrelay.validators.http."""

import json
from typing import Any
from unittest import mock

import twisted.internet
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.web.client import Agent

from tests.harness.support import request_bytes
from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.http.head import parse_head
from wsrelay.http.target import Query
from wsrelay.logs.limiter import LINES_PER_TICK, TICK_SECONDS
from wsrelay.settings import Settings
from wsrelay.validators.http import DEFAULT_TIMEOUT_SECONDS, HTTPValidator

from .back_end import URL, BackendTestCase, answer
from .support import GRANT, request

make = HTTPValidator.from_arguments


class HTTPTestCase(BackendTestCase):
    """A test case with a validator and its back end."""

    def setUp(self) -> None:
        """Make a validator, and record the log."""
        super().setUp()
        self.validator = HTTPValidator(URL, reactor=self.reactor)
        capture = capturedLogs()
        self.log = capture.__enter__()
        self.addCleanup(capture.__exit__, None, None, None)

    def ask(self, grant: Grant = GRANT, **overrides: Any) -> Deferred[Grant]:
        """Validate a request."""
        asked = Deferred.fromCoroutine(self.validator.validate(request(**overrides), grant))
        self.to_end(asked)
        return asked

    def asked(self, data: bytes, grant: Grant = GRANT, **overrides: Any) -> Deferred[Grant]:
        """Validate a request on a new connection, and answer the question."""
        self.validator = HTTPValidator(URL, reactor=self.reactor)
        asked = self.ask(grant, **overrides)
        self.accept().send(data)
        return asked

    def assertUndecided(self, asked: Deferred[Grant], problem: str) -> None:
        """Assert that a handshake is denied with 503, with the cause in the log."""
        denied = self.failureResultOf(asked, Denied).value

        self.assertEqual(
            (503, "the handshake could not be validated: try again later", (("Retry-After", "10"),)),
            (denied.status, denied.reason, denied.headers),
        )
        self.assertEqual([f"asking http://backend.example:8000/ask failed: {problem}"], self.logged())

    def logged(self) -> list[str]:
        """Return the validator's log lines."""
        return [event["log_format"].format(**event) for event in self.log if event["log_namespace"] == "wsrelay"]


class QuestionTests(HTTPTestCase):
    """Questions to the back end."""

    def test_bytes_above_ascii(self) -> None:
        """The low eight bits of each character of a field's value are the bytes that the client sent."""
        parsed = parse_head(request_bytes(fields={"Cookie": "name=Jos\xc3\xa9\x85"})[:-4], None)
        self.ask(headers=parsed.headers)

        sent = self.accept().take()[2]["headers"]["cookie"]
        self.assertEqual(bytes([ord(character) & 0xFF for character in sent]), b"name=Jos\xc3\xa9\x85")

    def test_malformed_query(self) -> None:
        """A query that cannot be passed on is refused with 400, without a question."""
        asked = self.ask(query=Query("q=caf%E9"))
        self.assertEqual(self.failureResultOf(asked, Denied).value.status, 400)

    def test_question(self) -> None:
        """The question has the request and the grant so far, as JSON."""
        self.ask(
            Grant("chat/42", "ann", "v1", can_publish=False, expires_at=2.5),
            query={"token": ("t", "u")},
            headers={"cookie": "a=b"},
            origin="https://app.example",
            subprotocols=("v1", "v2"),
            tls=object(),
        )
        question = self.accept().take()[2]

        self.assertEqual(
            {
                "path": "/chat/42",
                "room": "chat/42",
                "query": {"token": ["t", "u"]},
                "headers": {"cookie": "a=b"},
                "host": "relay.example",
                "origin": "https://app.example",
                "subprotocols": ["v1", "v2"],
                "peer": "192.0.2.1:50000",
                "tls": True,
                "grant": {
                    "room": "chat/42",
                    "identity": "ann",
                    "subprotocol": "v1",
                    "can_publish": False,
                    "can_subscribe": True,
                    "expires_at": 2.5,
                    "history": "all",
                },
            },
            question,
        )

    def test_question_absent_fields(self) -> None:
        """Absent fields are null or false."""
        self.ask()
        question = self.accept().take()[2]

        self.assertIsNone(question["origin"])
        self.assertIs(False, question["tls"])
        self.assertIsNone(question["grant"]["identity"])

    def test_question_peer(self) -> None:
        """IPv6 addresses are in brackets; a unix socket has no address."""
        for address, peer in (
            (IPv6Address("TCP", "2001:db8::1", 50000), "[2001:db8::1]:50000"),
            (UNIXAddress(None), "unix"),
        ):
            self.ask(peer=address)
            self.assertEqual(peer, self.accept().take()[2]["peer"])


class GrantTests(HTTPTestCase):
    """2xx answers."""

    def test_grant(self) -> None:
        """Every field of a grant may be given."""
        body = {
            "room": "lobby",
            "identity": "ann",
            "subprotocol": "v2",
            "can_publish": False,
            "can_subscribe": False,
            "expires_at": 2000000000,
            "history": "resume",
        }
        asked = self.asked(answer("201 Created", json.dumps(body).encode()), subprotocols=("v1", "v2"))

        self.assertEqual(Grant("lobby", "ann", "v2", False, False, 2000000000.0, "resume"), self.successResultOf(asked))

    def test_grant_unchanged(self) -> None:
        """An empty answer, an empty object and the sent grant change nothing."""
        grant = Grant("chat/42", "ann", can_publish=False, expires_at=2.5)
        sent = (
            b'{"room": "chat/42", "identity": "ann", "subprotocol": null,'
            b' "can_publish": false, "can_subscribe": true, "expires_at": 2.5, "history": "all"}'
        )
        for data in (b"HTTP/1.1 204 Yes\r\n\r\n", answer("200 OK"), answer("200 OK", b" {}\n"), answer("200 OK", sent)):
            self.assertEqual(grant, self.successResultOf(self.asked(data, grant)))

    def test_byte_order_mark(self) -> None:
        """A byte order mark in front of the JSON is read over (RFC 8259 section 8.1)."""
        asked = self.asked(answer("200 OK", b'\xef\xbb\xbf{"identity": "ann"}'))

        self.assertEqual("ann", self.successResultOf(asked).identity)

    def test_narrows_only(self) -> None:
        """Rights removed by an earlier validator stay removed."""
        grant = Grant("chat/42", can_publish=False, expires_at=2.5)
        asked = self.asked(answer("200 OK", b'{"can_publish": true, "expires_at": 3}'), grant)

        self.assertEqual(grant, self.successResultOf(asked))

    def test_invalid_grant(self) -> None:
        """An invalid grant denies."""
        for body in (
            b"yes",
            b"true",
            b"null",
            b"[]",
            b"\xff",
            b" ",
            b'{"can_publish": false',
            b'{"can_publish": false}{}',
            b'{"can_publish": null}',
            b'{"can_publish": "false"}',
            b'{"history": null}',
            b'{"history": "some"}',
            b'{"canPublish": false}',
            b'{"room": 1}',
            b'{"identity": "\xff"}',
            b'{"expires_at": "2030-01-01"}',
            b'{"expires_at": NaN}',
            b'{"expires_at": 1e999}',
            b"[" * 60000,
        ):
            self.log.clear()
            self.assertUndecided(self.asked(answer("200 OK", body)), "the answer is not a grant")

    def test_invalid_room(self) -> None:
        """An invalid room denies."""
        for room in ("", "/lobby", "a/../b", "a\nb", "x" * 256):
            self.log.clear()
            asked = self.asked(answer("200 OK", json.dumps({"room": room}).encode()))
            self.failureResultOf(asked, Denied)
            self.assertIn("failed: the answer's room is invalid: the room name", self.logged()[0])

    def test_invalid_identity(self) -> None:
        """An identity that is too long denies; one with a lone surrogate is no JSON."""
        asked = self.asked(answer("200 OK", json.dumps({"identity": "x" * 256}).encode()))
        self.assertUndecided(asked, "the answer's identity is invalid: the identity is longer than 255 bytes")
        self.log.clear()
        asked = self.asked(answer("200 OK", json.dumps({"identity": "a\ud800b"}).encode()))
        self.assertUndecided(asked, "the answer is not a grant")

    def test_invalid_subprotocol(self) -> None:
        """A subprotocol that was not offered, or carries a token, denies."""
        bearer = "base64url.bearer.YWJj"
        for name in ("v3", "", bearer):
            self.log.clear()
            asked = self.asked(
                answer("200 OK", json.dumps({"subprotocol": name}).encode()), subprotocols=("v1",), bearers=(bearer,)
            )
            self.assertUndecided(asked, "the answer's subprotocol was not offered")


class RefusalTests(HTTPTestCase):
    """4xx answers."""

    def test_4xx(self) -> None:
        """The status is passed on, the text is not."""
        for status in (400, 401, 403, 404, 429, 451, 499):
            asked = self.asked(answer(f"{status} Very\x07Bad", b"internal"))
            denied = self.failureResultOf(asked, Denied).value

            self.assertEqual(
                (status, "this connection is not allowed", ()), (denied.status, *denied.args[1:], denied.headers)
            )
        self.assertEqual([], self.logged())

    def test_challenge(self) -> None:
        """All WWW-Authenticate fields are passed on; no other header is."""
        data = answer("401 No", b"", 'WWW-Authenticate: Bearer realm="x"', "www-authenticate: Basic", "Set-Cookie: a=b")
        denied = self.failureResultOf(self.asked(data), Denied).value

        self.assertEqual((("WWW-Authenticate", 'Bearer realm="x"'), ("WWW-Authenticate", "Basic")), denied.headers)

    def test_unsafe_challenge(self) -> None:
        """A challenge with unsafe bytes is dropped."""
        for value in ("Bearer \x01", "Bearer \x7f", "Bearer \xe9", "Bearer a\x0bb", "Bearer " + "x" * 1024, ""):
            denied = self.failureResultOf(self.asked(answer("401 No", b"", f"WWW-Authenticate: {value}")), Denied).value

            self.assertEqual((401, ()), (denied.status, denied.headers), value)


class FailureTests(HTTPTestCase):
    """Failing back ends."""

    def test_other_statuses(self) -> None:
        """Every status but 2xx and 4xx denies with 503."""
        for status in (300, 304, 399, 500, 503, 599, 600, 999):
            self.log.clear()
            self.assertUndecided(self.asked(answer(f"{status} Hm", b"{}")), f"the answer's status is {status}")

    def test_redirect(self) -> None:
        """A redirect denies with 503."""
        asked = self.asked(answer("307 Elsewhere", b"", "Location: http://evil.example/"))

        self.assertUndecided(asked, "the answer's status is 307")

    def test_connection_refused(self) -> None:
        """A back end that does not listen denies with 503."""
        asked = self.ask()
        self.reactor.tcpClients[-1][2].clientConnectionFailed(None, Failure(ConnectError("secret")))
        self.reactor.advance(1)

        self.assertUndecided(asked, "twisted.internet.error.ConnectError")

    def test_incomplete_answer(self) -> None:
        """An incomplete grant denies with 503."""
        asked = self.ask()
        connection = self.accept()
        connection.send(b'HTTP/1.0 200 OK\r\n\r\n{"can_publish": fal')
        connection.close()

        self.assertUndecided(asked, "the answer is not a grant")

    def test_timeout(self) -> None:
        """The default timeout is 3 seconds, less than --validate-seconds."""
        asked = self.ask()
        self.reactor.advance(2.5)
        self.assertNoResult(asked)
        self.reactor.advance(0.5)

        self.assertUndecided(asked, "no answer within 3 s")
        self.assertLess(DEFAULT_TIMEOUT_SECONDS, Settings().validate_seconds)

    def test_cancelled(self) -> None:
        """When the client leaves, its question is cancelled without a log line."""
        asked = self.ask()
        connection = self.accept()
        asked.cancel()

        self.failureResultOf(asked, CancelledError)
        self.assertTrue(connection.transport.disconnecting)
        self.assertEqual([], self.logged())

    def test_busy(self) -> None:
        """Too many questions that wait deny with 503, with a cause of its own."""
        self.validator = HTTPValidator(URL, connections=1, reactor=self.reactor)
        for _ in range(17):
            self.ask()
        asked = self.ask()
        denied = self.failureResultOf(asked, Denied).value

        self.assertEqual(((503, "http_busy")), (denied.status, denied.cause))
        problem = "16 questions wait, the maximum"
        self.assertEqual([f"asking http://backend.example:8000/ask failed: {problem}"], self.logged())

    def test_networks_take_turns(self) -> None:
        """An IPv4 address and an IPv6 /48 are one network each; the next one has the next turn."""
        for one, same, other in (
            (IPv4Address("TCP", "192.0.2.1", 1), IPv4Address("TCP", "192.0.2.1", 2), UNIXAddress(None)),
            (IPv6Address("TCP", "2001:db8::1", 1), IPv6Address("TCP", "2001:db8:0:f::2", 1), UNIXAddress(None)),
            (IPv6Address("TCP", "::ffff:1.2.3.4", 1), IPv4Address("TCP", "1.2.3.4", 1), UNIXAddress(None)),
            (UNIXAddress(None), UNIXAddress(None), IPv6Address("TCP", "::ffff:1.2.3.4", 1)),
        ):
            self.validator = HTTPValidator(URL, connections=1, reactor=self.reactor)
            asked = [self.ask(peer=peer) for peer in (one, one, same, other)]
            connection = self.accept()
            for index in (0, 1, 3, 2):
                connection.send(answer("200 OK"))
                self.successResultOf(asked[index])

    def test_log_rate_limited(self) -> None:
        """The first problems of a kind per half second are logged, the rest is counted; no timer stays."""
        line = "asking http://backend.example:8000/ask failed"
        for _ in range(2):
            self.log.clear()
            for _ in range(LINES_PER_TICK + 5):
                self.failureResultOf(self.asked_again(answer("500 No")), Denied)
            self.failureResultOf(self.asked_again(answer("302 No")), Denied)
            status = "the answer's status is"
            said = [*[f"{line}: {status} 500"] * LINES_PER_TICK, f"{line}: {status} 302"]
            self.assertEqual(said, self.logged())
            self.reactor.advance(TICK_SECONDS)
            self.assertEqual([*said, f"{line} 5 more times: {status} 500"], self.logged())
        self.reactor.advance(10)
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_log_rate_limited_over_time(self) -> None:
        """Problems that come one by one pass no faster: there is one tick per half second."""
        for _ in range(4 * LINES_PER_TICK):
            self.failureResultOf(self.asked_again(answer("500 No")), Denied)
            self.reactor.advance(TICK_SECONDS / 2 / LINES_PER_TICK)
        self.reactor.advance(TICK_SECONDS)

        self.assertEqual(2 * LINES_PER_TICK, len([line for line in self.logged() if "more times" not in line]))

    def asked_again(self, data: bytes) -> Deferred[Grant]:
        """Validate a request on a connection that ends, and answer the question."""
        asked = self.ask()
        self.accept().send(data.replace(b"Content", b"Connection: close\r\nContent"))
        return asked

    def test_secrets(self) -> None:
        """Query, headers and body are never logged."""
        self.asked(
            answer("500 No", b"secret"), query={"t": ("secret",)}, headers={"authorization": "secret"}
        ).addErrback(lambda _: None)

        self.assertNotIn("secret", "".join(self.logged()))


class ValidatorTests(HTTPTestCase):
    """Interface and construction."""

    def test_interface(self) -> None:
        """It provides IHandshakeValidator."""
        self.assertValidator(self.validator)

    def test_agent(self) -> None:
        """A given agent is used."""
        used = MemoryReactorClock()
        self.validator = HTTPValidator(URL, agent=Agent(used), reactor=self.reactor)
        self.ask()

        self.assertEqual((1, 0), (len(used.tcpClients), len(self.reactor.tcpClients)))


class ArgumentTests(HTTPTestCase):
    """Arguments of ``http:``."""

    def test_url(self) -> None:
        """A URL is used as it is; commas are escaped."""
        for text, host, line in (
            (r"http://a.example/x?a=1\,2&timeout=9", "a.example", "POST /x?a=1,2&timeout=9 HTTP/1.1"),
            ("http://a.example:8000,timeout=0.5", "a.example:8000", "POST / HTTP/1.1"),
            ("http://[::1]:8000/@", "[::1]:8000", "POST /@ HTTP/1.1"),
        ):
            self.validator = make(text)
            with mock.patch.object(twisted.internet, "reactor", self.reactor, create=True):
                self.ask()
            asked_line, headers, _ = self.accept().take()
            self.assertEqual((line, host), (asked_line, headers["host"]))
        make("https://a.example/x")

    def test_wrong_url(self) -> None:
        """Exactly one http or https URL is required."""
        for text in (
            "",
            "timeout=5",
            "a.example",
            "ftp://a.example",
            "http://",
            "http:///x",
            "http://:80",
            "http://a.example:0",
            "http://a.example:65536",
            "http://a.example:x",
            "http://[::1",
            "http://user:pass@a.example",
            "http://a.example/#x",
            "http://a.example/a b",
            "http://caf\u00e9.example",
            "http://a.example\n/",
            "http://a.example,http://b.example",
            "http://a.example,timeuot=5",
        ):
            self.assertWrong(make, text, "write one URL")

    def test_timeout_argument(self) -> None:
        """The timeout is a number of seconds above 0 and at most 300."""
        self.validator = make("http://a.example,timeout=0.5")
        with mock.patch.object(twisted.internet, "reactor", self.reactor, create=True):
            asked = self.ask()
        self.reactor.advance(0.5)
        self.failureResultOf(asked, Denied)

        for value in ("0", "-1", "301", "inf", "nan", "soon"):
            problem = f"timeout= must be seconds above 0 and up to 300, not {value!r}"
            self.assertWrong(make, f"http://a.example,timeout={value}", problem)
        self.assertWrong(make, "http://a.example,timeout=1,timeout=2", "timeout= may be given once")

    def test_connections_argument(self) -> None:
        """The number of connections is a whole number from 1 to 1024; their descriptors are reserved."""
        self.assertEqual(make("http://a.example").descriptors, 128)
        self.assertEqual(make("http://a.example,connections=1024").descriptors, 2048)
        for value in ("0", "-1", "1025", "1.5", "many", "\u0661"):
            problem = f"connections= must be a whole number from 1 to 1024, not {value!r}"
            self.assertWrong(make, f"http://a.example,connections={value}", problem)


class GarbageTests(HTTPTestCase):
    """Answers of any bytes."""

    @given(st.binary() | st.binary().map(lambda body: answer("200 OK", body)))
    def test_garbage_answers(self, data: bytes) -> None:
        """Any bytes give a denial, or the unchanged grant."""
        asked = self.ask()
        connection = self.accept()
        connection.send(data)
        connection.close()
        self.reactor.advance(3)

        result: list[Any] = []
        asked.addErrback(lambda failure: failure.trap(Denied) and failure.value).addBoth(result.append)
        self.assertEqual(1, len(result))
        self.assertTrue(result[0] == GRANT or result[0].status in range(400, 600), result)
