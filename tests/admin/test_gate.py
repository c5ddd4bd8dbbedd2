"""Tests of wsrelay.admin.gate: who may ask the admin endpoint."""

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.admin import head
from wsrelay.admin.gate import Guard, is_local
from wsrelay.admin.server import METHODS
from wsrelay.errors import Denied
from wsrelay.http.head import parse_head
from wsrelay.request import HandshakeRequest


def request(method: str = "GET", **fields: str) -> HandshakeRequest:
    """Return a request."""
    return parse_head(head("/", method, **fields)[:-4], None, None, METHODS)


class HostTests(SynchronousTestCase):
    """DNS rebinding."""

    def setUp(self) -> None:
        self.guard = Guard()

    def test_own_names(self) -> None:
        """Names of this machine pass, with any port."""
        for host in ("localhost", "LOCALHOST:9100", "127.0.0.1:1", "127.1.2.3", "[::1]:9100", "[::1]"):
            self.guard.check(request(Host=host))

    def test_strange_names(self) -> None:
        """Any other name is refused: its DNS may point here (rebinding)."""
        for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[2001:db8::1]"):
            denied = self.assertRaises(Denied, self.guard.check, request(Host=host))
            self.assertEqual(denied.status, 421, host)

    def test_beyond_loopback(self) -> None:
        """Beyond loopback, any name passes: the relay does not know its own."""
        self.guard.is_local = False
        self.guard.check(request(Host="admin.example"))


class OriginTests(SynchronousTestCase):
    """Requests that a page of another site makes a browser send."""

    def test_own_page(self) -> None:
        """The status page, a program, and a typed address may change something."""
        for fields in (
            {},
            {"Origin": "http://localhost"},
            {"Sec_Fetch_Site": "same-origin"},
            {"Sec_Fetch_Site": "none"},
        ):
            Guard().check(request("POST", **fields))
        Guard().check(request("DELETE", Host="LocalHost:9100", Origin="http://localhost:9100"))

    def test_strange_pages(self) -> None:
        """Other sites may not change anything; their GETs pass, but they cannot read the answer."""
        for fields in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://localhost:8000"},
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site"},
        ):
            for method in ("POST", "DELETE"):
                self.assertEqual(self.assertRaises(Denied, Guard().check, request(method, **fields)).status, 403)
            for method in ("GET", "HEAD"):
                Guard().check(request(method, **fields))

    def test_beyond_loopback(self) -> None:
        """Beyond loopback, other sites may not change anything either."""
        guard = Guard()
        guard.is_local = False
        strange = request("POST", Host="admin.example", Origin="https://evil.example")
        self.assertEqual(self.assertRaises(Denied, guard.check, strange).status, 403)


class AddressTests(SynchronousTestCase):
    """Addresses that other machines can reach."""

    def test_addresses(self) -> None:
        """Loopback and unix sockets are local."""
        for address, local in (
            (IPv4Address("TCP", "127.0.0.1", 1), True),
            (IPv4Address("TCP", "127.9.9.9", 1), True),
            (IPv6Address("TCP", "::1", 1), True),
            (UNIXAddress(b"/run/admin"), True),
            (IPv4Address("TCP", "0.0.0.0", 1), False),
            (IPv6Address("TCP", "::", 1), False),
            (IPv4Address("TCP", "192.0.2.1", 1), False),
        ):
            self.assertEqual(is_local(address), local, address)
