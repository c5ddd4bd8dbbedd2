"""Tests of wsrelay.validators.origin."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from wsrelay.errors import Denied
from wsrelay.http.responses import MAX_REASON_CHARS
from wsrelay.request import HandshakeRequest
from wsrelay.validators.origin import OriginValidator
from wsrelay.validators.origin_patterns import parse_origin

from .support import GRANT, ValidatorTestCase, request

make = OriginValidator.from_arguments


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


class EmptyHostTests(ValidatorTestCase):
    """Origins without a host, which web views send: Cordova, Android, Qt."""

    def test_allowed(self) -> None:
        """Each is allowed by its own name."""
        for origin in ("file://", "content://", "qrc://", "FILE://"):
            self.assertIs(GRANT, make(origin).validate(request(origin=origin), GRANT), origin)

    def test_denied(self) -> None:
        """No other scheme, no path, no host, and not "null" passes for one."""
        for origin in ("content://", "file:///", "file://x", "file:", "null", "https://", None):
            self.assertDenied(403, make("file://"), request(origin=origin))

    def test_same_host(self) -> None:
        """It is never the same host."""
        self.assertDenied(403, make("same-host"), request(origin="file://", host="localhost"))


class PatternTests(ValidatorTestCase):
    """Patterns of origins."""

    def test_allowed(self) -> None:
        """Matching origins are allowed, beside words and exact ones."""
        validator = make("none,https://*.example.com,http://localhost:*,moz-extension://*,file://")

        for origin in (
            None,
            "https://app.example.com",
            "http://localhost:5173",
            "moz-extension://6c1e2b52-8d6a-4f0e-9c3c-0f6f0a4d2a10",
            "file://",
        ):
            self.assertIs(GRANT, validator.validate(request(origin=origin), GRANT), origin)

    def test_denied(self) -> None:
        """All others are denied."""
        validator = make("https://*.example.com,http://localhost:*")

        for origin in ("https://example.com", "https://evil-example.com", "https://localhost:1", "null", None, "?"):
            self.assertDenied(403, validator, request(origin=origin))


class ReasonTests(ValidatorTestCase):
    """The reason of a refusal."""

    def reason(self, arguments: str, origin: str | None) -> str:
        """Return the reason, which always fits whole into a response."""
        with self.assertRaises(Denied) as caught:
            make(arguments).validate(request(origin=origin), GRANT)
        self.assertLessEqual(len(caught.exception.reason), MAX_REASON_CHARS)
        return caught.exception.reason

    def test_default(self) -> None:
        """With the default, it is the argument to write, which allows the origin."""
        for origin in (
            "https://a.example",
            "https://a.example:8443",
            "http://[::1]:3000",
            "file://",
            "tauri://localhost",
        ):
            reason = self.reason("same-host", origin)
            self.assertTrue(reason.startswith(f"the origin {origin} is not allowed; "), reason)
            _, _, arguments = reason.partition("write --validate origin:")
            self.assertEqual(f"same-host,{origin}", arguments)
            self.assertIs(GRANT, make(arguments).validate(request(origin=origin), GRANT))

    def test_list(self) -> None:
        """With a list, it is the origin to add; the list is not told."""
        reason = self.reason("https://secret.example", "HTTPS://A.example:443")
        self.assertEqual(
            "the origin https://a.example is not allowed; to allow it, add https://a.example to --validate origin:...",
            reason,
        )
        for arguments in ("same-host,null", "https://*.example.com", "same-host,https://b.example"):
            self.assertIn("add https://a.example to", self.reason(arguments, "https://a.example"))

    def test_null(self) -> None:
        """For "null", it says which pages send it."""
        for arguments, remedy in (("same-host", "write --validate origin:same-host,null"), ("none", "add null to")):
            reason = self.reason(arguments, "null")
            self.assertIn("file: pages and sandboxed frames of any site", reason)
            self.assertIn(remedy, reason)

    def test_no_origin(self) -> None:
        """Without an origin, it says so."""
        reason = self.reason("https://a.example", None)
        self.assertTrue(reason.startswith("no Origin was sent; "), reason)
        self.assertIn("add none to --validate origin:", reason)

    def test_malformed(self) -> None:
        """For a malformed origin, it says the form, and quotes no markup."""
        self.assertTrue(
            self.reason("same-host", "https://a.example/").endswith("SCHEME://HOST:PORT: https://a.example/")
        )
        reason = self.reason("same-host", "<img src=x onerror='x'>\r\n\x1b[31m\u202e")
        self.assertTrue(reason.endswith(": ?img?src?x?onerror??x??????31m?"), reason)

    def test_long(self) -> None:
        """A long origin is cut, and named once."""
        host = "a" * 100
        self.assertIn(
            f"https://{host} is not allowed; to allow it, add it", self.reason("same-host", f"https://{host}")
        )
        self.assertIn(f"https://{'a' * 112}... is not allowed", self.reason("same-host", f"https://{host * 80}"))
        self.assertIn(f"SCHEME://HOST:PORT: {'/' * 120}...", self.reason("same-host", "/" * 8000))

    @given(st.text())
    def test_any(self, origin: str) -> None:
        """For any text of the client, the reason is one line of printable ASCII."""
        for arguments in ("same-host", "https://a.example"):
            reason = self.reason(arguments, origin)
            self.assertTrue(reason.isascii() and reason.isprintable(), reason)


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

    def site(self, value: str, **overrides: Any) -> HandshakeRequest:
        """Return a browser's request without Origin."""
        return request(headers={"sec-fetch-site": value}, **overrides)

    def test_foreign_page_without_origin(self) -> None:
        """Without Origin, a page of another host is refused (TRAPS 110); so is a value that no browser sends."""
        for arguments in ("same-host", "none", "https://relay.example", "same-host,none,null"):
            for value in ("cross-site", "same-site", "", "Cross-Site", "none, none", "nonsense"):
                denied = self.assertDenied(403, make(arguments), self.site(value))
                self.assertIn("a page of another site", denied.reason)
            for origin in ("https://evil.example", "null" if "null" not in arguments else ""):
                self.assertDenied(403, make(arguments), self.site("same-origin", origin=origin))
        self.assertIs(GRANT, make("*").validate(self.site("cross-site"), GRANT))

    def test_own_page_without_origin(self) -> None:
        """Without Origin, the relay's own page has the origin of the Host field."""
        for arguments, host in (
            ("same-host", "relay.example"),
            ("https://relay.example", "relay.example"),
            ("https://relay.example", "relay.example:443"),
            ("http://localhost:8080", "localhost:8080"),
            ("https://*.relay.example", "eu.relay.example"),
            ("http://localhost:*", "localhost:8080"),
        ):
            self.assertIs(GRANT, make(arguments).validate(self.site("same-origin", host=host), GRANT), arguments)
        for arguments, host in (
            ("https://app.example", "relay.example"),
            ("https://relay.example", "relay.example:8443"),
            ("https://relay.example", "evil.example"),
            ("none", "relay.example"),
            ("same-host", ""),
        ):
            self.assertDenied(403, make(arguments), self.site("same-origin", host=host))
        reason = self.assertDenied(403, make("https://app.example"), self.site("same-origin")).reason
        self.assertIn("add https://relay.example to --validate origin:", reason)

    def test_typed_address(self) -> None:
        """A typed address is a request without Origin, as that of a program."""
        for arguments in ("same-host", "none"):
            self.assertIs(GRANT, make(arguments).validate(self.site("none"), GRANT))
        self.assertDenied(403, make("https://app.example"), self.site("none"))

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

    def test_any_alone(self) -> None:
        """``*`` beside other values is a mistake: pages of a named origin would get no credentials (CORS)."""
        for arguments in ("*,https://app.example", "same-host,*", "*,none"):
            self.assertIn("write it alone", str(self.assertRaises(ValueError, make, arguments)))

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
        for value in ("https://a.example/", "a.example", "*.a.example", "https://", "Null", "https://*"):
            self.assertWrong(make, f"https://b.example,{value}", f"{value!r} is not an origin")

    def test_hint_words(self) -> None:
        """A word in the wrong case is refused with the right one."""
        self.assertWrong(make, "Same-Host", "is it same-host?")
