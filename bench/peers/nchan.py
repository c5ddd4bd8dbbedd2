"""Become an nginx with Nchan: find a free port, write the configuration, and run it in the place of this process.

Usage: ``nchan.py MODULE [--deflate]``, in an empty folder.
"""

import os
import socket
import sys
from pathlib import Path

#: A publisher waits for the window of its messages, so a buffer of many windows never overflows.
CONFIGURATION = """\
load_module {module};
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid nginx.pid;
error_log stderr warn;
{user}
events {{
    worker_connections 19000;
}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            nchan_pubsub websocket;
            nchan_channel_id $uri;
            nchan_message_buffer_length 1024;
            nchan_message_timeout 10s;
            nchan_subscriber_first_message newest;
            nchan_deflate_message_for_websocket {deflate};
        }}
    }}
}}
"""


def free_port() -> int:
    """Find a port that nobody listens on: nginx itself takes no port 0."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def main(module: str, *options: str) -> None:
    """Write the configuration into the working directory, say which port it has, and become nginx."""
    # As root, nginx would have its worker run as somebody who may not write here.
    user = "user root;" if os.geteuid() == 0 else ""
    port = free_port()
    deflate = "on" if "--deflate" in options else "off"
    text = CONFIGURATION.format(module=module, port=port, user=user, deflate=deflate)
    Path("nginx.conf").write_text(text, encoding="utf-8")
    print("listening on", port, flush=True)
    os.execvp("nginx", ["nginx", "-p", os.getcwd(), "-c", "nginx.conf"])  # noqa: S606 - the same process, no shell


main(*sys.argv[1:])
