"""Messages, origins, subprotocols and cookies of pages, in Chromium and in Firefox."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.harness.browsers import Browser, Driver, Page, blank_site
from tests.harness.clients import WebsocketsClient, binary, text, tls_context
from tests.harness.live import LOOPBACK, SECONDS, Relay, make_certificate, relay

pytestmark = pytest.mark.deploy

#: Resolves with ``open`` and the subprotocol, or with ``closed`` and the code.
CONNECT = """new Promise((resolve) => {
  const socket = new WebSocket(...%s);
  socket.onclose = (event) => resolve(["closed", event.code]);
  socket.onopen = () => { resolve(["open", socket.protocol]); socket.close(); };
})"""

#: The same from a sandboxed frame, whose origin is opaque.
SANDBOXED = """new Promise((resolve) => {
  const frame = document.createElement("iframe");
  frame.sandbox = "allow-scripts";
  frame.srcdoc = "<script>" + %s + ".then((outcome) => parent.postMessage(outcome, '*'))</" + "script>";
  onmessage = (event) => resolve(event.data);
  document.body.append(frame);
})"""

#: Says hello and keeps what it hears; `heard` resolves when the socket is closed, after "bye".
EXCHANGE = """window.heard = new Promise((resolve) => {
  const socket = new WebSocket(%s);
  const heard = [];
  socket.binaryType = "arraybuffer";
  socket.onopen = () => socket.send("hello from the browser");
  socket.onmessage = ({ data }) => {
    heard.push(typeof data === "string" ? data : data.byteLength);
    if (data === "bye") socket.close(1000);
  };
  socket.onclose = ({ code, wasClean }) => resolve([...heard, code, wasClean]);
}); null"""

OPEN = ["open", ""]
REFUSED = ["closed", 1006]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a site of empty pages."""
    with blank_site() as started:
        yield started


@pytest.fixture
def page(each_browser: Browser) -> Iterator[Page]:
    """A page without an address; tests open one."""
    opened = each_browser.page("about:blank")
    yield opened
    opened.close()


@pytest.fixture
def file(tmp_path: Path) -> str:
    """The file: URL of a page."""
    path = tmp_path / "page.html"
    path.write_text("<!doctype html><title>a file</title>")
    return path.as_uri()


def connect(page: Page, server: Relay, *protocols: str) -> object:
    """Return the outcome of a connection from a page."""
    return page.run(CONNECT % json.dumps([server.url("room"), *([list(protocols)] if protocols else [])]))


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_messages(page: Page, port: int, scheme: str, tmp_path: Path) -> None:
    """A page exchanges messages with a websockets client, over ws and wss."""
    certificate = make_certificate(tmp_path)
    endpoint = {"ws": LOOPBACK, "wss": f"ssl:0:interface=127.0.0.1:privateKey={certificate}"}[scheme]
    context = tls_context(certificate) if scheme == "wss" else None
    page.go(f"http://app.localhost:{port}/")
    with (
        relay("--validate", "origin:*", listen=[endpoint]) as server,
        WebsocketsClient(server.url("/room"), ssl=context) as client,
    ):
        page.run(EXCHANGE % json.dumps(server.url("/room")))
        assert client.hear() == "hello from the browser"
        for said in (text("grüß"), binary(b"\0" * 2**20), text("bye")):
            client.say(said)
        assert page.run("heard") == ["grüß", 2**20, "bye", 1000, True]


def remedy(server: Relay, origin: str) -> str:
    """Return the argument of --validate that the log gives against the refusal of an origin."""
    line = (
        rf"denied with 403: 'the origin {re.escape(origin)} is not allowed.*; to allow .*--validate (\S+)' \(origin\)"
    )
    return server.output.wait_for(line)[0]


def test_origin_refused(page: Page, port: int) -> None:
    """The log names the refused origin and what to write, with which the page connects."""
    page.go(f"http://app.localhost:{port}/")
    with relay() as server:
        assert connect(page, server) == REFUSED
        argument = remedy(server, f"http://app.localhost:{port}")
    with relay("--validate", argument) as server:
        assert connect(page, server) == OPEN


def test_origin_subdomains(page: Page, port: int) -> None:
    """A pattern allows pages of subdomains, and no page of a similar name."""
    with relay("--validate", f"origin:http://*.good.localhost:{port}") as server:
        for host in ("a.good.localhost", "a.b.good.localhost"):
            page.go(f"http://{host}:{port}/")
            assert connect(page, server) == OPEN, host
        for host in ("good.localhost", "evil-good.localhost", "a.good.localhost.evil.localhost", "localhost"):
            page.go(f"http://{host}:{port}/")
            assert connect(page, server) == REFUSED, host
            server.output.wait_for(rf"the origin http://{re.escape(host)}:{port} is not allowed")


def test_origin_any_port(page: Page, port: int) -> None:
    """A pattern allows pages of a host on every port."""
    with relay("--validate", "origin:http://localhost:*") as server, blank_site() as other:
        for number in (port, other):
            page.go(f"http://localhost:{number}/")
            assert connect(page, server) == OPEN
        page.go(f"http://a.localhost:{port}/")
        assert connect(page, server) == REFUSED


def test_origin_null(page: Page, port: int, file: str) -> None:
    """Pages of files, and sandboxed frames of any site, send the origin null, and are refused by default."""
    with relay() as server, relay("--validate", "origin:null") as lax:
        page.go(file)
        assert connect(page, server) == REFUSED
        assert remedy(server, "null") == "origin:same-host,null"
        assert connect(page, lax) == OPEN
        page.go(f"http://a.localhost:{port}/")
        for started, outcome in ((server, REFUSED), (lax, OPEN)):
            assert page.run(SANDBOXED % json.dumps(CONNECT % json.dumps([started.url()]))) == outcome


def test_origin_file(browser_driver: Driver, file: str) -> None:
    """Chromium as web views set it up sends file://, which is allowed by that name."""
    chromium = browser_driver.browser("chromium", "--allow-file-access-from-files")
    with relay() as server, relay("--validate", "origin:file://") as lax:
        page = chromium.page(file)
        assert connect(page, server) == REFUSED
        assert remedy(server, "file://") == "origin:same-host,file://"
        assert connect(page, lax) == OPEN


def test_subprotocol_unchosen(page: Page, port: int, each_browser: Browser) -> None:
    """Where a page offers subprotocols and none is chosen, Chromium fails, as its standard says; the log says why."""
    page.go(f"http://app.localhost:{port}/")
    with relay("--validate", "origin:*") as server:
        outcome = REFUSED if each_browser.name == "chromium" else OPEN
        assert connect(page, server, "chat", "v2") == outcome
        server.output.wait_for(r"joined 'room' .*; subprotocol: none of chat, v2\n")
    with relay("--validate", "origin:*", "--validate", "subprotocol:v2") as server:
        assert connect(page, server, "chat", "v2") == ["open", "v2"]
        assert connect(page, server) == OPEN
        assert "none of" not in server.output.text


@contextmanager
def back_end(questions: list[dict[str, Any]]) -> Iterator[str]:
    """Run a back end for the http validator, which allows every request and keeps it; give its URL."""

    class Allow(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            questions.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Allow) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join(SECONDS)


@pytest.mark.parametrize("cookies", [["name=José"], ["city=東京", "mood=🙂", "a=b"]], ids=["latin", "others"])
def test_cookies_not_ascii(page: Page, port: int, cookies: list[str]) -> None:
    """A page with cookies beyond ASCII connects, and a back end can read their bytes."""
    questions: list[dict[str, Any]] = []
    with back_end(questions) as url, relay("--validate", "origin:*", "--validate", f"http:{url}") as server:
        page.go(f"http://127.0.0.1:{port}/")  # cookies are by host, not by port
        for cookie in cookies:
            page.run(f"document.cookie = {json.dumps(cookie)}")
        assert connect(page, server) == OPEN
        for cookie in cookies:
            page.run(f"document.cookie = {json.dumps(cookie.partition('=')[0] + '=; max-age=0')}")
    sent = questions[0]["headers"]["cookie"]
    # A byte beyond ASCII is a character whose low eight bits are the byte.
    assert bytes([ord(character) & 0xFF for character in sent]).decode() == "; ".join(cookies)
