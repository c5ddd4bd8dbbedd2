"""Tests of wsrelay.http.cors. With requests: tests/http/test_site.py; in browsers: tests/http/test_cross_origin.py."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.http.cors import is_preflight, preflight_fields, sharing_fields
from wsrelay.request import MAX_MEMBERS, TOKEN

ORIGIN = "https://app.example"
REQUESTED = "access-control-request-headers"


class SharingTests(SynchronousTestCase):
    """Fields of all answers."""

    def test_sharing_named(self) -> None:
        """A named origin may send credentials, and read the fields that pages need."""
        self.assertEqual(
            sharing_fields(ORIGIN),
            (
                ("Access-Control-Allow-Origin", ORIGIN),
                ("Access-Control-Allow-Credentials", "true"),
                ("Access-Control-Expose-Headers", "Retry-After, Wsrelay-Connection"),
                ("Vary", "Origin"),
            ),
        )

    def test_sharing_without_credentials(self) -> None:
        """Every origin, and "null", which any site can have, may read answers to requests without credentials."""
        for origin in ("*", "null"):
            fields = dict(sharing_fields(origin))
            self.assertEqual(fields["Access-Control-Allow-Origin"], origin)
            self.assertNotIn("Access-Control-Allow-Credentials", fields)

    def test_sharing_refused(self) -> None:
        """Other origins get no field."""
        self.assertEqual(sharing_fields(None), ())


class PreflightTests(SynchronousTestCase):
    """Answers to preflights."""

    def allowed(self, requested: str) -> str | None:
        return dict(preflight_fields({REQUESTED: requested}, ("GET",))).get("Access-Control-Allow-Headers")

    def test_is_preflight(self) -> None:
        """A preflight has an origin and names a method."""
        origin, method = {"origin": ORIGIN}, {"access-control-request-method": "POST"}
        self.assertEqual([is_preflight(each) for each in ({**origin, **method}, origin, method)], [True, False, False])

    def test_preflight_fields(self) -> None:
        """The answer names the methods and the requested fields, and is kept for two hours."""
        self.assertEqual(self.allowed("last-event-id"), "last-event-id")
        self.assertEqual(
            preflight_fields({REQUESTED: "authorization,content-type"}, ("GET", "POST")),
            (
                ("Access-Control-Allow-Methods", "GET, POST"),
                ("Access-Control-Allow-Headers", "authorization, content-type"),
                ("Access-Control-Max-Age", "7200"),
                ("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers"),
            ),
        )

    def test_preflight_proxy_fields(self) -> None:
        """Fields of proxies, and all that is no field name, are not allowed."""
        for name in ("Forwarded", "via", "X-Real-IP", "x-forwarded-for", "X-Forwarded-User", "", "a b", "\t", "é"):
            self.assertEqual(self.allowed(f"x-ours, {name} ,traceparent"), "x-ours, traceparent", name)
            self.assertIsNone(self.allowed(name))

    def test_preflight_most_fields(self) -> None:
        """Fields behind the limit for lists are not read."""
        names = [f"x-{number}" for number in range(MAX_MEMBERS)]
        self.assertEqual(self.allowed(",".join(names)), ", ".join(names))
        self.assertEqual(self.allowed(",".join([*names, "x-more", "x-most"])), ", ".join(names))
        self.assertIsNone(self.allowed("," * MAX_MEMBERS + "x-more,"))

    @given(st.text())
    def test_preflight_any_text(self, requested: str) -> None:
        """Any requested value gives a list of field names, or no field."""
        allowed = self.allowed(requested)
        self.assertTrue(allowed is None or all(map(TOKEN.fullmatch, allowed.split(", "))))
