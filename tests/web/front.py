"""Stands in front of a relay and serves the demo page at ``/``, all else is passed on, byte for byte."""

import base64
import hashlib
import re
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import wsrelay.web
from tests.live import SECONDS

PAGE = Path(wsrelay.web.__file__).with_name("demo.html").read_bytes()


def policy(page: bytes) -> str:
    """Return the Content-Security-Policy of a page with one style and one script in it."""
    hashes = {}
    for tag in (b"style", b"script"):
        (text,) = re.findall(b"<%b>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
        hashes[tag.decode()] = base64.b64encode(hashlib.sha256(text).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{hashes['style']}'; script-src 'sha256-{hashes['script']}'; "
        "connect-src 'self' ws: wss:; img-src blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def response(page: bytes) -> bytes:
    """Return the response with the page in it."""
    fields = [
        "HTTP/1.1 200 OK",
        "Content-Type: text/html; charset=utf-8",
        f"Content-Length: {len(page)}",
        f"Content-Security-Policy: {policy(page)}",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    return "\r\n".join([*fields, "", ""]).encode() + page


def pipe(source: socket.socket, sink: socket.socket) -> None:
    """Pass bytes on until there are no more."""
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


class Front(socketserver.ThreadingTCPServer):
    """Listens."""

    daemon_threads = True
    relay_port = 0
    context: ssl.SSLContext | None = None


class Handler(socketserver.BaseRequestHandler):
    """Serves the page, or passes on."""

    server: Front

    def finish(self) -> None:
        self.connection.close()

    def handle(self) -> None:
        with suppress(OSError):
            connection = self.connection = self.request
            if self.server.context is not None:
                connection = self.server.context.wrap_socket(connection, server_side=True)
                self.connection = connection
            head = b""
            while b"\r\n\r\n" not in head:
                if not (data := connection.recv(65536)):
                    return
                head += data
            if head.startswith((b"GET / ", b"GET /?")) and b"upgrade: websocket" not in head.lower():
                connection.sendall(response(PAGE))
                return
            with socket.create_connection(("127.0.0.1", self.server.relay_port), SECONDS) as onward:
                onward.settimeout(None)
                onward.sendall(head)
                back = threading.Thread(target=pipe, args=(onward, connection), daemon=True)
                back.start()
                pipe(connection, onward)
                back.join(SECONDS)


@contextmanager
def front(relay_port: int, certificate: Path | None = None) -> Iterator[str]:
    """Serve in front of a relay, and give the URL of the page."""
    with Front(("127.0.0.1", 0), Handler) as server:
        server.relay_port = relay_port
        if certificate is not None:
            server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            server.context.load_cert_chain(certificate)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join(SECONDS)
