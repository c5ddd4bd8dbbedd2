"""Tests of wsrelay.commands.target."""

import argparse
import os
import tempfile
from contextlib import redirect_stderr
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IReactorPluggableNameResolver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions, KeyPair, PrivateCertificate
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.test.iosim import connectedServerAndClient
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from wsrelay.commands.certificate import self_signed
from wsrelay.commands.target import Target, add_arguments, target


def parsed(*words: str) -> argparse.Namespace:
    """Return parsed arguments."""
    parser = argparse.ArgumentParser("wsrelay tail")
    add_arguments(parser)
    arguments = parser.parse_args(words)
    arguments.parser = parser
    return arguments


def reactor() -> Any:
    """Return a reactor that only has to be there."""
    made = mock.Mock()
    directlyProvides(made, IReactorPluggableNameResolver)
    return made


class TargetTests(SynchronousTestCase):
    """The URL, and the handshake."""

    def test_urls(self) -> None:
        """A name is a room at the relay of ``--url``; a URL is itself, and http means ws."""
        for words, url in (
            (["chat/42"], "ws://127.0.0.1:8080/chat/42"),
            (["/chat/42"], "ws://127.0.0.1:8080/chat/42"),
            (["/"], "ws://127.0.0.1:8080/"),
            (["a b?#é%"], "ws://127.0.0.1:8080/a%20b%3F%23%C3%A9%25"),
            (["chat", "--url=https://relay.example/"], "wss://relay.example/chat"),
            (["chat", "--url=ws://[::1]:9000"], "ws://[::1]:9000/chat"),
            (["HTTP://relay.example"], "ws://relay.example/"),
            (["wss://relay.example:8443/a%20b?x=1#f"], "wss://relay.example:8443/a%20b?x=1"),
        ):
            self.assertEqual(target(parsed(*words)).url, url)

    def test_query(self) -> None:
        """A query is appended to that of the URL."""
        self.assertEqual(target(parsed("ws://a/b?x=1"), "last=3").url, "ws://a/b?x=1&last=3")
        self.assertEqual(target(parsed("b", "--url=ws://a"), "last=3").url, "ws://a/b?last=3")

    def test_wrong(self) -> None:
        """What is no URL of a room is wrong usage, and says what to write."""
        for words in (
            ["ftp://a/b"],
            ["ws:///b"],
            ["ws://a:0/b"],
            ["ws://a:99999/b"],
            ["b", "--url=127.0.0.1:8080"],
            ["ws://[a/b?token=secret"],
            ["b", "--url=ws://[a"],
            ["ws://anna:secret@a/b"],
        ):
            with redirect_stderr(StringIO()) as said:
                end = self.assertRaises(SystemExit, target, parsed(*words))
            self.assertEqual(end.code, 2)
            self.assertIn("write ws://HOST:PORT/ROOM, or wss:// for TLS", said.getvalue())
            self.assertNotIn("?", said.getvalue())

    def test_wrong_text(self) -> None:
        """What cannot go over the network is wrong usage; a token is not repeated."""
        for words, why in (
            (["\udcff"], "ROOM: '\\udcff' is not UTF-8"),
            (["b", "--url=ws://\udcff"], "--url: 'ws://\\udcff' is not UTF-8"),
            (["b", "--token=se\ncret"], "--token: not printable ASCII"),
            (["b", "--origin=é"], "--origin: not printable ASCII"),
        ):
            with redirect_stderr(StringIO()) as said:
                self.assertRaises(SystemExit, parsed, *words)
            self.assertIn(why, said.getvalue())
            self.assertNotIn("cret", said.getvalue())

    def test_token(self) -> None:
        """The token comes from the command line or the environment, and goes into Authorization."""
        with mock.patch.dict(os.environ, {"WSRELAY_TOKEN": "a"}):
            self.assertEqual(target(parsed("b")).headers, {"Authorization": "Bearer a"})
            self.assertEqual(target(parsed("b", "--token=c")).headers, {"Authorization": "Bearer c"})
        self.assertEqual(Target("ws://a/b").headers, {})


class EndpointTests(SynchronousTestCase):
    """Where to connect."""

    def test_plain(self) -> None:
        """Host and port of the URL; without a port, 80 or 443."""
        for url, host, port in (("ws://a/", "a", 80), ("ws://[::1]:9/", "::1", 9)):
            endpoint: Any = Target(url).endpoint(reactor())
            self.assertIsInstance(endpoint, HostnameEndpoint)
            self.assertEqual((endpoint._hostText, endpoint._port), (host, port))
        wrapped: Any = Target("wss://a/").endpoint(reactor())
        self.assertEqual(wrapped._wrappedEndpoint._port, 443)

    def test_no_certificate(self) -> None:
        """A file that cannot be read, or is no certificate, raises."""
        self.assertRaises(OSError, Target("wss://a/", ca="/nowhere").endpoint, reactor())
        error = self.assertRaises(ValueError, Target("wss://a/", ca="/dev/null").endpoint, reactor())
        self.assertEqual(str(error), "/dev/null is no certificate (PEM)")


class TLSTests(SynchronousTestCase):
    """Which certificates are accepted."""

    def setUp(self) -> None:
        made = self_signed(["relay.example"], datetime.now(UTC))
        self.file = Path(self.enterContext(tempfile.TemporaryDirectory()), "cert.pem")
        self.file.write_bytes(made.certificate)
        certificate = PrivateCertificate.loadPEM(made.certificate + made.key)
        key = KeyPair.load(made.key, SSL.FILETYPE_PEM)
        self.options = CertificateOptions(privateKey=key.original, certificate=certificate.original)
        self.addCleanup(self.flushWarnings)  # Twisted's use of pyOpenSSL

    def handshake(self, where: Target) -> object:
        """Return why the client has lost its connection; ``None``: it has not."""
        creator = where._creator(where.url.split("/")[2])
        lost: list[object] = []

        class Client(Protocol):
            """Notes why it ends."""

            def connectionLost(self, reason: Any = None) -> None:
                lost.append(reason.value)

        server = TLSMemoryBIOFactory(self.options, False, Factory.forProtocol(Protocol))
        client = TLSMemoryBIOFactory(creator, True, Factory.forProtocol(Client))
        connectedServerAndClient(lambda: server.buildProtocol(None), lambda: client.buildProtocol(None))[2].flush()
        return lost[0] if lost else None

    def test_trust(self) -> None:
        """A self-signed certificate is refused, unless it is named, or all are accepted; a wrong name is, too."""
        where = "wss://relay.example/"
        self.assertIsInstance(self.handshake(Target(where)), SSL.Error)
        self.assertIsNone(self.handshake(Target(where, ca=str(self.file))))
        self.assertIsNone(self.handshake(Target(where, insecure=True)))
        self.assertIsNone(self.handshake(Target("wss://127.0.0.1/", insecure=True)))
        self.assertIsInstance(self.handshake(Target("wss://other.example/", ca=str(self.file))), VerificationError)
