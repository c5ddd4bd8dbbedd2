"""The demo page: its file, and its behaviour in Chromium and in Firefox with a relay."""

import base64
import hashlib
import json
import random
import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

import wsrelay.http
from tests.harness.browsers import Browser, Page
from tests.harness.clients import WebsocketsClient, binary, text
from tests.harness.live import SECONDS, Relay, make_certificate, relay, until
from tests.validators.support import GRANT, request
from wsrelay.closecodes import TABLE, for_status
from wsrelay.errors import Denied
from wsrelay.validators.origin import OriginValidator

FILE = Path(wsrelay.http.__file__).with_name("demo.html")
SOURCE = FILE.read_text("utf-8")

deploy = pytest.mark.deploy

#: One pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


# The file


def test_page_file() -> None:
    """It has less than 25 KiB, one style, one script, no other resources, and no attributes that its policy forbids."""
    assert len(SOURCE.encode()) < 25 * 1024
    assert [SOURCE.count(tag) for tag in ("<style>", "<script>", "<style", "<script")] == [1, 1, 1, 1]
    assert re.findall(r"<link[^>]*>", SOURCE) == ['<link rel="icon" href="data:,">']
    markup = re.sub(r"<(style|script)>.*?</\1>", "", SOURCE, flags=re.DOTALL)
    assert re.findall(r'\s(?:style|on\w+|src|action)="', markup) == []
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", SOURCE) == []


def colours() -> list[dict[str, str]]:
    """Return the colours of the light and the dark page by name."""
    found = [
        dict(re.findall(r"--([\w-]+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", SOURCE, re.DOTALL)
    ]
    assert len(found) == 2
    return found


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, as WCAG defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_contrast(scheme: int) -> None:
    """Text has a contrast of 4.5 to 1, edges of fields of 3 to 1 (WCAG AA)."""
    colour = colours()[scheme]
    for above, below, least in [
        *[(name, ground, 4.5) for name in ("ink", "soft", "main") for ground in ("page", "card")],
        *[(name, "card", 4.5) for name in ("good", "busy", "bad")],
        *[(name, "mine", 4.5) for name in ("ink", "main")],
        ("on-main", "main", 4.5),
        ("edge", "card", 3),
        ("edge", "page", 3),
    ]:
        dark, light = sorted((luminance(colour[above]), luminance(colour[below])))
        assert (light + 0.05) / (dark + 0.05) >= least, (above, below)


# In the browser


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a certificate for 127.0.0.1."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


class Site:
    """Relays that serve the page, and the tabs that show it.

    Attributes:
        server: the relay that was started last.
        downloads: the browser's folder.
    """

    server: Relay

    def __init__(self, browser: Browser, stack: ExitStack) -> None:
        self.downloads = browser.downloads
        self._browser = browser
        self._stack = stack
        self._port = "0"

    def start(self, *options: str, certificate: Path | None = None) -> None:
        """Start a relay, on the same port as the last one if there was one."""
        tcp, ssl = f"tcp:{self._port}", f"ssl:{self._port}:privateKey={certificate}"
        listen = f"{tcp if certificate is None else ssl}:interface=127.0.0.1"
        self.server = self._stack.enter_context(relay("--demo", "--drain-seconds", "0", *options, listen=[listen]))
        self._port = self.server.addresses[0].rstrip("/").rpartition(":")[2]

    @property
    def url(self) -> str:
        """The address of the page."""
        return self.server.url().replace("ws", "http", 1)

    def tab(self, room: str = "lobby", state: str = "open", **options: Any) -> Page:
        """Open the page in a tab, and wait until it is in a state."""
        page = self._browser.page(f"{self.url}#{room}", **options)
        self._stack.callback(page.close)
        await_state(page, state)
        return page

    def client(self, room: str = "lobby", **options: Any) -> WebsocketsClient:
        """Return another client, in a room; enter it to connect."""
        return WebsocketsClient(self.server.url(room), **options)


@pytest.fixture
def site(each_browser: Browser) -> Iterator[Site]:
    """A place to start relays and open tabs."""
    with ExitStack() as stack:
        yield Site(each_browser, stack)


def await_state(page: Page, state: str) -> None:
    """Wait for a state of the connection, as the page shows it."""
    page.until(f"document.getElementById('connection').dataset.state === '{state}'")


def await_text(page: Page, words: str, where: str = "#log") -> None:
    """Wait until an element shows a text."""
    page.until(f"document.querySelector({json.dumps(where)}).innerText.includes({json.dumps(words)})")


def say(page: Page, words: str) -> None:
    """Type a message and send it with Enter."""
    page.run("document.getElementById('text').focus()")
    page.type(words)
    page.press("Enter")


@deploy
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_messages(site: Site, scheme: str, certificate: Path) -> None:
    """A message appears in the other tab with the sender's name, both ways, and not in another room."""
    site.start("--http", certificate=certificate if scheme == "wss" else None)
    one, other, outside = site.tab("chat/grüße"), site.tab("chat/grüße"), site.tab("chat/else")
    assert one.run("relay.url").startswith(f"{scheme}://127.0.0.1:")
    one.run("document.getElementById('name').value = 'Ada'")
    say(one, "Grüße, 世界 🙂")
    await_text(other, "Ada")
    await_text(other, "Grüße, 世界 🙂")
    say(other, "hello back")
    await_text(one, "hello back")
    other.run("location.hash = 'chat/else'")
    await_text(other, "You are in chat/else")
    say(other, "over here")
    await_text(outside, "over here")
    assert "世界" not in outside.run("document.getElementById('log').innerText")
    assert [page.complaints() for page in (one, other, outside)] == [[], [], []]


@deploy
def test_file_transfer(site: Site, tmp_path: Path) -> None:
    """A file is one binary message: the other tab downloads the same bytes under the same name."""
    file = tmp_path / "größe.bin"
    file.write_bytes(random.Random(5).randbytes(2**20 - 4096))
    site.start("--http")
    one, other = site.tab(), site.tab()
    one.choose_files("#file", file)
    link = other.until("document.querySelector('#log a')?.download")
    assert link == file.name
    other.run("document.querySelector('#log a').click()")
    until(lambda: digest(file) in [digest(each) for each in site.downloads.glob("*")])
    assert [page.complaints() for page in (one, other)] == [[], []]


def digest(file: Path) -> str:
    """Return a hash of a file."""
    with suppress(FileNotFoundError):  # renamed at its end
        return hashlib.sha256(file.read_bytes()).hexdigest()
    return ""


@deploy
def test_file_too_large(site: Site, tmp_path: Path) -> None:
    """A file above the relay's limit is not sent, and the page says why."""
    file = tmp_path / "film.bin"
    file.write_bytes(bytes(2**20))
    site.start()
    page = site.tab()
    page.choose_files("#file", file)
    await_text(page, "Not sent: film.bin has 1,024 KiB", "#hint")
    say(page, "still here")
    await_text(page, "still here")
    assert page.run("relay.state") == "open"


@deploy
def test_foreign_messages(site: Site) -> None:
    """Any text and any bytes are shown: pictures by their first bytes, the rest as a download that cannot run."""
    site.start("--http")
    page = site.tab()
    with site.client() as client:
        client.say(text("plain words"))
        client.say(text('{"name": "curl", "text": "in JSON"}'))
        client.say(text('{"name": 1}'))
        client.say(binary(b'{"name": "cam", "file": "door.txt"}\n' + PNG))
        client.say(binary(b'{"name": "x", "file": "a.svg"}\n<svg onload="pwned = 1">'))
        for data in (b"", b"\x00\xff", b"\n<script>pwned = 1", b'{"name": "n", "file": "no newline"}!'):
            client.say(binary(data))
        client.say(text("the end"))
        await_text(page, "the end")
        assert page.run("[...document.querySelectorAll('#log a')].map((link) => link.download)") == [
            "door.txt", "a.svg", *["message.bin"] * 4,
        ]  # fmt: skip
        assert page.run("document.querySelectorAll('#log img').length") == 1
        assert page.run("((img) => img.decode().then(() => img.naturalWidth))(document.querySelector('#log img'))") == 1
        words = page.run("document.getElementById('log').innerText")
        assert all(part in words for part in ("plain words", "curl", "in JSON", '{"name": 1}', "cam"))
        say(page, "hi")
        assert json.loads(client.hear())["text"] == "hi"
    assert page.complaints() == []


HOSTILE = [
    "<img src=x onerror=pwned=1><script>pwned=1</script>",
    "</div></main><svg/onload=pwned=1>",
    "\u202etxt.exe \u2066 \u05d0\u05d1\u05d2",
    "W" * 10_000,
    "e\u0301\u0302\u0303" * 3000,
    "x" * 100_000,
    "\ud800 alone \x00 \x1b[31m",
    "javascript:pwned=1",
]


@deploy
def test_hostile_text(site: Site) -> None:
    """Text of any kind, as message, name or file name, is shown as text, runs nothing and widens nothing."""
    site.start("--http")
    page = site.tab(width=360, height=640)
    await_text(page, "You are in lobby")
    with site.client() as client:
        for words in HOSTILE:
            client.say(text(words.encode("utf-8", "replace")))
            client.say(text(json.dumps({"name": words[:20_000], "text": words})))
            client.say(binary(json.dumps({"name": words[:100], "file": words[:100]}).encode() + b"\nbytes"))
        client.say(text("the end"))
        await_text(page, "the end")
    assert page.run("typeof pwned") == "undefined"
    assert page.run("document.querySelectorAll('#log :is(img, script, svg)').length") == 0
    assert page.run("document.querySelectorAll('#log .entry').length") == 3 * len(HOSTILE) + 2
    assert (
        page.run("[...document.querySelectorAll('#log bdi')].filter((b) => /[\\u202e\\u2066]/.test(b.innerText))") == []
    )
    assert widths(page) == (360, True)
    assert page.complaints() == []


def widths(page: Page) -> tuple[int, bool]:
    """Return the widths of page and log, and whether the log contains its entries."""
    inside = "document.getElementById('log').scrollWidth <= document.getElementById('log').clientWidth"
    return page.run("document.documentElement.scrollWidth"), page.run(inside)


@deploy
def test_log_bounded(site: Site) -> None:
    """Only the last 300 messages are kept, and the bytes of a file are freed with its entry."""
    site.start()
    page = site.tab(
        before="window.revoked = 0; const was = URL.revokeObjectURL; URL.revokeObjectURL = () => revoked++;"
    )
    await_text(page, "You are in lobby")
    with site.client() as client:
        client.say(binary(b"file"))
        for number in range(400):
            client.say(text(f"number {number}"))
        await_text(page, "number 399")
    assert page.run("document.querySelectorAll('#log .entry').length") == 300
    assert page.run("revoked") == 1
    bottom = "document.querySelector('%s').getBoundingClientRect().bottom"
    assert page.run(f"{bottom % '#log .entry:last-child'} < {bottom % '#log'}")


@deploy
def test_reconnect_after_restart(site: Site) -> None:
    """A restart is told in words; the tabs reconnect and exchange messages."""
    site.start()
    # Little jitter: on a busy machine, the next relay may take a while, and the pauses grow until it is there.
    one, other = (site.tab(before="Math.random = () => 0.1") for _ in range(2))
    site.server.stop()
    await_text(one, "1012: the relay is restarting.")
    await_text(one, "No answer", "#why")
    site.start()
    for page in (one, other):
        await_state(page, "open")
        assert page.run("document.getElementById('why').innerText") == ""
    say(one, "back again")
    await_text(other, "back again")


@deploy
def test_unsent_text(site: Site) -> None:
    """Without a connection, text stays in its field, and the page says that it was not sent."""
    site.start()
    page = site.tab()
    page.run("document.getElementById('toggle').click()")
    await_state(page, "closed")
    say(page, "kept")
    await_text(page, "Not sent", "#hint")
    assert page.run("document.getElementById('text').value") == "kept"
    page.run("document.getElementById('toggle').click()")
    await_state(page, "open")


@deploy
def test_message_too_big(site: Site) -> None:
    """A message above the relay's limit ends in 1009, explained in words, without a reconnect."""
    site.start("--max-message-bytes", "65536")
    page = site.tab()
    page.run("relay.send('x'.repeat(65537))")
    await_state(page, "closed")
    await_text(page, "1009: the message was too big.", "#why")
    await_text(page, "“message too big: 65536 bytes at most”", "#why")
    page.run("document.getElementById('toggle').click()")
    await_state(page, "open")


@deploy
@pytest.mark.parametrize("http", [["--http"], []])
@pytest.mark.parametrize(
    ("validator", "reason"), [("rooms:public/*", "this room"), ("origin:https://app.example", "origin")]
)
def test_refusal_reason(site: Site, validator: str, reason: str, http: list[str]) -> None:
    """A refusal is shown with its status and reason, without a retry."""
    site.start(*http, "--validate", validator)
    page = site.tab("private", state="closed")
    await_text(page, "Refused with HTTP 403", "#why")
    await_text(page, reason, "#why")


@deploy
@pytest.mark.parametrize("origins", ["same-host", "http://127.0.0.1:*"])
def test_refusal_temporary(site: Site, origins: str) -> None:
    """A client refused by a full room gets in once there is a free place, also without ``none`` among the origins."""
    site.start("--http", "--max-room-members", "1", "--validate", f"origin:{origins}")
    with site.client(origin=site.url.rstrip("/")):
        page = site.tab(state="waiting")
        await_text(page, "“this room is full: try again later”", "#why")
    page.run("document.getElementById('now').click()")
    await_state(page, "open")


@deploy
def test_refusal_explained(site: Site) -> None:
    """With --explain-refusals it is shown with its close code and reason; the page was never in the room."""
    site.start("--explain-refusals", "--validate", "rooms:public/*")
    page = site.tab("private", state="closed")
    await_text(page, "4403: this room is not for this page", "#why")
    await_text(page, "“this room is not allowed”", "#why")
    assert "You are in private" not in page.run("document.getElementById('log').innerText")


@deploy
def test_room_in_address(site: Site) -> None:
    """The room is in the address: another one is joined, also a typed one; an invalid one is not."""
    site.start()
    page = site.tab("a/b")
    page.run("location.hash = 'c d'")
    await_text(page, "You are in c d")
    assert page.run("relay.url").endswith("/c%20d")
    page.run("document.getElementById('room').value = ''; document.getElementById('room').focus()")
    page.type("e/../f")
    page.press("Enter")
    assert page.run("document.getElementById('room').validationMessage").startswith("A room is words")
    page.run("document.getElementById('room').value = ''")
    page.type("g?h")
    page.press("Enter")
    await_text(page, "You are in g?h")
    assert page.run("[location.hash, new URL(relay.url).pathname]") == ["#g?h", "/g%3Fh"]
    name = page.run("document.getElementById('name').value")
    page.reload()
    assert page.run("[document.getElementById('room').value, document.getElementById('name').value]") == ["g?h", name]


@deploy
def test_keyboard(site: Site) -> None:
    """Tab reaches all controls in the order of the page, and each has an accessible name."""
    site.start()
    page = site.tab()
    page.run("document.getElementById('room').focus()")
    order = []
    for _ in range(9):
        order.append(page.run("document.activeElement.id || document.activeElement.innerText"))
        page.press("Tab")
    assert order == ["room", "name", "Join", "toggle", "log", "text", "Send", "pick", "What goes over the wire"]
    named = re.findall(r'^ *- (\w+)(?: "(.+?)")?', page.outline(), re.MULTILINE)
    assert all(name for role, name in named if role in ("button", "textbox", "log", "region", "link"))
    assert {"main", "banner", "contentinfo", "region", "log", "status"} <= {role for role, _ in named}


@deploy
def test_phone(site: Site) -> None:
    """At 360 pixels nothing is wider than the screen, fields cause no zoom, and all fits on one screen."""
    site.start()
    page = site.tab("r" * 200, width=360, height=740)
    assert widths(page) == (360, True)
    assert page.run(
        "[...document.querySelectorAll('input, button')].every((e) => parseFloat(getComputedStyle(e).fontSize) >= 16)"
    )
    assert page.run("document.documentElement.scrollHeight") == 740
    site.server.stop()
    await_text(page, "No answer", "#why")
    assert widths(page) == (360, True)


# History


def entries(page: Page) -> list[str]:
    """Return the texts of the messages on the page, without names and notes."""
    found: list[str] = page.run("[...document.querySelectorAll('#log .body')].map((body) => body.innerText)")
    return found


@deploy
def test_history_shown(site: Site) -> None:
    """In a room with history a tab shows what was said before it came, texts and files, and says that it is older."""
    site.start("--http", "--history", "chat/*=10")
    with site.client("chat/1") as client:
        client.say(text("first"))
        client.say(binary(b'{"name": "cam", "file": "door.txt"}\n' + PNG))
        page = site.tab("chat/1")
        await_text(page, "door.txt")
        client.say(text("second"))
        await_text(page, "second")
    assert [entry.partition(" ")[0].strip() for entry in entries(page)] == ["first", "door.txt", "second"]
    metas = page.run("[...document.querySelectorAll('#log .meta')].map((meta) => /earlier/.test(meta.innerText))")
    assert metas == [True, True, False]
    assert "missing" not in page.run("document.getElementById('log').innerText")
    assert page.complaints() == []


@deploy
def test_history_resumed(site: Site) -> None:
    """After a disconnect a tab shows what it missed, and nothing twice, its own messages included."""
    site.start("--http", "--history", "**=100")
    page = site.tab("chat/1")
    with site.client("chat/1") as client:
        client.say(text("same words"))
        await_text(page, "same words")
        say(page, "mine")
        assert json.loads(client.hear())["text"] == "mine"
        page.run("document.getElementById('toggle').click()")
        await_state(page, "closed")
        for words in ("same words", "missed"):
            client.say(text(words))
        client.ws.ping().wait(SECONDS)
        page.run("document.getElementById('toggle').click()")
        await_text(page, "missed")
        await_state(page, "open")
        client.say(text("live"))
        await_text(page, "live")
    assert entries(page) == ["same words", "mine", "same words", "missed", "live"]
    assert "may be missing" not in page.run("document.getElementById('log').innerText")


@deploy
@pytest.mark.parametrize("how", ["forgotten", "restarted", "without history"])
def test_history_gone(site: Site, how: str) -> None:
    """If the room has forgotten messages since the last connection, the page says that some may be missing."""
    site.start("--http", "--history", "**=2")
    page = site.tab("chat/1", before="Math.random = () => 0.1")
    say(page, "mine")
    if how == "forgotten":
        page.run("document.getElementById('toggle').click()")
        await_state(page, "closed")
        with site.client("chat/1") as client:
            for number in range(10):
                client.say(text(f"number {number}"))
            client.ws.ping().wait(SECONDS)
        page.run("document.getElementById('toggle').click()")
    else:
        site.server.stop()
        await_text(page, "No answer", "#why")
        site.start("--http", *(["--history", "**=2"] if how == "restarted" else []))
    await_text(page, "Messages may be missing here")
    await_state(page, "open")
    kept = entries(page)
    assert kept[0] == "mine"
    if how == "forgotten":
        assert kept[-1] == "number 9"
        assert len(set(kept)) == len(kept)
    with site.client("chat/1") as client:
        client.say(text("live"))
        await_text(page, "live")


@deploy
def test_echo(site: Site) -> None:
    """With --echo, a tab shows its own messages once."""
    site.start("--http", "--echo", "--history", "**=10")
    page = site.tab()
    for words in ("one", "two"):
        say(page, words)
    with site.client() as client:
        client.say(text("end"))
        await_text(page, "end")
    assert entries(page) == ["one", "two", "end"]


# The client, on a fake network

#: Fakes of WebSocket, fetch and the clock; ``waits``: the client's delays, in milliseconds.
MADE_UP = """
  const waits = [], states = [];
  let now = 0, pending = null, socket = null, answer = null;
  globalThis.setTimeout = (f, ms) => { if (ms !== CONNECT_MS) { waits.push(ms); pending = f; } return 1; };
  globalThis.clearTimeout = () => {};
  globalThis.fetch = async () => { if (!answer) throw new TypeError("network"); return answer; };
  globalThis.WebSocket = class { constructor() { socket = this; } close() {} };
  performance.now = () => ++now;
  Math.random = () => 1;
  const made = new RelaySocket("ws://relay.example/room", { onmessage() {}, onstate: (...all) => states.push(all) });
  await made.connect();
"""


@pytest.fixture(scope="module")
def kept_page(each_browser: Browser) -> Iterator[Page]:
    """The page for all tests of the client."""
    with ExitStack() as stack:
        site = Site(each_browser, stack)
        site.start()
        yield site.tab()


@pytest.fixture
def client_page(kept_page: Page) -> Page:
    """A page whose client may be given a fake network: its own has ended, which would use the fake clock, too."""
    kept_page.reload()
    kept_page.until("relay.state === 'open'")
    kept_page.run("relay.disconnect()")
    return kept_page


def run_client(page: Page, script: str) -> Any:
    """Run a script beside the client on a fake network, and return its result."""
    return page.run("(async () => {" + MADE_UP + script + "})()")


@deploy
def test_back_off(client_page: Page) -> None:
    """Delays double up to 30 s, with full jitter, and are reset by a connection that lasted."""
    waits = run_client(
        client_page,
        """
        for (let i = 0; i < 8; i++) { await socket.onclose({ code: 1006, reason: "" }); await pending(); }
        Math.random = () => 0;
        await socket.onclose({ code: 1006, reason: "" }); await pending();
        Math.random = () => 1;
        socket.onopen(); await socket.onclose({ code: 1006, reason: "" }); await pending();
        socket.onopen(); now += 20_000; await socket.onclose({ code: 1012, reason: "" });
        return waits;
        """,
    )
    assert waits == [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 0, 30000, 500]


@deploy
def test_reconnect_online(client_page: Page) -> None:
    """When the network is back, the page reconnects at once; not after disconnect()."""
    states = run_client(
        client_page,
        """
        await socket.onclose({ code: 1006, reason: "" });
        dispatchEvent(new Event("online"));
        made.disconnect();
        dispatchEvent(new Event("online"));
        return states.map(([state]) => state);
        """,
    )
    assert states == ["connecting", "waiting", "connecting", "closed"]


@deploy
def test_reconnect_table(client_page: Page) -> None:
    """The client reconnects after closes with `reconnect`, refusals included; after 4401 and 4410, as it asks anew."""
    for row in (*TABLE, *(for_status(status, "no") for status in (400, 404, 408, 418, 429, 500, 503, 504))):
        state = run_client(
            client_page,
            f"socket.onopen(); await socket.onclose({json.dumps({'code': row.code, 'reason': row.text})});"
            "return states.at(-1)[0];",
        )
        assert state == ("waiting" if row.reconnect or row.code == 4410 else "closed"), row


@deploy
@pytest.mark.parametrize(
    ("status", "state", "waits"),
    [
        (403, "closed", []),
        (404, "closed", []),
        (426, "waiting", [10_500]),
        (429, "waiting", [10_500]),
        (503, "waiting", [10_500]),
    ],
)
def test_refusal_by_http(client_page: Page, status: int, state: str, waits: list[int]) -> None:
    """Status and reason of a refusal are asked for by HTTP; for a temporary one, Retry-After is honoured."""
    last, waited = run_client(
        client_page,
        f"""
        const headers = {{ "Content-Type": "text/plain; charset=utf-8", "Retry-After": "10" }};
        answer = new Response("no, because\\n", {{ status: {status}, headers }});
        await socket.onclose({{ code: 1006, reason: "" }});
        return [states.at(-1), waits];
        """,
    )
    assert last[0] == state
    assert {**last[1], "until": 0} == {
        "code": 1006, "refused": True, "status": status, "reason": "no, because", "retryAfter": 10, "until": 0,
    }  # fmt: skip
    assert waited == waits


@deploy
def test_proxy_answers(client_page: Page) -> None:
    """If a proxy answers for a relay that is away, the page says that the relay cannot be reached."""
    words = client_page.run("[502, 504].map((status) => explain({ code: 1006, refused: true, status, reason: '' }))")
    assert all("The relay cannot be reached" in each for each in words)


@deploy
def test_query_failed(client_page: Page) -> None:
    """If query() throws, the attempt has failed, and no socket is made; the next attempt calls it again."""
    states, url = run_client(
        client_page,
        """
        let calls = 0;
        socket = null;
        made.query = async () => { if (!calls++) throw new Error("no answer"); return "?since=7"; };
        globalThis.WebSocket = class { constructor(url) { socket = this; this.url = url; } close() {} };
        await made.connect();
        const first = socket;
        await pending();
        return [[first, ...states.map(([state]) => state)], socket.url];
        """,
    )
    assert states == [None, "connecting", "connecting", "waiting", "connecting"]
    assert url == "ws://relay.example/room?since=7"


@deploy
def test_refusal_without_origin(client_page: Page) -> None:
    """A GET without Origin is refused by origin lists, where the WebSocket is not: that refusal is not final."""
    with pytest.raises(Denied) as refused:
        OriginValidator(words=["null"]).validate(request(), GRANT)
    state = run_client(
        client_page,
        f"""
        const headers = {{ "Content-Type": "text/plain" }};
        answer = new Response({json.dumps(refused.value.reason)}, {{ status: 403, headers }});
        await socket.onclose({{ code: 1006, reason: "" }});
        return states.at(-1)[0];
        """,
    )
    assert state == "waiting"
