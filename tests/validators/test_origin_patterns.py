"""Tests of wsrelay.validators.origin_patterns."""

from hypothesis import given
from hypothesis import strategies as st

from wsrelay.validators.origin_patterns import OriginPattern, OriginPatterns, parse_argument, parse_origin, written

from .support import ValidatorTestCase


class ParseOriginTests(ValidatorTestCase):
    """Parsing origins."""

    def test_parts(self) -> None:
        """Scheme and host are lower-cased, the port is a number."""
        self.assertEqual(("https", "b.example", 8443), parse_origin("HTTPS://B.Example:8443"))
        self.assertEqual(("https", "[::1]", 8443), parse_origin("https://[::1]:8443"))
        self.assertEqual(("app", "localhost", 65535), parse_origin("app://localhost:65535"))

    def test_default_ports(self) -> None:
        """Without a port, http means 80 and https 443."""
        self.assertEqual(("http", "a.example", 80), parse_origin("http://a.example"))
        self.assertEqual(("https", "a.example", 443), parse_origin("https://a.example"))

    def test_no_ports(self) -> None:
        """Other schemes have no default port: apps, browser extensions."""
        self.assertEqual(("capacitor", "localhost", None), parse_origin("capacitor://localhost"))
        self.assertEqual(("chrome-extension", "abc", None), parse_origin("Chrome-Extension://ABC"))
        self.assertEqual(("app", "x", None), parse_origin("app://x"))

    def test_no_host(self) -> None:
        """Other schemes than http and https may have no host: web views."""
        for scheme in ("file", "content", "app"):
            self.assertEqual((scheme, "", None), parse_origin(f"{scheme}://"))

    def test_written(self) -> None:
        """An origin is written as browsers do."""
        for text in (
            "https://a.example",
            "https://a.example:8443",
            "http://[::1]:443",
            "app://x",
            "app://x:80",
            "file://",
        ):
            origin = parse_origin(text.upper())
            assert origin is not None
            self.assertEqual(text, written(origin))
        self.assertEqual("http://a.example", written(("http", "a.example", 80)))

    def test_malformed(self) -> None:
        """More or less than scheme, host and port is malformed."""
        for text in (
            "",
            "null",
            "a.example",
            "//a.example",
            "https:a.example",
            "https:///",
            "https://a.example/",
            "https://a.example?q",
            "https://a.example#f",
            "https://user@a.example",
            "https://a.example:443@evil.example",
            "https://a.example\\@evil.example",
            "https://a.example:",
            "https://a.example:0",
            "https://a.example:65536",
            "https://a.example:443 ",
            "https://a.example https://b.example",
            "https://a.example\n",
            "https://\u0430.example",
            "https://::1",
            "app://localhost/",
            "app://localhost:",
            "app://localhost:0",
            "https://",
            "HTTP://",
            "file:///",
            "file://:80",
            "file:",
            "file://\n",
            "app:localhost",
            "+app://localhost",
        ):
            self.assertIsNone(parse_origin(text), text)


class PatternCase(ValidatorTestCase):
    """A case with assertions about patterns."""

    def assertMatches(self, pattern: str, *origins: str) -> None:
        """The pattern matches the origins."""
        for origin in origins:
            self.assertTrue(self.matches(pattern, origin), (pattern, origin))

    def assertNoMatch(self, pattern: str, *origins: str) -> None:
        """The pattern matches none of the origins, all of which are well-formed."""
        for origin in origins:
            self.assertFalse(self.matches(pattern, origin), (pattern, origin))

    def matches(self, pattern: str, origin: str) -> bool:
        """Return whether a pattern matches an origin."""
        parsed, parsed_origin = parse_argument(pattern), parse_origin(origin)
        assert isinstance(parsed, OriginPattern)
        assert parsed_origin is not None
        return OriginPatterns([parsed]).match(parsed_origin)


class SubdomainTests(PatternCase):
    """Patterns such as ``https://*.example.com``."""

    def test_subdomains(self) -> None:
        """One label or more stand for the star, in any letter case."""
        self.assertMatches(
            "HTTPS://*.Example.com",
            "https://app.example.com",
            "https://a.b.c.example.com",
            "https://APP.example.com:443",
            "https://xn--bcher-kva.example.com",
            "https://_x-1.example.com",
        )

    def test_other_hosts(self) -> None:
        """Not the domain itself, no similar name, no name that goes on, no dot at the end, no empty label."""
        self.assertNoMatch(
            "https://*.example.com",
            "https://example.com",
            "https://evil-example.com",
            "https://evilexample.com",
            "https://example.com.evil.com",
            "https://app.example.com.evil.com",
            "https://app.example.com.",
            "https://.example.com",
            "https://..example.com",
            "https://a..example.com",
            "https://app.example.co",
            "https://127.0.0.1",
            "https://[::1]",
        )

    def test_scheme_and_port(self) -> None:
        """Scheme and port must be equal; without a port, the default."""
        self.assertNoMatch("https://*.example.com", "http://app.example.com", "https://app.example.com:8443")
        self.assertNoMatch("https://*.example.com", "app://app.example.com")
        self.assertMatches("http://*.example.com:80", "http://app.example.com")
        self.assertMatches("https://*.example.com:8443", "https://app.example.com:8443")
        self.assertNoMatch("https://*.example.com:8443", "https://app.example.com", "https://app.example.com:443")

    def test_several(self) -> None:
        """Any of several patterns may match, with the same scheme and port or others."""
        texts = ["https://*.a.example", "https://*.b.example", "https://*.b.example:*", "http://*.c.example"]
        patterns = OriginPatterns(
            [pattern for text in texts if isinstance(pattern := parse_argument(text), OriginPattern)]
        )
        for host, scheme, port, expected in (
            ("x.a.example", "https", 443, True),
            ("x.b.example", "https", 443, True),
            ("x.b.example", "https", 1, True),
            ("x.c.example", "http", 80, True),
            ("x.a.example", "https", 1, False),
            ("x.c.example", "https", 443, False),
        ):
            self.assertEqual(expected, patterns.match((scheme, host, port)), host)

    @given(st.text("abc.-", min_size=1))
    def test_any_host(self, host: str) -> None:
        """Only hosts that end with a dot and the domain match."""
        origin = parse_origin(f"https://{host}ab.ca")
        assert origin is not None
        labels = origin[1].split(".")
        expected = labels[-2:] == ["ab", "ca"] and len(labels) > 2 and "" not in labels
        self.assertEqual(expected, self.matches("https://*.ab.ca", written(origin)))


class PortTests(PatternCase):
    """Patterns such as ``http://localhost:*``."""

    def test_any_port(self) -> None:
        """Every port matches, the default port, too."""
        for host in ("localhost", "127.0.0.1", "[::1]", "app.example"):
            self.assertMatches(f"http://{host}:*", f"http://{host}", f"http://{host}:80", f"http://{host}:65535")

    def test_others(self) -> None:
        """Another scheme or host does not match."""
        self.assertNoMatch(
            "http://localhost:*",
            "https://localhost:3000",
            "http://127.0.0.1:3000",
            "http://a.localhost:3000",
            "http://localhost.evil.com:3000",
            "capacitor://localhost",
            "file://",
        )

    def test_with_subdomains(self) -> None:
        """Both stars may stand in one pattern."""
        self.assertMatches("http://*.localhost:*", "http://a.localhost", "http://a.b.localhost:3000")
        self.assertNoMatch("http://*.localhost:*", "http://localhost:3000", "https://a.localhost:3000")


class SchemeTests(PatternCase):
    """Patterns such as ``moz-extension://*``: Firefox gives an extension another id in each profile."""

    def test_any_host(self) -> None:
        """Every origin of the scheme matches."""
        self.assertMatches("moz-extension://*", "moz-extension://abc", "MOZ-EXTENSION://d.e:1", "moz-extension://")
        self.assertNoMatch("moz-extension://*", "chrome-extension://abc", "https://abc", "moz-extensions://abc")


class ArgumentTests(ValidatorTestCase):
    """Arguments of operators."""

    def test_kinds(self) -> None:
        """Without a star it is an origin, with one a pattern."""
        self.assertEqual(("https", "a.example", 443), parse_argument("https://A.example"))
        self.assertEqual(("file", "", None), parse_argument("file://"))
        self.assertEqual(OriginPattern("https", ".a.example", 443), parse_argument("https://*.A.example"))

    def test_too_much(self) -> None:
        """A pattern that matches too much is refused."""
        for text in ("https://*", "http://*", "HTTPS://*:8443", "https://*:*", "wss://*"):
            self.assertWrong(parse_argument, text, "the pages of all sites")
        for text in ("https://*.com", "http://*.com:*", "https://*.xn--p1ai"):
            self.assertWrong(parse_argument, text, "the pages of too many sites")

    def test_misplaced_stars(self) -> None:
        """A star in another place is refused; the text says its valid places."""
        for text in (
            "https://*example.com",
            "https://app*.example.com",
            "https://a.*.example.com",
            "https://*.*.example.com",
            "https://app.example.*",
            "https://*.example..com",
            "https://*.example.com.",
            "https://*.",
            "http://localhost:80*",
            "http://localhost:*0",
            "https://*.example.com:0",
            "http*://a.example",
            "*://a.example",
            "*://*",
            "://*",
            ":*",
            "**",
        ):
            self.assertWrong(parse_argument, text, "* stands for subdomains (https://*.example.com)")

    def test_addresses(self) -> None:
        """Addresses have no subdomains."""
        for text in ("https://*.1.2.3.4", "https://*.127.0.0.1:*", "https://*.[::1]"):
            self.assertWrong(parse_argument, text, "an address has no subdomains")

    def test_other_schemes(self) -> None:
        """Hosts of other schemes have neither subdomains nor ports."""
        for text in ("app://*.example.com", "capacitor://localhost:*", "moz-extension://*:*", "moz-extension://*:1"):
            self.assertWrong(parse_argument, text, "only http and https")

    def test_hints(self) -> None:
        """The text names a similar valid origin or word, if there is one."""
        for text, near in (
            ("https://a.example/", "https://a.example"),
            ("https://a.example/path?query#fragment", "https://a.example"),
            ("a.example", "https://a.example"),
            ("a.example:8443/path", "https://a.example:8443"),
            ("localhost:3000", "http://localhost:3000"),
            ("127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("[::1]:3000", "http://[::1]:3000"),
            ("localhost:*", "http://localhost:*"),
            ("*.a.example", "https://*.a.example"),
            ("https://*.a.example/", "https://*.a.example"),
            ("file:///", "file://"),
            ("file:///path", "file://"),
            ("NULL", "null"),
        ):
            self.assertWrong(lambda text: parse_argument(text, {"null"}), text, f"; is it {near}?")
        for text in ("https://", "", "https://user@a.example", "https://\u0430.example", "a b", "https://a.example:0"):
            with self.assertRaises(ValueError) as caught:
                parse_argument(text)
            self.assertNotIn("is it", str(caught.exception))
