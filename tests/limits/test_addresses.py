"""Tests of wsrelay.limits.addresses."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.limits.addresses import address_key, wider_key


class AddressKeyTests(SynchronousTestCase):
    """The key of an address."""

    def test_keys(self) -> None:
        """The key is the IPv4 address, also at an IPv6 socket, the /64 of IPv6, or any other string itself."""
        for host, key in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::", "2001:db8:1:2::/64"),
            ("2001:DB8:1:3::1", "2001:db8:1:3::/64"),
            ("::1", "::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("no:address", "no:address"),
        ]:
            self.assertEqual(address_key(host), key)

    def test_wider(self) -> None:
        """A /64 belongs to a /56, that to a /48; nothing else has a wider network."""
        for key, wider in [
            ("2001:db8:1:234::/64", "2001:db8:1:200::/56"),
            ("2001:db8:1:200::/56", "2001:db8:1::/48"),
            ("2001:db8:1::/48", None),
            ("192.0.2.1", None),
            ("proxy/64", None),
        ]:
            self.assertEqual(wider_key(key), wider)
