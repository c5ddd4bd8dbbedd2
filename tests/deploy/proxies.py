"""nginx, HAProxy and Caddy in front of a relay, as deploy/ configures them.

Different from the files in deploy/: listening addresses, the relay's address, the certificate and, in some tests, idle
timeouts. nginx and HAProxy inherit listening sockets. Caddy cannot: its ports are reserved by sockets bound with
SO_REUSEPORT that do not listen.
"""

import http.client
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deploy.files import rendered
from tests.faults.support import port
from tests.harness.clients import WebsocketsClient, tls_context
from tests.harness.live import LOOPBACK, SECONDS, Process, Relay, require, taken_port

#: The idle timeout in the files of nginx and HAProxy; Caddy has none.
IDLE = "90s"

#: Endpoints of a relay: the first for nginx and Caddy, the second for HAProxy.
LISTEN = [LOOPBACK, f"haproxy:{LOOPBACK}"]

#: Address of the clients, different from the proxy's.
CLIENT = "127.0.0.2"


@dataclass(frozen=True)
class Place:
    """Parameters of a proxy.

    Attributes:
        relay: the upstream relay; listens at :data:`LISTEN`.
        admin: the port of its /readyz.
        certificate: file with the certificate for ``localhost`` and its key.
        folder: for files of the proxy.
        idle: idle timeout.
        other: a second relay; without `shared` the proxy sends each room to one of the two.
        shared: the two share a broker, and the proxy chooses as this group of deploy/ says: ``nodes`` or ``rooms``.
        other_admin: the port of the second relay's /readyz.
    """

    relay: Relay
    admin: int
    certificate: Path
    folder: Path
    idle: str = IDLE
    other: Relay | None = None
    shared: str = ""
    other_admin: int = 0

    def several(self, lines: Mapping[str, str], endpoint: int = 0) -> dict[str, str]:
        """Return the replacements for two relays, none for one.

        Args:
            lines: line that is a comment in the file → what stands behind it; ``PORT`` is that of the second relay.
            endpoint: its endpoint in :data:`LISTEN`.
        """
        if self.other is None or self.shared:
            return {}
        second = str(port(self.other, endpoint))
        return {f"# {line}\n": f"{line}\n{more.replace('PORT', second)}" for line, more in lines.items()}

    def group(self, name: str, endpoint: int = 0) -> str:
        """Return a file of deploy/ with the groups of two relays, with the ports of these two, or nothing for one.

        Args:
            name: of the file.
            endpoint: of the relays in :data:`LISTEN`.
        """
        if self.other is None or not self.shared:
            return ""
        places = {
            "127.0.0.1:8001": f"127.0.0.1:{port(self.relay, endpoint)}",
            "127.0.0.1:8002": f"127.0.0.1:{port(self.other, endpoint)}",
        }
        if endpoint:
            places |= {
                "check port 18001": f"check port {self.admin}",
                "check port 18002": f"check port {self.other_admin}",
            }
        return rendered(name, places)


@dataclass(frozen=True)
class Proxy:
    """A running proxy.

    Attributes:
        process: the program.
        port: its port with TLS.
        plain: its port without TLS.
        certificate: its certificate.
    """

    process: Process
    port: int
    plain: int
    certificate: Path

    def client(self, path: str = "/room", origin: str | None = None, **options: Any) -> WebsocketsClient:
        """Return a client connected over TLS from :data:`CLIENT`; the default origin is the same host."""
        connection = socket.create_connection(("127.0.0.1", self.port), SECONDS, (CLIENT, 0))
        return WebsocketsClient(
            f"wss://localhost:{self.port}{path}",
            sock=connection,
            ssl=tls_context(self.certificate),
            origin=origin or f"https://localhost:{self.port}",
            **options,
        )

    @contextmanager
    def answer(self, path: str, **fields: str) -> Iterator[http.client.HTTPResponse]:
        """Send a GET over TLS and give the response; its body can be read while the block runs."""
        context = tls_context(self.certificate)
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=SECONDS, context=context)
        with closing(connection):
            connection.request("GET", path, headers=fields)
            with connection.getresponse() as response:
                yield response


_NGINX = """
daemon off; user root; pid nginx.pid; error_log stderr error; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  client_body_temp_path body; proxy_temp_path proxy;
  fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  {ours}
}}
"""


def nginx_configuration(place: Place, plain: int, encrypted: int) -> Path:
    """Write the configuration of nginx, with the surroundings that Debian's nginx.conf has, and return it."""
    ours = rendered(
        "nginx/wsrelay.conf",
        {
            "listen 80;": f"listen 127.0.0.1:{plain};",
            "listen [::]:80;": "",
            "listen 443 ssl sndbuf=64k;": f"listen 127.0.0.1:{encrypted} ssl sndbuf=64k;",
            "listen [::]:443 ssl sndbuf=64k;": "",
            "/etc/nginx/tls/relay.pem": str(place.certificate),
            "/etc/nginx/tls/relay.key": str(place.certificate),
            "127.0.0.1:8080 ": f"127.0.0.1:{port(place.relay)} ",
            f"proxy_read_timeout {IDLE}": f"proxy_read_timeout {place.idle}",
            f"proxy_send_timeout {IDLE}": f"proxy_send_timeout {place.idle}",
            **place.several({"hash $uri consistent;": "server 127.0.0.1:PORT;\n"}),
            **({"http://wsrelay;": f"http://wsrelay_{place.shared};"} if place.shared else {}),
        },
    )
    ours += place.group("nginx/nodes.conf")
    file = place.folder / "nginx.conf"
    file.write_text(_NGINX.format(ours=ours))
    return file


@contextmanager
def nginx(place: Place) -> Iterator[Proxy]:
    """Run nginx."""
    with taken_port() as plain, taken_port() as encrypted:
        ports = [taken.getsockname()[1] for taken in (plain, encrypted)]
        file = nginx_configuration(place, *ports)
        # nginx inherits listening sockets by this variable when it upgrades its binary.
        environ = {"NGINX": f"{plain.fileno()};{encrypted.fileno()};"}
        command = [require("nginx"), "-p", str(place.folder), "-c", str(file), "-e", "stderr"]
        with Process(command, str(place.folder), environ, [plain.fileno(), encrypted.fileno()]) as process:
            try:
                yield Proxy(process, ports[1], ports[0], place.certificate)
            finally:
                process.signal(signal.SIGTERM)  # SIGKILL leaves the worker running
                process.wait()


#: A server without a probe, for :meth:`Place.several`.
_HAPROXY_SECOND = "    server two 127.0.0.1:PORT send-proxy-v2\n"


@contextmanager
def haproxy(place: Place) -> Iterator[Proxy]:
    """Run HAProxy."""
    with taken_port() as plain, taken_port() as encrypted:
        for listening in (plain, encrypted):
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        configuration = rendered(
            "haproxy/haproxy.cfg",
            {
                "user haproxy": "",
                "group haproxy": "",
                "bind :80": f"bind fd@{plain.fileno()}",
                "bind :443": f"bind fd@{encrypted.fileno()}",
                "/etc/haproxy/tls/relay.pem": str(place.certificate),
                "127.0.0.1:8080 ": f"127.0.0.1:{port(place.relay, 1)} ",
                "check port 8081": f"check port {place.admin}",
                **place.several({"balance hash path,url_dec": "", "hash-type consistent": _HAPROXY_SECOND}, 1),
                **({"default_backend relay": f"default_backend {place.shared}"} if place.shared else {}),
                **{f"timeout {what} {IDLE}": f"timeout {what} {place.idle}" for what in ("client", "server", "tunnel")},
            },
        )
        file = place.folder / "haproxy.cfg"
        file.write_text(configuration + place.group("haproxy/nodes.cfg", 1))
        descriptors = [plain.fileno(), encrypted.fileno()]
        with Process([require("haproxy"), "-db", "-f", str(file)], str(place.folder), {}, descriptors) as process:
            yield Proxy(process, encrypted.getsockname()[1], plain.getsockname()[1], place.certificate)


@contextmanager
def _held_port() -> Iterator[int]:
    """Reserve a port for a program that binds it with SO_REUSEPORT."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def relays(place: Place) -> str:
    """Return what WSRELAY_RELAYS says: addresses and ports of the relays."""
    both = [place.relay, place.other] if place.other and place.shared else [place.relay]
    return " ".join(f"127.0.0.1:{port(each)}" for each in both)


@contextmanager
def caddy(place: Place) -> Iterator[Proxy]:
    """Run Caddy, with a local certificate instead of ACME."""
    with _held_port() as plain, _held_port() as encrypted:
        site = rendered(
            "caddy/Caddyfile",
            {
                "relay.example.com} {": f"}} {{\nbind 127.0.0.1\ntls {place.certificate} {place.certificate}",
                "{$WSRELAY_RELAYS:127.0.0.1:8080}": relays(place),
                "health_port 8081": f"health_port {place.admin}",
                **place.several(
                    {
                        "request_header X-Wsrelay-Room {path}": "",
                        "lb_policy header X-Wsrelay-Room": "to 127.0.0.1:PORT\n",
                        "header_up -X-Wsrelay-Room": "",
                    }
                ),
            },
        )
        file = place.folder / "Caddyfile"
        file.write_text(f"{{\nadmin off\nhttp_port {plain}\n}}\n{site}")
        environ = {"HOME": str(place.folder), "WSRELAY_SITE": f"https://localhost:{encrypted}"}
        environ |= {"XDG_DATA_HOME": str(place.folder), "XDG_CONFIG_HOME": str(place.folder)}
        command = [require("caddy"), "run", "--config", str(file), "--adapter", "caddyfile"]
        with Process(command, str(place.folder), environ) as process:
            process.output.wait_for("serving initial configuration")
            yield Proxy(process, encrypted, plain, place.certificate)


#: Name → proxy.
PROXIES: dict[str, Callable[[Place], AbstractContextManager[Proxy]]] = {
    "caddy": caddy,
    "haproxy": haproxy,
    "nginx": nginx,
}
