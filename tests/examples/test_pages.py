"""Tests of the pages, examples/browser.html and examples/webrtc.html, in Chromium."""

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
from tests.harness.browser import Browser, Page, browser
from tests.harness.clients import WebsocketsClient, binary, text
from tests.harness.live import SECONDS, Relay, relay
from wsrelay.closecodes import TABLE, TOO_BIG, TOO_SLOW

pytestmark = pytest.mark.deploy

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"

#: Chance makes the first wait 50 ms, so that no test waits for a second try.
QUICK = "Math.random = () => 0.05;"


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and says nothing."""

    def do_GET(self) -> None:
        """Serve a file, but no icon: that there is none would be a complaint in the console."""
        if self.path != "/favicon.ico":
            super().do_GET()
            return
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The URL of the folder, as ``python -m http.server`` serves it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=EXAMPLES)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join(SECONDS)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium, for all pages here."""
    # Candidates are addresses, not names in multicast DNS, which not every machine that runs tests has.
    options = "--disable-features=WebRtcHideLocalIpsWithMdns"
    with browser(tmp_path_factory.mktemp("chromium"), options) as started:
        yield started


@pytest.fixture
def open_page(chromium: Browser, site: str) -> Iterator["Open"]:
    """What opens a page, and closes all at the end."""
    opener = Open(chromium, site)
    yield opener
    for page in opener.pages:
        page.close()


class Open:
    """Opens pages of the site.

    Attributes:
        pages: those that are open.
    """

    def __init__(self, chromium: Browser, site: str) -> None:
        self._chromium = chromium
        self._site = site
        self.pages: list[Page] = []

    def __call__(self, name: str, url: str, before: str = QUICK) -> Page:
        """Open a page that connects to a URL; ``before`` runs before its own script."""
        page = self._chromium.page(f"{self._site}{name}?{urllib.parse.urlencode({'url': url})}", before=before)
        self.pages.append(page)
        return page

    def close(self, page: Page) -> None:
        """Close a page before the end."""
        self.pages.remove(page)
        page.close()


def until_text(page: Page, element: str, *wanted: str) -> None:
    """Wait until the text of an element holds all that is wanted."""
    condition = " && ".join(f"$({element!r}).textContent.includes({part!r})" for part in wanted)
    page.until(f"({condition})")


def say(page: Page, what: str) -> None:
    """Type a message and press Enter."""
    page.run("$('text').focus()")
    page.type(what)
    page.press("Enter", "\r")
    until_text(page, "messages", f"me: {what}")


def heard(client: WebsocketsClient) -> list[dict[str, Any]]:
    """Return the objects that a client has been sent so far: the answer to a ping comes behind them."""
    assert client.ws.ping().wait(SECONDS)
    found = []
    with suppress(TimeoutError):
        while True:
            found.append(json.loads(client.ws.recv(0)))
    return found


def again(server: Relay) -> str:
    """Return the endpoint on which a relay listened, for the next one."""
    return server.url().replace("ws://127.0.0.1:", "tcp:interface=127.0.0.1:").rstrip("/")


def test_browser_talks(open_page: Open) -> None:
    """Two pages and another client talk; what is sent is shown as text, whatever it is, and of bytes how many."""
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


def test_browser_restart(open_page: Open) -> None:
    """It shows why the relay has gone, and is back when that is."""
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


def test_browser_ends(open_page: Open) -> None:
    """It comes back after what passes, and stays where it is after what does not: a text that is typed then stays."""
    with stage(in_turn(Refuse(503), Close(TOO_SLOW), Close(TOO_BIG))) as server:
        page = open_page("browser.html", server.url)
        until_text(page, "state", "closed: 1009 message too big")
        assert "again" not in page.run("$('state').textContent")
        page.run("$('text').focus()")
        page.type("typed")
        page.press("Enter", "\r")
        assert page.run("[$('text').value, $('messages').children.length]") == ["typed", 0]


@pytest.mark.parametrize("name", ["browser.html", "webrtc.html"])
def test_pages_know_the_table(open_page: Open, name: str) -> None:
    """Both have for each close of the table what the table says of coming back."""
    with stage(in_turn(Close(TOO_BIG))) as server:
        page = open_page(name, server.url)
        for row in TABLE:
            assert page.run(f"isFinal({row.code}, {row.text!r})") is not row.reconnect, row


def test_webrtc_talks(open_page: Open) -> None:
    """Two pages find each other through the relay, and go on talking when it has gone."""
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


def test_webrtc_next(open_page: Open) -> None:
    """A third page waits until one of the two has gone; what strangers say meanwhile in the room changes nothing."""
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


#: Keeps a page from saying by itself that it looks for a peer.
SHY = """
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (data) { if (!data.includes("hello")) send.call(this, data); };
"""


def test_webrtc_at_once(open_page: Open) -> None:
    """Where two pages look for a peer at the same time, one of them makes an offer; nobody minds an echo."""
    with relay("--echo", "--drain-seconds", "0") as server, WebsocketsClient(server.url("/secret")) as both:
        pages = [open_page("webrtc.html", server.url("/secret"), SHY) for _ in range(2)]
        for page in pages:
            until_text(page, "relay", "connected")
        names = [page.run("me") for page in pages]
        # In the place of both, and one right behind the other: each page hears the other's before any offer.
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
