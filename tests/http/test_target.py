"""Tests of wsrelay.http.target: paths, URLs as targets, and queries that are parsed when they are read."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.errors import Denied
from wsrelay.http.target import MAX_QUERY_FIELDS, NO_QUERY, Query, origin_form


class OriginFormTests(SynchronousTestCase):
    """Forms of a request target (RFC 9112 section 3.2)."""

    def refused(self, target: str, host: str = "relay.example") -> str:
        """Return the reason of the refusal of a target."""
        denied = self.assertRaises(Denied, origin_form, target, host)
        self.assertEqual(denied.status, 400, target)
        return denied.reason

    def test_path(self) -> None:
        """A path is unchanged, whatever it looks like."""
        for target in ("/", "/a?b", "//a", "/http://other.example/"):
            self.assertEqual(origin_form(target, "relay.example"), target)

    def test_url(self) -> None:
        """A URL of HTTP or WebSocket is its path and query; without a path it is the root."""
        for scheme in ("http", "https", "ws", "wss", "WS", "Http"):
            for rest, path in (
                *(
                    ("/room", "/room"),
                    ("/a%2Fb/?c=d?e", "/a%2Fb/?c=d?e"),
                    ("", "/"),
                    ("?a=/b", "/?a=/b"),
                    ("//a", "//a"),
                ),
                ("/http://relay.example/", "/http://relay.example/"),
            ):
                self.assertEqual(origin_form(f"{scheme}://relay.example{rest}", "relay.example"), path)

    def test_same_host(self) -> None:
        """The URL's host is the Host's, in any case; an absent port is the scheme's default."""
        for authority, host in (
            *(("Relay.Example", "relay.example"), ("relay.example:80", "relay.example"), ("[::1]:8080", "[::1]:8080")),
            ("relay.example", "relay.example:80"),
        ):
            self.assertEqual(origin_form(f"ws://{authority}/a", host), "/a")
        self.assertEqual(origin_form("wss://relay.example:443/a", "relay.example"), "/a")

    def test_other_host(self) -> None:
        """Two hosts in one request are refused: a proxy may have checked the other one."""
        for target, host in (
            *(("ws://other.example/", "relay.example"), ("ws://relay.example:8080/", "relay.example")),
            *(("wss://relay.example:80/", "relay.example"), ("ws://relay.example/", "relay.example:443")),
            *(("ws://relay.example./", "relay.example"), ("ws://127.0.0.1/", "localhost")),
        ):
            self.assertEqual(self.refused(target, host), "the request target and the Host field name different hosts")

    def test_malformed_host(self) -> None:
        """A URL has a host, and no user (RFC 9110 sections 4.2.1 and 4.2.4)."""
        for authority in (
            *("", ":80", "user@relay.example", "user:secret@relay.example", "@relay.example", "relay.example@"),
            *("relay.example:", "relay.example:x", "[::1", "relay.example,relay.example", "relay%2eexample", "a\\b"),
        ):
            reason = "the request target is a URL with a missing or malformed host"
            self.assertEqual(self.refused(f"ws://{authority}/room"), reason)

    def test_other_forms(self) -> None:
        """Other schemes, and the forms of CONNECT and OPTIONS, are refused."""
        for target in (
            *("*", "relay.example:80", "relay.example", "room", "?a", "ftp://relay.example/", "file:///a", "wss:/a"),
            *("http:relay.example/", "://relay.example/", "httpx://relay.example/", "javascript:alert()", "\\a"),
        ):
            self.assertIn("must be a path that starts with /", self.refused(target))


class QueryTests(SynchronousTestCase):
    """Queries."""

    def test_values(self) -> None:
        """A parameter has its values in their order, decoded; it is a mapping like any other."""
        query = Query("token=a&b=1&b=%C3%A9+x&c")

        self.assertEqual(query, {"token": ("a",), "b": ("1", "é x"), "c": ("",)})
        self.assertEqual((query["b"], query.get("none", ()), "c" in query, len(query)), (("1", "é x"), (), True, 3))
        self.assertRaises(KeyError, query.__getitem__, "none")
        self.assertEqual(Query(""), NO_QUERY)

    def test_parsed_when_read(self) -> None:
        """A malformed query is refused when it is read, in whatever way, each time."""
        for text in ("q=caf%E9", "%ff=1", "a=%C3", "=%80"):
            query = Query(text)
            for read in (len, bool, list, dict, lambda it: it.get("a"), lambda it: "a" in it, lambda it: it["a"]):
                denied = self.assertRaises(Denied, read, query)
                self.assertEqual((denied.status, denied.cause), (400, "malformed"), text)
                self.assertEqual(denied.reason, "the query is malformed: it must be percent-encoded UTF-8")

    def test_most_fields(self) -> None:
        """The limit of fields is exact; the empty ones count."""
        self.assertEqual(len(Query("&".join([f"a{number}=" for number in range(MAX_QUERY_FIELDS)]))), MAX_QUERY_FIELDS)
        for text in ("&".join(["a"] * (MAX_QUERY_FIELDS + 1)), "&" * MAX_QUERY_FIELDS):
            denied = self.assertRaises(Denied, len, Query(text))
            self.assertEqual((denied.status, denied.reason), (400, "the query has more than 100 fields"))

    def test_no_secrets_in_the_repr(self) -> None:
        """The repr does not show the query: it may hold tokens."""
        self.assertNotIn("secret", repr(Query("token=secret")))
