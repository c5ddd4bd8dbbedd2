"""Tests of wsrelay.admin.routes: from a request to a view, and back."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel

from tests.harness.admin import Connection, Response, head, server
from tests.harness.support import RelayTestCase
from wsrelay.admin.routes import Answer, Asked, Routes, as_json
from wsrelay.errors import Denied


class RoutesTests(RelayTestCase):
    """Routes behind a server."""

    def setUp(self) -> None:
        super().setUp()
        self.later: Deferred[Answer] = Deferred()
        self.asked: list[Any] = []
        self.server, self.clock = server(
            Routes(
                [
                    ("/", {"GET": self.view, "DELETE": lambda asked: Answer(status=204)}),
                    (r"/things/(\d+)", {"GET": self.view}),
                    ("/act", {"POST": lambda asked: as_json({"done": True}, 202, [("X-A", "b")])}),
                    ("/later", {"GET": lambda asked: self.later}),
                    ("/broken", {"GET": self.fail_at_it}),
                    ("/denied", {"GET": self.deny}),
                ]
            ).answer
        )

    def view(self, asked: Asked, *found: str) -> Answer:
        self.asked.append((asked, found))
        return Answer(b"text\n")

    def fail_at_it(self, asked: Asked) -> Answer:
        raise IndexError(asked.accept)

    def deny(self, asked: Asked) -> Answer:
        raise Denied(418, "short and stout", [("X-Pot", "tea")])

    def ask(self, target: str, method: str = "GET", **fields: str) -> Response:
        self.connection = Connection(self.server)
        return self.connection.send(head(target, method, **fields))

    def test_found(self) -> None:
        """A view gets the query, the Accept field, and the groups of its path."""
        response = self.ask("/things/42?a=b%20c&d=%C3%A9&e=", Accept="x/y")

        self.assertEqual((response.status, response.text), (200, "text"))
        [(asked, groups)] = self.asked
        self.assertEqual((asked.parameters(), asked.accept, groups), ({"a": "b c", "d": "é", "e": ""}, "x/y", ("42",)))

    def test_query_unread(self) -> None:
        """A malformed query is a 400 only where a view reads it; so is a repeated parameter."""
        for query in ("%E9", "a=1&a=2"):
            self.assertEqual(self.ask(f"/things/42?{query}").status, 200)
            self.assertRaises(Denied, self.asked[-1][0].parameters)

    def test_safe_fields(self) -> None:
        """Every answer has the security fields, and no version."""
        for target in ("/", "/denied", "/nowhere"):
            fields = self.ask(target).fields
            self.assertEqual(fields["server"], "wsrelay")
            self.assertEqual((fields["cache-control"], fields["x-content-type-options"]), ("no-store", "nosniff"))
            self.assertIn("default-src 'none'; frame-ancestors 'none'", fields["content-security-policy"])
            self.assertEqual(fields["cross-origin-resource-policy"], "same-origin")

    def test_head(self) -> None:
        """HEAD is GET without its body."""
        response = self.ask("/", "HEAD")

        self.assertEqual((response.status, response.fields["content-length"], response.body), (200, "5", b""))

    def test_no_content(self) -> None:
        """A 204 has no length (RFC 9110 section 8.6)."""
        response = self.ask("/", "DELETE")

        self.assertEqual((response.status, response.body), (204, b""))
        self.assertNotIn("content-length", response.fields)
        self.assertNotIn("transfer-encoding", response.fields)

    def test_json(self) -> None:
        """JSON has its content type; a view may set the status and fields."""
        response = self.ask("/act", "POST")

        self.assertEqual((response.status, response.json, response.fields["x-a"]), (202, {"done": True}, "b"))

    def test_wrong_methods(self) -> None:
        """A wrong method is a 405; Allow names the right ones."""
        for target, method, allowed in (("/act", "GET", "POST"), ("/", "POST", "GET, DELETE, HEAD")):
            response = self.ask(target, method)
            self.assertEqual((response.status, response.fields["allow"]), (405, allowed))

    def test_not_found(self) -> None:
        """Any other path is a 404 that lists the paths."""
        for target in ("/nowhere", "/things/x", "/things", "/%2e%2e"[:4] + "x", "/caf%C3%A9"):
            response = self.ask(target)
            self.assertEqual(response.status, 404, target)
            self.assertIn("/healthz", response.json["error"])

    def test_denied(self) -> None:
        """A view may raise Denied: the answer is JSON."""
        response = self.ask("/denied")

        self.assertEqual((response.status, response.json), (418, {"error": "short and stout"}))
        self.assertEqual(response.fields["x-pot"], "tea")

    def test_deferred(self) -> None:
        """A view may answer by a Deferred."""
        self.assertEqual(self.ask("/later").status, 0)
        self.later.callback(Answer(b"now"))

        self.assertEqual(self.connection.response.text, "now")

    def test_lost(self) -> None:
        """An answer after the end of TCP goes nowhere."""
        self.ask("/later")
        self.connection.hang_up()
        self.later.callback(Answer(b"now"))

        self.assertEqual(self.connection.response.status, 0)

    def test_failure(self) -> None:
        """An exception is a 500 with the id of its line in the log, without a traceback."""
        response = self.ask("/broken")
        self.assertEqual(len(self.flushLoggedErrors(IndexError)), 1)

        self.assertEqual(response.status, 500)
        [line] = self.logged(LogLevel.critical)
        self.assertRegex(line, r"the admin endpoint failed \[[0-9a-f]{8}\]")
        self.assertIn(response.json["error"].rpartition(" ")[2], line)
        self.assertNotIn("Traceback", response.text)
