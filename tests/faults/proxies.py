"""nginx and HAProxy in front of a relay, configured as leniently as possible.

They listen on sockets opened here, on ports chosen by the kernel: no other process can take them, and early clients
wait in the backlog. Each proxy replaces ``X-User`` and ``X-Forwarded-For`` of the client by its own.
"""

import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.harness.live import Process, require, taken_port

#: Passes underscores and other unusual names, which nginx drops by default.
_NGINX = """
daemon off; user root; pid nginx.pid; error_log stderr error; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path body; proxy_temp_path proxy;
  fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  underscores_in_headers on; ignore_invalid_headers off; large_client_header_buffers 4 64k;
  server {{
    listen {host}:{port} {options};
    location / {{
      proxy_pass http://127.0.0.1:{relay};
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_set_header X-User proxy;
      proxy_set_header X-Forwarded-For $remote_addr;
    }}
  }}
}}
"""

_HAPROXY = """
global
  maxconn 64
  tune.bufsize 65536
defaults
  mode http
  timeout connect 30s
  timeout client 30s
  timeout server 30s
  timeout tunnel 30s
frontend clients
  bind fd@{descriptor}
  option accept-invalid-http-request
  http-request set-header X-User proxy
  http-request set-header X-Forwarded-For %[src]
  default_backend relay
backend relay
  server relay 127.0.0.1:{relay} {options}
"""


@contextmanager
def nginx(
    relay: int, folder: Path, options: str = "", host: str = "127.0.0.1", environ: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Run nginx in front of a relay's port; yield nginx's port.

    Args:
        relay: the relay's port.
        folder: for its configuration and files.
        options: of its ``listen``.
        host: where it listens.
        environ: added to our environment.
    """
    with taken_port(host) as listening:
        port = listening.getsockname()[1]
        (folder / "nginx.conf").write_text(_NGINX.format(host=host, port=port, options=options, relay=relay))
        # nginx inherits listening sockets this way in an upgrade.
        environ = {**(environ or {}), "NGINX": f"{listening.fileno()};"}
        command = [require("nginx"), "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"]
        with Process(command, str(folder), environ, [listening.fileno()]) as process:
            try:
                yield port
            finally:
                process.signal(signal.SIGTERM)  # killed, it would leave its worker behind
                process.wait()


@contextmanager
def haproxy(relay: int, folder: Path, options: str = "") -> Iterator[int]:
    """Run HAProxy in front of a relay's port; yield HAProxy's port.

    Args:
        relay: the relay's port.
        folder: for the configuration.
        options: for the ``server`` line, such as ``send-proxy``.
    """
    with taken_port() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        file = folder / "haproxy.cfg"
        file.write_text(_HAPROXY.format(descriptor=listening.fileno(), relay=relay, options=options))
        with Process([require("haproxy"), "-db", "-f", str(file)], str(folder), {}, [listening.fileno()]):
            yield int(listening.getsockname()[1])


#: Name → proxy.
PROXIES: dict[str, Callable[..., object]] = {"nginx": nginx, "haproxy": haproxy}
