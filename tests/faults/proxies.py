"""nginx and HAProxy in front of a relay, as lenient as they can be set.

They listen on sockets that are opened here, on ports of the kernel's choice: nobody else can take these, and who
connects before the proxy has started waits. Each takes away what a client says of itself in ``X-User`` and
``X-Forwarded-For`` and says it better.
"""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness.live import Process, require, taken_port

#: Underscores and other strange names pass, where nginx would drop them; control bytes are nginx's own business.
_NGINX = """
daemon off; user root; pid nginx.pid; error_log stderr error; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path body; proxy_temp_path proxy;
  fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  underscores_in_headers on; ignore_invalid_headers off; large_client_header_buffers 4 64k;
  server {{
    listen 127.0.0.1:{port};
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
def nginx(relay: int, folder: Path, _options: str = "") -> Iterator[int]:
    """Run nginx in front of a relay's port; give its own."""
    with taken_port() as listening:
        port = listening.getsockname()[1]
        (folder / "nginx.conf").write_text(_NGINX.format(port=port, relay=relay))
        # How a new nginx gets the sockets of the one that it replaces.
        environ = {"NGINX": f"{listening.fileno()};"}
        command = [require("nginx"), "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"]
        with Process(command, str(folder), environ, [listening.fileno()]) as process:
            try:
                yield port
            finally:
                process.signal(signal.SIGTERM)  # killed, it would leave its worker behind
                process.wait()


@contextmanager
def haproxy(relay: int, folder: Path, options: str = "") -> Iterator[int]:
    """Run HAProxy in front of a relay's port; give its own.

    Args:
        relay: the relay's port.
        folder: for the configuration.
        options: of the relay as a server: ``send-proxy`` and the like.
    """
    with taken_port() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        file = folder / "haproxy.cfg"
        file.write_text(_HAPROXY.format(descriptor=listening.fileno(), relay=relay, options=options))
        with Process([require("haproxy"), "-db", "-f", str(file)], str(folder), {}, [listening.fileno()]):
            yield int(listening.getsockname()[1])


#: By name.
PROXIES: dict[str, Callable[..., object]] = {"nginx": nginx, "haproxy": haproxy}
