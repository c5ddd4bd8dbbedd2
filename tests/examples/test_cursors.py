"""examples/cursors.html in Chromium and in Firefox: pointers and lines of one window appear in another."""

import functools
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import wsrelay.http
from tests.harness.browsers import Browser, Page
from tests.harness.clients import WebsocketsClient, binary, text
from tests.harness.live import SECONDS, Relay, relay

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

deploy = pytest.mark.deploy


def client_of(page: Path) -> str:
    """Return the client part of a page's script."""
    return page.read_text("utf-8").partition("// ---- The client.")[2].partition("\n// ---- The messages")[0]


def test_the_client_is_a_copy() -> None:
    """The client is an exact copy of the demo page's."""
    client = client_of(Path(wsrelay.http.__file__).with_name("demo.html"))
    assert "class RelaySocket" in client
    assert client_of(EXAMPLES / "cursors.html") == client


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def files() -> Iterator[str]:
    """Serve the examples folder on loopback, and give its origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(EXAMPLES))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(SECONDS)


class Board:
    """A relay and windows with the page."""

    def __init__(self, browser: Browser, server: Relay, origin: str, stack: ExitStack) -> None:
        self.server = server
        self._browser = browser
        self._origin = origin
        self._stack = stack

    def window(self, **options: Any) -> Page:
        """Open the page, and wait until it is connected."""
        url = f"{self._origin}/cursors.html?relay={self.server.url()}#test"
        page = self._browser.page(url, **{"width": 800, "height": 600, **options})
        self._stack.callback(page.close)
        page.until("document.getElementById('state').innerText === 'Connected'")
        return page

    def client(self) -> WebsocketsClient:
        """Return another client; enter it to connect."""
        return WebsocketsClient(self.server.url("cursors/test"))


@pytest.fixture
def board(each_browser: Browser) -> Iterator[Board]:
    """A board with a relay."""
    with ExitStack() as stack:
        origin = stack.enter_context(files())
        options = ["--validate", f"origin:{origin},none", "--slow-policy", "cursors/*=latest"]
        server = stack.enter_context(relay(*options, "--drain-seconds", "0"))
        yield Board(each_browser, server, origin, stack)


def message(who: int, x: int, y: int, pen: int, name: bytes = b"") -> bytes:
    """Return the message of a pointer."""
    return struct.pack(">IHHB", who, x, y, pen) + name


def who(page: Page) -> int:
    """Return the number of a window's own pointer."""
    number: int = page.run("me.who")
    return number


def move_to(page: Page, x: float, y: float) -> None:
    """Move the mouse to a place on the board, from 0 to 1 in each direction."""
    box = page.run("document.getElementById('board').getBoundingClientRect().toJSON()")
    page.do(page.playwright.mouse.move(box["left"] + x * box["width"], box["top"] + y * box["height"]))


#: True if something is drawn around the middle of the canvas.
DRAWN = """(() => {
  const { width, height } = canvas;
  return canvas.getContext("2d").getImageData(width / 2 - 5, height / 2 - 5, 10, 10).data.some((value) => value);
})()"""


@deploy
def test_pointers_and_lines(board: Board) -> None:
    """A pointer and its lines appear in the other window, and the pointer goes with its page."""
    one, other = board.window(), board.window(width=500, height=700)
    one.run("document.getElementById('name').focus()")
    one.type("Ada")
    move_to(one, 0.25, 0.5)
    one.do(one.playwright.mouse.down())
    move_to(one, 0.75, 0.5)
    other.until("document.querySelector('.pointer bdi')?.innerText === 'Ada'")
    at = "[...pointers.values()].map((pointer) => [pointer.x, pointer.y].map((value) => value.toFixed(2)).join())[0]"
    other.until(f"{at} === '0.75,0.50'")
    assert one.run(DRAWN)
    assert other.run(DRAWN)
    one.run("dispatchEvent(new PageTransitionEvent('pagehide'))")
    other.until("!document.querySelector('.pointer')")
    assert [page.complaints() for page in (one, other)] == [[], []]


@deploy
def test_keyboard(board: Board) -> None:
    """The keyboard moves the pointer and draws."""
    page = board.window()
    with board.client() as client:
        page.run("document.getElementById('board').focus()")
        page.press("Space")
        page.press("ArrowRight")
        page.press("ArrowDown")
        place = int(0.52 * 65535)
        while (heard := client.hear()) != message(who(page), place, place, 2):
            assert isinstance(heard, bytes)
            assert len(heard) == 9
    assert page.run(DRAWN)


@deploy
def test_coalesced_per_frame(board: Board) -> None:
    """Pointer moves are coalesced into one message per frame."""
    page = board.window()
    sent = page.run("""(async () => {
      const frame = () => new Promise(requestAnimationFrame);
      await frame(); await frame();
      let sent = 0;
      relay.send = () => sent++;
      for (let i = 0; i < 100; i++) board.dispatchEvent(new PointerEvent("pointermove", { clientX: i, clientY: 200 }));
      await frame(); await frame();
      return sent;
    })()""")
    assert sent == 1


@deploy
def test_malformed_messages(board: Board) -> None:
    """Malformed messages are ignored, names are shown as text, and the number of pointers is bounded."""
    page = board.window()
    with board.client() as client:
        client.say(text("hello"))
        for data in (b"", b"\0" * 8, message(1, 0, 0, 1, b"x" * 81)):
            client.say(binary(data))
        client.say(binary(message(2, 0, 0, 1, b"<img src=x onerror=pwned=1>")))
        client.say(binary(message(3, 65535, 65535, 1, b"\xff\xe2\x80\xae")))
        page.until("document.querySelectorAll('.pointer').length === 2")
        names = page.run("[...document.querySelectorAll('.pointer')].map((pointer) => pointer.innerText)")
        assert names == ["<img src=x onerror=pwned=1>", "\ufffd"]
        for who in range(10, 310):
            client.say(binary(message(who, who, who, 1)))
        client.say(binary(message(2, 0, 0, 0)))
        page.until("document.querySelectorAll('.pointer').length === 199")
    assert page.run("[document.documentElement.scrollWidth, typeof pwned]") == [800, "undefined"]
    assert page.complaints() == []
