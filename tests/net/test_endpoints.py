"""Tests of wsrelay.net.endpoints."""

import contextlib
import socket
import ssl
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from cryptography.hazmat.primitives import serialization
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import fail
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.live import make_certificate
from tests.harness.support import Relay, RelayTestCase, Transport, request_bytes
from wsrelay.connection.protocol import RelayProtocol
from wsrelay.errors import SettingsError
from wsrelay.net.endpoints import (
    UNSENT_BYTES,
    Door,
    Endpoint,
    admin_endpoint,
    bound_unsent,
    end_when_dead,
    endpoints,
)

#: Deprecated pyOpenSSL functions that Twisted calls.
pytestmark = pytest.mark.filterwarnings("ignore:.*You should use.*cryptography:DeprecationWarning")


class SocketOptionTests(SynchronousTestCase):
    """TCP keepalive, and the bound on unsent bytes."""

    def test_keepalive_inherited(self) -> None:
        """Accepted connections inherit the options of the listening socket."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        end_when_dead(FakePort(listening), 40)
        client = socket.create_connection(listening.getsockname())
        self.addCleanup(client.close)
        accepted = listening.accept()[0]
        self.addCleanup(accepted.close)

        self.assertTrue(accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        for name, value in (("KEEPIDLE", 20), ("KEEPINTVL", 6), ("KEEPCNT", 3)):
            self.assertEqual(accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_{name}")), value, name)

    def test_keepalive_whole_seconds(self) -> None:
        """Times below a second become whole seconds."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        end_when_dead(FakePort(listening), 0.2)

        self.assertEqual(listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 1)

    def test_keepalive_unavailable(self) -> None:
        """Missing socket options and sockets other than TCP are skipped."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        self.patch(socket, "TCP_KEEPCNT", None)  # so that it is put back
        del socket.TCP_KEEPCNT
        end_when_dead(FakePort(listening), 40)
        self.assertEqual(listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 20)
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        end_when_dead(FakePort(ours), 40)
        end_when_dead(FakePort(None), 40)
        self.assertFalse(ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def test_no_user_timeout(self) -> None:
        """The kernel does not end steady readers behind a closed receive window (TRAPS 78)."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        end_when_dead(FakePort(listening), 40)

        self.assertEqual(listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT), 0)

    def test_bound_unsent(self) -> None:
        """The kernel takes a bounded number of bytes for a peer that does not read; without the bound, megabytes."""
        taken = []
        for bound in (lambda _: None, bound_unsent):
            listening = socket.create_server(("127.0.0.1", 0))
            self.addCleanup(listening.close)
            bound(FakePort(listening))
            client = socket.socket()
            self.addCleanup(client.close)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(listening.getsockname())
            accepted = listening.accept()[0]
            self.addCleanup(accepted.close)
            accepted.setblocking(False)
            taken.append(0)
            with contextlib.suppress(BlockingIOError):
                while True:
                    taken[-1] += accepted.send(bytes(UNSENT_BYTES))
        self.assertGreater(taken[0], 10 * UNSENT_BYTES)
        self.assertLessEqual(taken[1], 4 * UNSENT_BYTES)


class ProxyTests(RelayTestCase):
    """PROXY headers."""

    def test_proxy_header_invalid(self) -> None:
        """An invalid PROXY header ends its connection without a traceback; a valid one passes."""
        reactor = MemoryReactorClock()
        endpoint = Endpoint(reactor, "haproxy:tcp:1")
        endpoint.listen(self.relay().factory)
        wrapping = reactor.tcpServers[0][1]
        for words, ended in (
            (b"TCP4 192.0.2.1 192.0.2.2 1 x", True),
            (b"TCP4 \xff 192.0.2.2 1 2", True),
            (b"TCP4 host 192.0.2.2 1 2", True),
            (b"TCP6 a:/64 2001:db8::2 1 2", True),
            (b"TCP6 [2001:db8::1] 2001:db8::2 1 2", True),
            (b"TCP6 2001:db8::1 2001:db8::2 1 2", False),
            (b"TCP4 192.0.2.1 a 1 2", False),
        ):
            protocol = wrapping.buildProtocol(None)
            transport = StringTransport()
            protocol.makeConnection(transport)
            for piece in (b"PROXY TC", words[2:] + b"\r\n" + request_bytes()):
                protocol.dataReceived(piece)
            self.assertEqual((b" 101 " in transport.value(), transport.disconnecting), (not ended, ended), words)

    def test_proxy_unknown(self) -> None:
        """The short form PROXY UNKNOWN, used by health checks, is accepted (TRAPS 56)."""
        reactor = MemoryReactorClock()
        Endpoint(reactor, "haproxy:tcp:1").listen(self.relay().factory)
        protocol = reactor.tcpServers[0][1].buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        protocol.dataReceived(b"PROXY UNKNOWN\r\n" + request_bytes())

        self.assertIn(b" 101 ", transport.value())

    def test_proxy_header_alone(self) -> None:
        """A client counts for its address once its PROXY header has come, however it comes, before its request."""
        v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes((192, 0, 2, 7, 10, 0, 0, 1, 0, 5, 0, 80))
        v1 = b"PROXY TCP4 192.0.2.7 10.0.0.1 5 80\r\n"
        whole = [[v1], [v1[:20], v1[20:]], [v1[:-1], b"\n"], [v1 + b"GET"], [v2], [v2[:20], v2[20:]], [v2 + b"GET"]]
        for parts in whole:
            relay = self.relay()
            protocol = self.proxied(relay, *parts)
            [connection] = relay.factory.connections
            self.assertEqual(connection.visit.address, "192.0.2.7", parts)
            protocol.dataReceived(request_bytes()[3 if parts[-1].endswith(b"GET") else 0 :])
            self.assertIn(b" 101 ", protocol.transport.getOutBuffer(), parts)

    def test_proxy_header_behind_it(self) -> None:
        """A request in the same read as the PROXY header is read once."""
        for behind in (request_bytes(), b"GET"):
            relay = self.relay()
            seen: list[bytes] = []
            self.patch(RelayProtocol, "dataReceived", lambda _, data, seen=seen: seen.append(data))
            self.proxied(relay, b"PROXY TCP4 192.0.2.7 10.0.0.1 5 80\r\n" + behind)
            self.assertEqual(seen, [behind])

    def test_silent_clients_behind_a_proxy(self) -> None:
        """Silent clients are held to the limits of their addresses, and are no burden for the proxy's others."""
        relay = self.relay(max_handshakes=4, max_handshakes_per_address=1)
        silent = [self.proxied(relay, b"PROXY TCP4 192.0.2.7 10.0.0.1 5 80\r\n") for _ in range(4)]
        other = self.proxied(relay, b"PROXY TCP4 192.0.2.8 10.0.0.1 5 80\r\n" + request_bytes())

        self.assertIn(b" 101 ", other.transport.getOutBuffer())
        silent[1].dataReceived(request_bytes())
        self.assertIn(b" 429 ", silent[1].transport.getOutBuffer())

    def test_twisted_passes_no_header_alone(self) -> None:
        """Canary (TRAPS 117): Twisted's wrapper tells nothing of a PROXY header until bytes follow."""
        relay = self.relay()
        protocol = HAProxyWrappingFactory(relay.factory).buildProtocol(None)
        protocol.makeConnection(StringTransport())
        seen: list[bytes] = []
        self.patch(RelayProtocol, "dataReceived", lambda _, data: seen.append(data))
        protocol.dataReceived(b"PROXY TCP4 192.0.2.7 10.0.0.1 5 80\r\n")
        self.assertEqual((seen, protocol.getPeer().host), ([], "192.0.2.7"))

    def proxied(self, relay: Relay, *parts: bytes) -> Any:
        """Connect to a haproxy: endpoint, and send parts."""
        reactor = MemoryReactorClock()
        Endpoint(reactor, "haproxy:tcp:1").listen(relay.factory)
        protocol = reactor.tcpServers[0][1].buildProtocol(None)
        peer = IPv4Address("TCP", "10.0.0.1", 7)
        protocol.makeConnection(Transport(protocol, isServer=True, peerAddress=peer))
        for part in parts:
            protocol.dataReceived(part)
        return protocol


class FakePort:
    """A listening port of a socket."""

    def __init__(self, listening: Any) -> None:
        self.socket = listening


class EndpointTests(RelayTestCase):
    """Endpoint strings."""

    def test_backlog(self) -> None:
        """Our backlog goes to the endpoints that take one and name none."""
        for description, backlog in [
            ("tcp:80", 1024),
            ("tcp:80:backlog=9", 9),
            (r"tcp6:80:interface=\:\:1", 1024),
            ("haproxy:tcp:80", 1024),
        ]:
            reactor = MemoryReactorClock()
            Endpoint(reactor, description).listen(self.relay().factory)
            self.assertEqual(reactor.tcpServers[0][2], backlog)
        reactor = MemoryReactorClock()
        Endpoint(reactor, "unix:/run/relay").listen(self.relay().factory)
        self.assertEqual(reactor.unixServers[0][2], 1024)

    def test_ipv6_beside_ipv4(self) -> None:
        """All IPv6 addresses leave IPv4 to an endpoint with the same port on it, of any kind and in any order."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        pem = make_certificate(folder)
        every = r"interface=\:\:"
        for ipv6 in (
            "tcp6:80",
            f"tcp6:80:{every}",
            f"tcp:80:{every}",
            "haproxy:tcp6:80",
            f"ssl:80:privateKey={pem}:{every}",
            f"tls:{folder}:port=80",
            f"haproxy:tls:{folder}:port=80",
        ):
            for ipv4, only in (
                ("tcp:80", True),
                ("tcp:80:interface=192.0.2.1", True),
                ("haproxy:tcp:80", True),
                (f"ssl:80:privateKey={pem}", True),
                (f"tls:{folder}:port=80:interface=0.0.0.0", True),
                ("tcp:81", False),
                ("tcp:0", False),
                (r"tcp6:80:interface=\:\:1", False),
                ("unix:/run/80", False),
            ):
                made = endpoints(None, [ipv6, "tcp6:0", ipv4])
                self.assertEqual([e._listener.ipv6_only for e in made[:2]], [only, False], (ipv6, ipv4))
                made = endpoints(None, [ipv4, ipv6])
                self.assertEqual(made[1]._listener.ipv6_only, only, (ipv4, ipv6))

    def test_ports_chosen_by_kernel(self) -> None:
        """``tcp:0`` and ``tcp6:0`` are two ports, so the second serves IPv4, too."""
        made = endpoints(None, ["tcp:0", "tcp6:0"])
        self.assertFalse(made[1]._listener.ipv6_only)

    def test_invalid_endpoint(self) -> None:
        """An invalid endpoint string raises."""
        for description in ("nosuch:1", "tcp", "tcp:x", "tcp:1:what=2", "tcp:65536", "tcp:-1", ""):
            with self.assertRaises((ValueError, TypeError)):
                Endpoint(None, description)

    def test_all_invalid_endpoints(self) -> None:
        """Every invalid endpoint string is named."""
        error = self.assertRaises(SettingsError, endpoints, None, ["nosuch:1", "tcp:1", "ssl:2:privateKey=/nowhere"])

        self.assertIn("listen: nosuch:1: there is no such kind of endpoint; write PORT, ", error.problems[0])
        self.assertIn("listen: ssl:2:privateKey=/nowhere: there is no file /nowhere; `wsrelay init`", error.problems[1])
        self.assertEqual(len(error.problems), 2)

    def test_systemd_socket_missing(self) -> None:
        """A missing socket of systemd is reported as such."""
        for which in ("index=5", "name=relay"):
            error = self.assertRaises(ValueError, Endpoint, None, f"systemd:domain=INET:{which}")
            self.assertEqual(str(error), "the service manager has passed no such socket")


class URLTests(RelayTestCase):
    """URLs in the log."""

    def test_url(self) -> None:
        """The scheme comes from the endpoint, host and port from the listening port."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        certificate = make_certificate(folder)
        for description, address, expected in [
            ("tcp:0", IPv4Address("TCP", "127.0.0.1", 8080), "ws://127.0.0.1:8080/"),
            ("tcp6:0", IPv6Address("TCP", "::1", 8080), "ws://[::1]:8080/"),
            (f"ssl:443:privateKey={certificate}", IPv4Address("TCP", "0.0.0.0", 443), "wss://0.0.0.0:443/"),
            (f"haproxy:tls:{folder}", IPv4Address("TCP", "0.0.0.0", 443), "wss://0.0.0.0:443/"),
            ("unix:/run/relay", UNIXAddress(b"/run/relay"), "ws+unix:/run/relay"),
            ("unix:x", UNIXAddress(None), "ws+unix:?"),
        ]:
            self.assertEqual(Endpoint(None, description).url(address), expected)


class CertificatesTests(RelayTestCase):
    """Certificates renewed while the relay runs."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.file = make_certificate(self.folder)
        #: Every kind of TLS endpoint: a canary on the attributes with Twisted's creators of connections.
        self.kinds = [
            prefix + kind
            for prefix in ("", "haproxy:")
            for kind in (f"ssl:443:privateKey={self.file}", f"tls:{self.folder}:interface=127.0.0.1")
        ]

    def listening(self, endpoint: Endpoint, reactor: MemoryReactorClock) -> Any:
        """Listen, and return the outermost factory."""
        factory = self.relay().factory
        endpoint.listen(factory)
        return reactor.tcpServers[0][1]

    def shown(self, factory: Any) -> bytes:
        """Return the certificate of a new connection, by a real handshake in memory."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        server, transport = factory.buildProtocol(None), StringTransport()
        server.makeConnection(transport)
        for _ in range(4):
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
            if outgoing.pending:
                server.dataReceived(outgoing.read())
            incoming.write(transport.value())
            transport.clear()
        certificate = client.getpeercert(binary_form=True)
        assert certificate is not None
        return certificate

    def test_renew_certificates(self) -> None:
        """New connections get the new certificate after the renewal, not before."""
        for description in self.kinds:
            reactor = MemoryReactorClock()
            endpoint = Endpoint(reactor, description)
            factory = self.listening(endpoint, reactor)
            old = self.shown(factory)
            make_certificate(self.folder)
            fresh = Endpoint(None, description)
            self.assertEqual(self.shown(factory), old)
            endpoint.renew(fresh)
            self.assertNotEqual(self.shown(factory), old)
            self.assertEqual(self.shown(factory), ssl.PEM_cert_to_DER_cert(self.pem()))

    def test_renew_without_tls(self) -> None:
        """An endpoint without TLS has nothing to renew."""
        endpoint = Endpoint(None, "tcp:80")
        endpoint.renew(Endpoint(None, "tcp:80"))

        self.assertIsNone(endpoint.certificates)

    def test_certificate_unusable(self) -> None:
        """Files without a certificate and its key raise before the endpoint listens."""
        whole = self.file.read_bytes()
        key_of_another = make_certificate(Path(self.enterContext(tempfile.TemporaryDirectory()))).read_bytes()
        certificate_at = whole.index(b"-----BEGIN CERTIFICATE")
        other_at = key_of_another.index(b"-----BEGIN CERTIFICATE")
        for content in (
            b"",
            b"garbage",
            whole[:-100],
            whole[certificate_at:],
            key_of_another[:other_at] + whole[certificate_at:],
        ):
            self.file.write_bytes(content)
            for description in self.kinds:
                error = self.assertRaises(SettingsError, endpoints, None, [description])
                self.assertTrue(error.problems[0].startswith(f"listen: {description}: "), error)

    def test_encrypted_keys(self) -> None:
        """An encrypted key is refused in both forms: OpenSSL would block on its passphrase (TRAPS 74)."""
        key = serialization.load_pem_private_key(self.file.read_bytes(), None)
        secret = serialization.BestAvailableEncryption(b"secret")
        for form in (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL):
            encrypted = key.private_bytes(serialization.Encoding.PEM, form, secret)
            self.file.write_bytes(encrypted + self.pem().encode())
            for description in self.kinds:
                [problem] = self.assertRaises(SettingsError, endpoints, None, [description]).problems
                self.assertIn(f": the key in {self.file} is encrypted", problem)
            make_certificate(self.folder)

    def pem(self) -> str:
        """Return the certificate in the file."""
        return self.file.read_text()[self.file.read_text().index("-----BEGIN CERTIFICATE") :]


class AdminTests(SynchronousTestCase):
    """The admin endpoint."""

    def where(self, description: str) -> tuple[Any, ...]:
        """Return interface and port of an admin endpoint."""
        reactor = MemoryReactorClock()
        admin_endpoint(reactor, description).listen_now(Factory())
        [server] = reactor.tcpServers
        return server[-1], server[0]

    def test_admin_loopback(self) -> None:
        """The default interface is loopback."""
        pem = make_certificate(Path(self.enterContext(tempfile.TemporaryDirectory())))
        for description, where in (
            ("tcp:1", ("127.0.0.1", 1)),
            ("tcp6:2", ("::1", 2)),
            (f"ssl:3:privateKey={pem}", ("127.0.0.1", 3)),
            ("tcp:4:interface=192.0.2.1", ("192.0.2.1", 4)),
            ("tcp:5:interface=", ("", 5)),
            (f"ssl:6:privateKey={pem}:interface=0.0.0.0", ("0.0.0.0", 6)),
        ):
            self.assertEqual(self.where(description), where, description)

    def test_admin_unix(self) -> None:
        """A unix socket has no interface, and is for its own user unless a mode says otherwise (TRAPS 109)."""
        for description, mode in (
            ("unix:/run/admin", 0o600),
            ("unix:/run/admin:backlog=5", 0o600),
            ("unix:/run/admin:mode=660", 0o660),
            ("unix:/run/admin:666", 0o666),
            ("unix:address=/run/admin", 0o600),
            (r"unix:/run/a\:mode\=666", 0o600),
            (r"unix:/run/a\:interface\=x", 0o600),
        ):
            listen_unix = Mock()
            admin_endpoint(Mock(listenUNIX=listen_unix), description).listen(Factory())
            self.assertEqual(listen_unix.call_args.kwargs["mode"], mode, description)

    def test_admin_short(self) -> None:
        """A port alone is on loopback; an address is kept, also that of all interfaces."""
        for description, interface in (("9100", "127.0.0.1"), (":9100", "0.0.0.0"), ("[::]:9100", "::")):
            self.assertEqual(admin_endpoint(None, description)._place(), (interface, 9100))

    def test_admin_invalid(self) -> None:
        """An invalid endpoint names its option and the allowed kinds."""
        for description in (
            "nowhere:1",
            "haproxy:tcp:1",
            "99999",
            "tcp:x",
            "tcp:1:nosuch=1",
            "unix:/run/admin:mode=rw",
            "unix:\\",
            "systemd:domain=INET:name=a",
        ):
            [problem] = self.assertRaises(SettingsError, admin_endpoint, None, description).problems
            self.assertTrue(problem.startswith(f"admin: {description.split(':interface')[0]}"), problem)


class DoorTests(SynchronousTestCase):
    """Listening addresses for clients."""

    def test_door(self) -> None:
        """A door has the address, TLS and the PROXY protocol of its endpoint."""
        reactor = MemoryReactorClock()
        pem = make_certificate(Path(self.enterContext(tempfile.TemporaryDirectory())))
        for description, is_tls, speaks_proxy in (
            ("tcp:1", False, False),
            (f"ssl:2:privateKey={pem}", True, False),
            ("haproxy:tcp:3", False, True),
            (f"haproxy:ssl:4:privateKey={pem}", True, True),
        ):
            endpoint = Endpoint(reactor, description)
            port = endpoint.listen_now(Factory())
            self.assertEqual(endpoint.door(port), Door(port.getHost(), is_tls, speaks_proxy), description)

    def test_address_in_use(self) -> None:
        """An address in use raises at once."""
        endpoint = Endpoint(MemoryReactorClock(), "tcp:1")
        self.patch(endpoint, "listen", lambda factory: fail(CannotListenError("", 1, OSError())))
        self.assertRaises(CannotListenError, endpoint.listen_now, Factory())
