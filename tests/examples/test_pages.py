"""Tests of the pages, examples/browser.html and examples/webrtc.html, in Chromium and in Firefox."""

import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.examples.stage import Close, Refuse, in_turn, stage
from tests.harness.browsers import Browser, Page
from tests.harness.clients import WebsocketsClient, binary, text
from tests.harness.live import SECONDS, Relay, relay
from wsrelay.closecodes import TABLE, TOO_BIG, TOO_SLOW

pytestmark = pytest.mark.deploy

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"

#: Makes the first back-off 50 ms.
QUICK = "Math.random = () => 0.05;"


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def do_GET(self) -> None:
        """Serve a file, or 204 for the icon: a 404 would be an error in the console."""
        if self.path != "/favicon.ico":
            super().do_GET()
            return
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The URL of the examples folder, served by http.server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=EXAMPLES)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join(SECONDS)


@pytest.fixture
def open_page(each_browser: Browser, site: str) -> Iterator["Open"]:
    """Opens pages, and closes them at the end."""
    opener = Open(each_browser, site)
    yield opener
    for page in opener.pages:
        page.close()


class Open:
    """Opens pages of the site.

    Attributes:
        pages: the open ones.
    """

    def __init__(self, browser: Browser, site: str) -> None:
        self._browser = browser
        self._site = site
        self.pages: list[Page] = []

    def __call__(self, name: str, url: str, before: str = QUICK) -> Page:
        """Open a page that connects to a URL; ``before`` runs before the page's script."""
        page = self._browser.page(f"{self._site}{name}?{urllib.parse.urlencode({'url': url})}", before=before)
        self.pages.append(page)
        return page

    def close(self, page: Page) -> None:
        """Close a page before the end."""
        self.pages.remove(page)
        page.close()


def until_text(page: Page, element: str, *wanted: str) -> None:
    """Wait until the text of an element contains all parts."""
    condition = " && ".join(f"$({element!r}).textContent.includes({part!r})" for part in wanted)
    page.until(f"({condition})")


def say(page: Page, what: str) -> None:
    """Type a message and press Enter."""
    page.run("$('text').focus()")
    page.type(what)
    page.press("Enter")
    until_text(page, "messages", f"me: {what}")


def heard(client: WebsocketsClient) -> list[dict[str, Any]]:
    """Return the JSON messages received so far; a ping and its pong make sure that all have arrived."""
    assert client.ws.ping().wait(SECONDS)
    found = []
    with suppress(TimeoutError):
        while True:
            found.append(json.loads(client.ws.recv(0)))
    return found


def again(server: Relay) -> str:
    """Return the endpoint of a stopped relay, for its successor."""
    return server.url().replace("ws://127.0.0.1:", "tcp:interface=127.0.0.1:").rstrip("/")


def test_browser_messages(open_page: Open) -> None:
    """Two pages and a client exchange messages; messages are shown as text, binary ones by their size."""
    with relay("--drain-seconds", "0") as server, WebsocketsClient(server.url("/chat")) as other:
        first, second = (open_page("browser.html", server.url("/chat")) for _ in range(2))
        for page in (first, second):
            until_text(page, "state", "connected")
        say(first, "<b>hello</b>")
        until_text(second, "messages", "<b>hello</b>")
        assert other.hear() == "<b>hello</b>"
        for said in (binary(b"\0\1\2"), text("end")):
            other.say(said)
        for page in (first, second):
            until_text(page, "messages", "(3 bytes)", "end")
            assert page.run("document.querySelectorAll('b').length") == 0
            assert page.complaints() == []


def test_browser_reconnect(open_page: Open) -> None:
    """The page shows the close reason and reconnects after a restart."""
    with relay("--drain-seconds", "0") as server:
        page = open_page("browser.html", server.url("/chat"))
        until_text(page, "state", "connected")
        page.run(
            "window.states = []; new MutationObserver(() => states.push($('state').textContent))"
            ".observe($('state'), {childList: true})"
        )
    until_text(page, "state", "closed: 1006", "again in")
    with relay("--drain-seconds", "0", listen=[again(server)]), WebsocketsClient(server.url("/chat")) as other:
        until_text(page, "state", "connected")
        say(page, "back again")
        assert other.hear() == "back again"
    assert any(
        state.startswith("closed: 1012 the relay is restarting: reconnect with back-off; again in 0.")
        for state in page.run("states")
    )


def test_browser_close_codes(open_page: Open) -> None:
    """The page reconnects unless a close is final; after a final close, typed text stays."""
    with stage(in_turn(Refuse(503), Close(TOO_SLOW), Close(TOO_BIG))) as server:
        page = open_page("browser.html", server.url)
        until_text(page, "state", "closed: 1009 message too big")
        assert "again in" not in page.run("$('state').textContent")
        page.run("$('text').focus()")
        page.type("typed")
        page.press("Enter")
        assert page.run("[$('text').value, $('messages').children.length]") == ["typed", 0]


@pytest.mark.parametrize(("name", "element"), [("browser.html", "state"), ("webrtc.html", "relay")])
def test_refusal_shown(open_page: Open, name: str, element: str) -> None:
    """A page shows why a handshake was refused, which it asks by a GET, and reconnects only where that can help."""
    with stage(in_turn(Refuse(503, "full"), Refuse(403, "not this room"))) as server:
        page = open_page(name, server.url)
        until_text(page, element, "refused: 403 not this room; mend that, and reload this page")
        assert len(server.requests) == 2


@pytest.mark.parametrize("name", ["browser.html", "webrtc.html"])
def test_reconnect_table(open_page: Open, name: str) -> None:
    """Both pages reconnect after the closes with `reconnect` in the table; not after 4401: they have no new token."""
    with stage(in_turn(Close(TOO_BIG))) as server:
        page = open_page(name, server.url)
        for row in TABLE:
            assert page.run(f"isFinal({row.code}, {row.text!r})") is not (row.reconnect and row.code != 4401), row


def test_webrtc_without_relay(open_page: Open) -> None:
    """Two pages find each other through the relay, and stay connected without it."""
    with relay("--drain-seconds", "0") as server:
        first, second = (open_page("webrtc.html", server.url("/secret")) for _ in range(2))
        for page in (first, second):
            until_text(page, "peer", "connected")
        say(first, "<b>hello</b>")
        until_text(second, "messages", "<b>hello</b>")
    for page in (first, second):
        until_text(page, "relay", "closed: 1006")
    say(second, "without a relay")
    until_text(first, "messages", "without a relay")
    assert first.run("document.querySelectorAll('b').length") == 0

    with relay("--drain-seconds", "0", listen=[again(server)]):
        for page in (first, second):
            until_text(page, "relay", "connected")
        say(first, "with one again")
        until_text(second, "messages", "with one again")
        until_text(second, "peer", "connected")


def test_webrtc_third_page(open_page: Open) -> None:
    """A third page waits until one of the two leaves; malformed messages in the room are ignored."""
    with relay("--drain-seconds", "0") as server, WebsocketsClient(server.url("/secret")) as stranger:
        first, second = (open_page("webrtc.html", server.url("/secret")) for _ in range(2))
        for page in (first, second):
            until_text(page, "peer", "connected")
        third = open_page("webrtc.html", server.url("/secret"))
        until_text(third, "relay", "connected")
        for said in ("no JSON", "null", "[]", "{}", '{"hello":true}', '{"from":"x","description":{"type":"offer"}}'):
            stranger.say(text(said))
        open_page.close(second)
        for page in (first, third):
            until_text(page, "peer", "connected")
        say(third, "hello from the third")
        until_text(first, "messages", "hello from the third")


#: Keeps a page from sending its own hello.
SHY = """
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (data) { if (!data.includes("hello")) send.call(this, data); };
"""


def test_webrtc_glare(open_page: Open) -> None:
    """If two pages say hello at the same time, only one makes an offer; an echo is ignored."""
    with relay("--echo", "--drain-seconds", "0") as server, WebsocketsClient(server.url("/secret")) as both:
        pages = [open_page("webrtc.html", server.url("/secret"), SHY) for _ in range(2)]
        for page in pages:
            until_text(page, "relay", "connected")
        names = [page.run("me") for page in pages]
        # In place of both pages, one right after the other: each page gets the other's hello before any offer.
        for name in names:
            both.say(text(json.dumps({"from": name, "hello": True})))
        for page in pages:
            until_text(page, "peer", "connected")
        offers = [message for message in heard(both) if message.get("description", {}).get("type") == "offer"]
        assert [message["from"] for message in offers] == [min(names)]
        for page, other in (pages, pages[::-1]):
            assert page.complaints() == []
            say(page, "hello")
            until_text(other, "messages", "hello")
