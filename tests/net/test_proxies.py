"""Tests of wsrelay.net.proxies."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.net.proxies import MAX_PROXIES, UNIX, TrustedProxies


class TrustedProxiesTests(SynchronousTestCase):
    """X-Forwarded-For."""

    def test_trusted_networks(self) -> None:
        """Addresses and networks of both families are trusted, also IPv4-mapped ones; "unix" if named."""
        trusted = TrustedProxies(["10.0.0.0/8", "2001:db8::/32", "192.0.2.1", UNIX])
        for host in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7", "192.0.2.1", UNIX):
            self.assertIn(host, trusted)
        for host in ("11.0.0.1", "::ffff:11.0.0.1", "2001:db9::", "192.0.2.2", "", "nonsense", None):
            self.assertNotIn(host, trusted)

    def test_no_trusted_proxies(self) -> None:
        """By default no proxy is trusted, and the field is ignored."""
        trusted = TrustedProxies([])
        self.assertNotIn("127.0.0.1", trusted)
        self.assertNotIn(UNIX, trusted)
        self.assertEqual(trusted.client("127.0.0.1", "192.0.2.9"), "127.0.0.1")

    def test_invalid_network(self) -> None:
        """An invalid network is named."""
        for wrong in ("localhost", "10.0.0.1/8", "", "10.0.0.0/33"):
            error = self.assertRaises(ValueError, TrustedProxies, [wrong])
            self.assertIn(repr(wrong), str(error))

    def test_forwarded_for_right_to_left(self) -> None:
        """The first untrusted address from the right is the client's."""
        trusted = TrustedProxies(["10.0.0.0/8"])
        for forwarded_for, client in [
            ("", "10.0.0.1"),
            ("192.0.2.7", "192.0.2.7"),
            ("1.1.1.1, 192.0.2.7", "192.0.2.7"),
            ("1.1.1.1, 192.0.2.7, 10.9.9.9", "192.0.2.7"),
            ("10.8.8.8,10.9.9.9", "10.8.8.8"),
            ("192.0.2.7:51000", "192.0.2.7"),
            ("[2001:db8::5]:443", "2001:db8::5"),
            ("[2001:db8::5]", "2001:db8::5"),
            ("2001:DB8:0::5", "2001:db8::5"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("192.0.2.7, unknown", "10.0.0.1"),
            ("192.0.2.7, ", "10.0.0.1"),
            ("192.0.2.7,,", "10.0.0.1"),
            ("1.1.1.1, , 10.9.9.9", "10.9.9.9"),
            (", 192.0.2.7", "192.0.2.7"),
            (",,192.0.2.7, 10.9.9.9", "192.0.2.7"),
            (",", "10.0.0.1"),
            ("192.0.2.7, _hidden, 10.9.9.9", "10.9.9.9"),
            ("1.1.1.1, 192.0.2.256", "10.0.0.1"),
            (" \t192.0.2.7 ", "192.0.2.7"),
        ]:
            self.assertEqual(trusted.client("10.0.0.1", forwarded_for), client, forwarded_for)

    def test_max_proxies(self) -> None:
        """Beyond the limit of proxies the field is not read: a long one costs little."""
        trusted = TrustedProxies(["10.0.0.0/8"])
        for count, client in ((MAX_PROXIES - 1, "192.0.2.7"), (MAX_PROXIES, "10.0.0.2")):
            proxies = ", ".join(["10.0.0.2"] * count)
            self.assertEqual(trusted.client("10.0.0.1", f"192.0.2.8, 192.0.2.7, {proxies}"), client)

    def test_forwarded_for_untrusted_peer(self) -> None:
        """The field of an untrusted peer is ignored."""
        self.assertEqual(TrustedProxies(["10.0.0.0/8"]).client("192.0.2.1", "10.0.0.5"), "192.0.2.1")

    @given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
    def test_forwarded_for_garbage(self, forwarded_for: str) -> None:
        """Any content of the field gives an address."""
        trusted = TrustedProxies(["10.0.0.0/8", UNIX])
        self.assertNotIn(" ", trusted.client("10.0.0.1", forwarded_for))
        self.assertEqual(trusted.client(UNIX, "192.0.2.1"), "192.0.2.1")
