"""Origins are compared exactly, and everything that is not allowed is denied."""

from hypothesis import given, settings
from hypothesis import strategies as st

from wsrelay.validators.origin import OriginValidator, parse_origin

from .support import GRANT, ValidatorTestCase, request

make = OriginValidator.from_arguments


class ParseOriginTests(ValidatorTestCase):
    """What is an origin, and which."""

    def test_parts(self) -> None:
        """Scheme and host come out in lower case, the port as a number."""
        self.assertEqual(("https", "b.example", 8443), parse_origin("HTTPS://B.Example:8443"))
        self.assertEqual(("https", "[::1]", 8443), parse_origin("https://[::1]:8443"))
        self.assertEqual(("app", "localhost", 65535), parse_origin("app://localhost:65535"))

    def test_default_ports(self) -> None:
        """Without a port, http means 80 and https 443."""
        self.assertEqual(("http", "a.example", 80), parse_origin("http://a.example"))
        self.assertEqual(("https", "a.example", 443), parse_origin("https://a.example"))

    def test_no_ports(self) -> None:
        """Other schemes mean no port: apps and browser extensions have none."""
        self.assertEqual(("capacitor", "localhost", None), parse_origin("capacitor://localhost"))
        self.assertEqual(("chrome-extension", "abc", None), parse_origin("Chrome-Extension://ABC"))
        self.assertEqual(("app", "x", None), parse_origin("app://x"))

    def test_no_origin(self) -> None:
        """What has more or less than scheme, host and port is none."""
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
    """Allowed origins, one by one."""

    def test_allowed(self) -> None:
        """An origin of the list is allowed, however its letters and its default port are written."""
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
        """Another scheme, host or port is another origin, and so are none and "null"."""
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
        """An origin without ports is that one only."""
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

    @settings(deadline=None)
    @given(st.text())
    def test_nothing_else(self, origin: str) -> None:
        """No other text is taken for an allowed origin."""
        allowed = "https://app.example"
        validator = make(allowed)

        if parse_origin(origin) != ("https", "app.example", 443):
            self.assertDenied(403, validator, request(origin=origin))


class WordTests(ValidatorTestCase):
    """``same-host``, ``null``, ``none`` and ``*``."""

    def test_same_host(self) -> None:
        """The origin's host is the Host field's, whatever the ports; or there is no origin."""
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

    def test_not_the_same_host(self) -> None:
        """Neither users, suffixes, prefixes, dots, paths nor "null" pass for the same host."""
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

    def test_not_the_web(self) -> None:
        """The host of another scheme than http and https is not the Host field's, even if it reads the same."""
        for origin in ("capacitor://localhost", "app://localhost:8080", "file://localhost"):
            self.assertDenied(403, make("same-host"), request(origin=origin, host="localhost:8080"))

    def test_malformed_host(self) -> None:
        """A Host that is none, which the relay itself refuses before, is the host of no origin."""
        self.assertDenied(403, make("same-host"), request(origin="https://a.example", host=""))

    def test_null(self) -> None:
        """``null`` allows the origin "null" and nothing else."""
        validator = make("null")

        self.assertIs(GRANT, validator.validate(request(origin="null"), GRANT))
        self.assertDenied(403, validator, request(origin=None))
        self.assertDenied(403, validator, request(origin="https://relay.example"))

    def test_none(self) -> None:
        """``none`` allows a request without origin and nothing else."""
        validator = make("none")

        self.assertIs(GRANT, validator.validate(request(origin=None), GRANT))
        self.assertDenied(403, validator, request(origin="null"))
        self.assertDenied(403, validator, request(origin="https://relay.example"))

    def test_any(self) -> None:
        """``*`` allows everything, even what is no origin."""
        validator = make("*")

        for origin in (None, "null", "https://evil.example", "app://localhost", "?"):
            self.assertIs(GRANT, validator.validate(request(origin=origin), GRANT))

    def test_together(self) -> None:
        """Words and origins add up."""
        validator = make("null,https://app.example")

        self.assertIs(GRANT, validator.validate(request(origin="null"), GRANT))
        self.assertIs(GRANT, validator.validate(request(origin="https://app.example"), GRANT))
        self.assertDenied(403, validator, request(origin=None))


class ArgumentTests(ValidatorTestCase):
    """What stands behind ``origin:``."""

    def test_interface(self) -> None:
        """It is a validator."""
        self.assertValidator(make("same-host"))

    def test_nothing(self) -> None:
        """Something must be allowed."""
        self.assertWrong(make, "", "at least one origin")

    def test_wrong(self) -> None:
        """What is no origin is refused by name."""
        for value in ("https://a.example/", "a.example", "*.a.example", "app://", "Null", "https://*"):
            self.assertWrong(make, f"https://b.example,{value}", f"{value!r} is not an origin")
