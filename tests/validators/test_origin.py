"""Tests of wsrelay.validators.origin."""

from hypothesis import given
from hypothesis import strategies as st

from wsrelay.validators.origin import OriginValidator, parse_origin

from .support import GRANT, ValidatorTestCase, request

make = OriginValidator.from_arguments


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
            "app://",
            "app:localhost",
            "+app://localhost",
        ):
            self.assertIsNone(parse_origin(text), text)


class OriginListTests(ValidatorTestCase):
    """Listed origins."""

    def test_allowed(self) -> None:
        """A listed origin is allowed, in any letter case, with or without its default port."""
        validator = make("https://app.example, https://B.example:8443,http://[2001:DB8::1]:80")

        for origin in (
            "https://app.example",
            "https://app.example:443",
            "HTTPS://App.Example",
            "https://b.example:8443",
            "http://[2001:db8::1]",
        ):
            self.assertIs(GRANT, validator.validate(request(origin=origin), GRANT), origin)

    def test_denied(self) -> None:
        """Another scheme, host or port is denied; so are no origin and "null"."""
        validator = make("https://app.example")

        for origin in (
            "http://app.example",
            "https://app.example:8443",
            "https://app.example.",
            "https://evilapp.example",
            "https://app.example.evil.example",
            "https://x.app.example",
            "https://app.example/",
            "https://app.example@evil.example",
            "null",
            "NULL",
            "",
            None,
        ):
            self.assertDenied(403, validator, request(origin=origin))

    def test_other_schemes(self) -> None:
        """An origin without a default port matches exactly."""
        validator = make("capacitor://localhost,chrome-extension://abc")

        for origin in ("capacitor://localhost", "Capacitor://Localhost", "chrome-extension://abc"):
            self.assertIs(GRANT, validator.validate(request(origin=origin), GRANT), origin)
        for origin in (
            "capacitor://localhost:80",
            "capacitor://abc",
            "http://localhost",
            "https://localhost",
            "chrome-extension://abcd",
            "moz-extension://abc",
        ):
            self.assertDenied(403, validator, request(origin=origin))

    @given(st.text())
    def test_any_other_text(self, origin: str) -> None:
        """No other text passes as a listed origin."""
        allowed = "https://app.example"
        validator = make(allowed)

        if parse_origin(origin) != ("https", "app.example", 443):
            self.assertDenied(403, validator, request(origin=origin))


class WordTests(ValidatorTestCase):
    """``same-host``, ``null``, ``none`` and ``*``."""

    def test_same_host(self) -> None:
        """The origin's host must be the Host field's, with any port; no origin is allowed."""
        validator = make("same-host")

        for origin, host in (
            ("https://good.example", "good.example"),
            ("https://Good.Example", "good.example:8443"),
            ("http://good.example:3000", "good.example:8080"),
            ("http://[::1]:3000", "[::1]:8080"),
            ("http://127.0.0.1", "127.0.0.1:8080"),
            ("https://good.example.", "good.example."),
            (None, "good.example"),
        ):
            self.assertIs(GRANT, validator.validate(request(origin=origin, host=host), GRANT), origin)

    def test_other_hosts(self) -> None:
        """Users, suffixes, prefixes, dots, paths and "null" do not pass for the same host."""
        validator = make("same-host")

        for origin in (
            "https://evilgood.example",
            "https://good.example.evil.example",
            "https://x.good.example",
            "https://good.example@evil.example",
            "https://evil.example@good.example",
            "https://good.example:443@evil.example",
            "https://good.example.",
            "https://good.example/",
            "https://evil.example/good.example",
            "https://evil.example#good.example",
            "https://evil.example\\good.example",
            "good.example",
            "null",
            "file://",
            "",
        ):
            self.assertDenied(403, validator, request(origin=origin, host="good.example"))

    def test_same_host_other_schemes(self) -> None:
        """Schemes other than http and https never match the Host field."""
        for origin in ("capacitor://localhost", "app://localhost:8080", "file://localhost"):
            self.assertDenied(403, make("same-host"), request(origin=origin, host="localhost:8080"))

    def test_malformed_host(self) -> None:
        """A malformed Host matches no origin."""
        self.assertDenied(403, make("same-host"), request(origin="https://a.example", host=""))

    def test_null(self) -> None:
        """``null`` allows the origin "null" only."""
        validator = make("null")

        self.assertIs(GRANT, validator.validate(request(origin="null"), GRANT))
        self.assertDenied(403, validator, request(origin=None))
        self.assertDenied(403, validator, request(origin="https://relay.example"))

    def test_none(self) -> None:
        """``none`` allows a missing origin only."""
        validator = make("none")

        self.assertIs(GRANT, validator.validate(request(origin=None), GRANT))
        self.assertDenied(403, validator, request(origin="null"))
        self.assertDenied(403, validator, request(origin="https://relay.example"))

    def test_any(self) -> None:
        """``*`` allows everything, malformed origins included."""
        validator = make("*")

        for origin in (None, "null", "https://evil.example", "app://localhost", "?"):
            self.assertIs(GRANT, validator.validate(request(origin=origin), GRANT))

    def test_combined(self) -> None:
        """Words and origins are combined by or."""
        validator = make("null,https://app.example")

        self.assertIs(GRANT, validator.validate(request(origin="null"), GRANT))
        self.assertIs(GRANT, validator.validate(request(origin="https://app.example"), GRANT))
        self.assertDenied(403, validator, request(origin=None))


class ArgumentTests(ValidatorTestCase):
    """Arguments of ``origin:``."""

    def test_interface(self) -> None:
        """It provides IHandshakeValidator."""
        self.assertValidator(make("same-host"))

    def test_no_arguments(self) -> None:
        """At least one argument is required."""
        self.assertWrong(make, "", "at least one origin")

    def test_invalid_origin(self) -> None:
        """An invalid origin is refused by name."""
        for value in ("https://a.example/", "a.example", "*.a.example", "app://", "Null", "https://*"):
            self.assertWrong(make, f"https://b.example,{value}", f"{value!r} is not an origin")
