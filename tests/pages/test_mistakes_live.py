"""docs/mistakes.md: the mistakes that need a browser, a proxy or make."""

import http.client
import signal
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.harness.live import SECONDS, Process, make_certificate, relay, require, run, taken_port
from tests.pages.page import ROOT, spans
from tests.pages.test_mistakes import table

#: A page that opens a WebSocket without TLS, and shows what becomes of it.
DOCUMENT = b"""<!doctype html><pre></pre><script>
const show = (text) => { document.querySelector("pre").textContent = text; };
try {
  new WebSocket("ws://relay.example/chat").onclose = (event) => show(`closed with ${event.code}`);
} catch (error) {
  show(`${error.name}: ${error.message}`);
}
</script>"""

#: nginx with the directives for a handshake left out; it inherits its listening socket.
NGINX = """
daemon off; user root; pid nginx.pid; error_log stderr error; worker_processes 1;
events { worker_connections 64; }
http {
    access_log off; client_body_temp_path b; proxy_temp_path p;
    fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    server { listen 127.0.0.1:PORT; location / { proxy_pass RELAY; proxy_http_version VERSION; } }
}
"""

#: Fields of a handshake.
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


class Site(BaseHTTPRequestHandler):
    """A site with one page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(DOCUMENT)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def https_site(folder: Path) -> Iterator[str]:
    """Run a site with TLS; give its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(make_certificate(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join(SECONDS)


@contextmanager
def terminated(process: Process) -> Iterator[None]:
    """Run nginx while the block runs; SIGKILL would leave its worker running."""
    with process:
        try:
            yield
        finally:
            process.signal(signal.SIGTERM)
            process.wait()


def said(mistake: str) -> str:
    """Return what the page says that is said."""
    (text,) = spans(table()[mistake][1])
    return text


@pytest.mark.deploy
def test_mixed_content(tmp_path: Path) -> None:
    """Chromium refuses a WebSocket without TLS of a page with TLS, with the text on the page."""
    with https_site(tmp_path) as url:
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        options = (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--ignore-certificate-errors",
            "--no-proxy-server",
        )
        shown = run(require("chromium"), *options, profile, "--virtual-time-budget=5000", "--dump-dom", url)
    assert said("a page on https:// opens ws://") in shown.stdout


@pytest.mark.deploy
@pytest.mark.parametrize(
    ("mistake", "version"), [("a proxy that does not pass Upgrade on", "1.1"), ("a proxy that speaks HTTP/1.0", "1.0")]
)
def test_proxy(mistake: str, version: str, tmp_path: Path) -> None:
    """Through nginx as it is, a handshake is refused with the text on the page."""
    with relay() as server, closing(taken_port()) as reserved:
        port = reserved.getsockname()[1]
        config = NGINX.replace("PORT", str(port)).replace("RELAY", server.addresses[0].replace("ws", "http"))
        (tmp_path / "nginx.conf").write_text(config.replace("VERSION", version), "ascii")
        command = [require("nginx"), "-e", "stderr", "-p", str(tmp_path), "-c", "nginx.conf"]
        inherited = {"NGINX": f"{reserved.fileno()};"}
        with terminated(Process(command, str(tmp_path), inherited, [reserved.fileno()])):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
            connection.request("GET", "/chat", headers=HANDSHAKE)
            response = connection.getresponse()
            assert response.status == 426
            assert said(mistake) in response.read().decode()
            connection.close()


@pytest.mark.interop
def test_old_python(tmp_path: Path) -> None:
    """Make refuses a Python that is too old with the text on the page."""
    python = tmp_path / "python3.10"
    python.write_text("#!/bin/sh\nexit 1\n", "ascii")  # as for `sys.version_info < (3, 11)`
    python.chmod(0o755)
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text("utf-8"), "utf-8")
    for name in ("setup.cfg", "setup.py", "wsrelay/_native.c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    ended = run("make", "relay", f"PYTHON={python}", cwd=tmp_path)
    assert (ended.returncode, said("Python is too old") in ended.stdout) == (2, True), ended.stdout
