"""Tests of wsrelay.net.descriptions."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.net.descriptions import full
from wsrelay.net.endpoints import endpoints

#: Short form → endpoint string of Twisted.
SHORT = {
    "9000": "tcp:9000:interface=127.0.0.1",
    "0": "tcp:0:interface=127.0.0.1",
    "localhost:9000": "tcp:9000:interface=127.0.0.1",
    "10.0.0.1:80": "tcp:80:interface=10.0.0.1",
    ":9000": "tcp:9000:interface=0.0.0.0",
    "*:9000": "tcp:9000:interface=0.0.0.0",
    "0.0.0.0:9000": "tcp:9000:interface=0.0.0.0",
    "[::1]:9000": r"tcp6:9000:interface=\:\:1",
    "[::]:9000": r"tcp6:9000:interface=\:\:",
    "[fe80::1%eth0]:9000": r"tcp6:9000:interface=fe80\:\:1%eth0",
    "[fe80::1%br-a.7]:9000": r"tcp6:9000:interface=fe80\:\:1%br-a.7",
}

#: Mistake → what to write.
WRONG = {
    "99999": "a port is a number from 0 to 65535",
    "ws://127.0.0.1:9000/room": "write 127.0.0.1:9000, without scheme and path; TLS is ssl:PORT:…",
    "tcp:127.0.0.1:9000": "write 127.0.0.1:9000",
    "tcp6:[::1]:9000": "write [::1]:9000",
    "::1:9000": "write [::1]:9000",
    "fe80::1%eth0:9000": "write [fe80::1%eth0]:9000",
    "[fe80::1%eth0]": "write [fe80::1%eth0]:PORT",
    "127.0.0.1": "write 127.0.0.1:PORT",
    "localhost": "write localhost:PORT",
    "relay.example:9000": "write the IP address of this machine: ADDRESS:9000",
    "1.2.3:9000": "'1.2.3' does not appear to be an IPv4 or IPv6 address",
}


class FullTests(SynchronousTestCase):
    """Short forms."""

    def test_short(self) -> None:
        """A port, or an address and a port; a port alone is on loopback. Twisted takes what comes out."""
        for short, expected in SHORT.items():
            self.assertEqual(full(short), expected)
        endpoints(None, SHORT.values())

    def test_unchanged(self) -> None:
        """What Twisted understands stays as it is, and so does what nobody does."""
        for text in (
            "tcp:9000",
            "tcp6:80",
            "ssl:443:privateKey=a.pem",
            "unix:/run/a",
            "haproxy:tcp:1",
            "nowhere:1",
            "",
        ):
            self.assertEqual(full(text), text)

    def test_mistakes(self) -> None:
        """Common mistakes are told what to write."""
        for text, said in WRONG.items():
            self.assertEqual(str(self.assertRaises(ValueError, full, text)), said)
