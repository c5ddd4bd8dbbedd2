"""The URL, and requests."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.selftest.target import Target


class TargetTests(SynchronousTestCase):
    """What is asked for."""

    def test_urls(self) -> None:
        """Host, port, path and query; the URL is shown without the query."""
        for url, shown, host_field, line in (
            ("ws://relay.example", "ws://relay.example/", "relay.example", "GET /r HTTP/1.1"),
            ("wss://relay.example/a/b/?x=1", "wss://relay.example/a/b/", "relay.example", "GET /r?x=1 HTTP/1.1"),
            ("https://relay.example:8443/", "wss://relay.example:8443/", "relay.example:8443", "GET /r HTTP/1.1"),
            ("127.0.0.1:8080", "ws://127.0.0.1:8080/", "127.0.0.1:8080", "GET /r HTTP/1.1"),
            ("relay.example/chat?x=1", "ws://relay.example/chat/", "relay.example", "GET /r?x=1 HTTP/1.1"),
            ("ws://[::1]:9000/ü", "ws://[::1]:9000/%C3%BC/", "[::1]:9000", "GET /r HTTP/1.1"),
        ):
            target = Target.from_url(url)
            request = target.request("/r", {}).decode()
            self.assertEqual((target.url, request.split("\r\n")[0]), (shown, line))
            self.assertIn(f"\r\nHost: {host_field}\r\n", request)

    def test_wrong(self) -> None:
        """Other URLs, and values that would break a line, are errors that say what to write."""
        for url in (
            "",
            "mailto:relay",
            "ftp://relay.example/",
            "ws:///",
            "ws://a/#b",
            "ws://u@a/",
            "ws://a:99999/",
            "ws://[a",
            "http://[a]/b?c",
        ):
            with self.assertRaisesRegex(ValueError, "^not a URL of a relay: '[^?]*'; write ws://HOST:PORT/"):
                Target.from_url(url)
        with self.assertRaisesRegex(ValueError, "not a value of a header field"):
            Target.from_url("ws://a/", token="a\r\nb")

    def test_rooms(self) -> None:
        """Each room is new, unless one is named."""
        target = Target.from_url("ws://a/base/")
        self.assertNotEqual(target.new_room(), target.new_room())
        self.assertRegex(target.new_room(), "^/base/selftest-[0-9a-f]{16}$")
        self.assertEqual(target.rooms, "/base/selftest-…")
        one = Target.from_url("ws://a/base", room="/one two")
        self.assertEqual((one.new_room(), one.rooms), ("/base/one%20two", "/base/one%20two"))

    def test_fields(self) -> None:
        """Token, origin and subprotocol are sent; changes replace, add and remove."""
        target = Target.from_url("ws://a/", token="t", origin="https://a", subprotocol="p")
        request = target.request("/r", {"Origin": None, "Upgrade": "x", "New": "y"}, "PUT").decode()
        self.assertTrue(request.startswith("PUT /r "))
        for line in ("Authorization: Bearer t", "Sec-WebSocket-Protocol: p", "Upgrade: x", "New: y"):
            self.assertIn(f"\r\n{line}\r\n", request)
        self.assertNotIn("Origin", request)
