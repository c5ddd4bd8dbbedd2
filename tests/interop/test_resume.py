"""Pages in Chromium and in Firefox that miss nothing: EventSource over restarts, and WebSocket by position."""

import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.deploy.proxies import Place, nginx_configuration
from tests.harness.broker import reserved_port
from tests.harness.browsers import Browser, Page
from tests.harness.live import SECONDS, Process, Relay, make_certificate, relay, require, taken_port, until
from tests.harness.room_http import Room

pytestmark = pytest.mark.deploy

OPTIONS = ("--http", "--validate", "origin:*", "--drain-seconds", "0")

#: Keeps what the page sees in `seen`; each change is one of the DOM, which Page.until watches.
KEEP = (
    "window.seen = []; window.see = (...what) => { seen.push(what); document.body.dataset.seen = seen.length; }; null"
)

#: An EventSource from a position on. It reconnects by itself, unless the server refuses, with 502 for example, or,
#: in Firefox, cannot be reached; then the page makes a new one, from the last id that it knows.
LISTEN = """window.listen = (url, since) => {
  const events = new EventSource(since ? url + "?since=" + encodeURIComponent(since) : url);
  const keep = (kind, content, event) => { since = event.lastEventId; see(kind, content, since); };
  events.onopen = () => see("open");
  events.onmessage = (event) => keep("message", event.data, event);
  events.addEventListener("gap", (event) => keep("gap", JSON.parse(event.data), event));
  events.addEventListener("close", (event) => see("close", JSON.parse(event.data).code));
  events.onerror = () => {
    const isFinal = events.readyState === EventSource.CLOSED;
    see(isFinal ? "final" : "error");
    if (isFinal) setTimeout(() => listen(url, since), 200);
  };
}; null"""

#: The recipe of docs/clients.md, in steps: the position, then the state, then all that came after the position.
RECIPE = """
window.read = async (url) => (await fetch(url, {headers: {Accept: "application/json"}})).json();
window.position = async (url) => { window.at = (await read(url)).at; };
window.state = async () => { window.known = (await read("/state")).numbers; };
window.connect = (url) => new Promise((resolve) => {
  const socket = new WebSocket(url.replace("http", "ws") + "?since=" + encodeURIComponent(at));
  socket.onopen = () => { see("open"); resolve(); };
  socket.onmessage = (event) => see("message", Number(event.data));
  socket.onclose = async (event) => {
    see("close", event.code, event.reason);
    if (event.code === 4410) await follow(url);
  };
});
window.follow = async (url) => { await position(url); await state(); await connect(url); };
null
"""


@dataclass
class Site:
    """A site whose state is a list of numbers, and which publishes each new one.

    Attributes:
        port: its port.
        numbers: its state.
    """

    port: int = 0
    numbers: list[int] = field(default_factory=list)

    def add(self, room: Room, count: int) -> list[int]:
        """Add numbers, publish them, and return them."""
        new = list(range(len(self.numbers) + 1, len(self.numbers) + count + 1))
        for number in new:
            self.numbers.append(number)
            room.publish(message(number))
        return new


def message(number: int) -> str:
    """Return a number as a message so long that it is compressed for a WebSocket that offers it, as browsers do."""
    return f"{number:<1000}"


@contextmanager
def site() -> Iterator[Site]:
    """Serve a site."""
    serving = Site()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_state = self.path == "/state"
            page = '<!doctype html><title>a site</title><link rel="icon" href="data:,"><body>'
            body = (json.dumps({"numbers": serving.numbers}) if is_state else page).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json" if is_state else "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        serving.port = server.server_port
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield serving
        finally:
            server.shutdown()
            thread.join(SECONDS)


@pytest.fixture(scope="module")
def app() -> Iterator[Site]:
    """A site."""
    with site() as serving:
        yield serving


@pytest.fixture
def page(each_browser: Browser, app: Site) -> Iterator[Page]:
    """A page of the site that keeps what it sees."""
    app.numbers.clear()
    opened = each_browser.page(f"http://127.0.0.1:{app.port}/")
    opened.run(KEEP)
    yield opened
    opened.close()


def seen(page: Page, kind: str, count: int) -> list[list[object]]:
    """Wait until a page has seen a kind of event so often, and return all that it has seen."""
    which = f"(one) => one[0] === {json.dumps(kind)}"
    found: list[list[object]] = page.until(f"(() => seen.filter({which}).length >= {count} && seen)()")
    return found


def of(kind: str, found: list[list[object]]) -> list[list[object]]:
    """Return what a page has seen of a kind, without the kind."""
    return [rest for first, *rest in found if first == kind]


@contextmanager
def relay_at(port: int, *options: str) -> Iterator[Relay]:
    """Run a relay on a port of 127.0.0.1."""
    with relay(*OPTIONS, *options, listen=[f"tcp:{port}:interface=127.0.0.1"]) as server:
        yield server


def accepts(port: int) -> bool:
    """Return whether a program listens at a port of 127.0.0.1."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def port_of(server: Relay) -> int:
    """Return the port of a relay."""
    return int(server.addresses[0].rstrip("/").rpartition(":")[2])


def listen(page: Page, url: str, since: str = "") -> None:
    """Let a page open an EventSource, and wait until it is open."""
    page.run(LISTEN)
    page.run(f"listen({json.dumps(url)}, {json.dumps(since)})")
    seen(page, "open", 1)


@dataclass
class Published:
    """Texts published in a room, with their ids, in order: what a page must see."""

    room: Room
    events: list[list[object]] = field(default_factory=list)

    def add(self, *texts: str) -> None:
        """Publish."""
        self.events += map(list, zip(texts, self.room.publish(*texts), strict=True))


def test_event_source_relay_restarted(page: Page) -> None:
    """A relay that is restarted, by SIGTERM or by SIGKILL, has no history: the page gets a gap event, and goes on."""
    with reserved_port() as reserved:
        room = Room(reserved.getsockname()[1], "room")
        wanted: list[list[object]] = []  # what the page must see, without its own state changes
        for number, end in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGTERM)):
            with relay_at(room.port, "--history", "100") as server:
                sent = Published(room, [["", room.at()]])
                if number == 0:
                    listen(page, f"http:{room.url()}")
                else:
                    sent.add("a", "b", "c")  # as many as before the restart: only their epoch is another one
                    gap = of("gap", seen(page, "gap", number))[-1]
                    wanted.append(["gap", {"after": wanted[-1][-1], "at": gap[-1], "why": "gone"}, gap[-1]])
                    del sent.events[: [at for _, at in sent.events].index(gap[-1])]
                sent.add("d", "e")
                wanted += [["message", *one] for one in sent.events[1:]]
                found = seen(page, "message", len(of("message", wanted)))
                assert [one for one in found if one[0] in ("message", "gap")] == wanted
                server.signal(end)
                server.wait()


@contextmanager
def nginx(configuration: Path, *listening: socket.socket) -> Iterator[None]:
    """Run nginx, with listening sockets, or, without any, with ports of its own, of which the last one is awaited."""
    folder, handed = str(configuration.parent), [one.fileno() for one in listening]
    command = [require("nginx"), "-p", folder, "-c", str(configuration), "-e", "stderr"]
    # nginx inherits listening sockets by this variable when it upgrades its binary.
    environ = {"NGINX": "".join(f"{number};" for number in handed)} if handed else {}
    with Process(command, folder, environ, handed) as process:
        try:
            yield
        finally:
            process.signal(signal.SIGTERM)  # SIGKILL leaves the worker running
            process.wait()


def test_event_source_proxy_restarted(page: Page, tmp_path: Path) -> None:
    """Messages published while the proxy is down reach the page, once and in order: it sends Last-Event-ID."""
    with (
        taken_port() as plain,
        taken_port() as encrypted,
        relay(*OPTIONS, "--history", "100", "--trusted-proxies", "127.0.0.1") as server,
    ):
        ports = [one.getsockname()[1] for one in (plain, encrypted)]
        file = nginx_configuration(Place(server, 0, make_certificate(tmp_path), tmp_path), *ports)
        sent = Published(Room(port_of(server), "room"))
        with nginx(file, plain, encrypted):
            listen(page, f"https://127.0.0.1:{ports[1]}/room", sent.room.at())  # Last-Event-ID wins over this
            sent.add("a", "b")
            assert of("message", seen(page, "message", 2)) == sent.events
        seen(page, "error", 1)
        sent.add("c", "d", "e")
        with nginx(file, plain, encrypted):
            sent.add("f", "g")  # before the page is back
            seen(page, "open", 2)
            sent.add("h")
            found = seen(page, "message", len(sent.events))
    assert of("message", found) == sent.events
    assert [len(of(kind, found)) for kind in ("open", "gap", "final")] == [2, 0, 0]


def test_event_source_relay_away(page: Page, tmp_path: Path) -> None:
    """A proxy that cannot reach the relay says 502, which ends an EventSource: the page makes a new one, by since."""
    with ExitStack() as stack:
        plain, encrypted, nothing = (stack.enter_context(reserved_port()).getsockname()[1] for _ in range(3))
        server = stack.enter_context(relay(*OPTIONS, "--history", "100", "--trusted-proxies", "127.0.0.1"))
        certificate = make_certificate(tmp_path)
        sent = Published(Room(port_of(server), "room"))
        file = nginx_configuration(Place(server, 0, certificate, tmp_path), plain, encrypted)
        with nginx(file):
            until(lambda: accepts(encrypted))
            listen(page, f"https://127.0.0.1:{encrypted}/room", sent.room.at())
        seen(page, "error", 1)
        sent.add("a", "b")
        text = file.read_text("utf-8")
        file.write_text(text.replace(f"127.0.0.1:{port_of(server)} ", f"127.0.0.1:{nothing} "), "utf-8")
        with nginx(file):
            seen(page, "final", 1)
        file.write_text(text, "utf-8")
        sent.add("c")
        with nginx(file):
            seen(page, "open", 2)
            sent.add("d")
            found = seen(page, "message", len(sent.events))
    assert of("message", found) == sent.events
    assert [len(of(kind, found)) for kind in ("open", "gap")] == [2, 0]


def test_websocket_by_position(page: Page, app: Site) -> None:
    """Position, state, WebSocket: whatever is published in between is in the state, or comes, exactly once."""
    with relay(*OPTIONS, "--history", "100") as server:
        room = Room(port_of(server), "room")
        url = json.dumps(f"http:{room.url()}")
        page.run(RECIPE)
        app.add(room, 3)
        page.run(f"position({url})")
        between = app.add(room, 2)
        page.run("state()")
        later = app.add(room, 2)
        page.run(f"connect({url})")
        later += app.add(room, 2)
        found = seen(page, "message", len(between + later))
        assert found == [["open"], *(["message", number] for number in between + later)]
        known = page.run("known")
        assert (known, known + later) == ([1, 2, 3, *between], app.numbers)


def test_websocket_by_position_in_a_storm(page: Page, app: Site) -> None:
    """The same while another client publishes without a pause."""
    with relay(*OPTIONS, "--history", "10000") as server:
        room = Room(port_of(server), "room")
        enough = threading.Event()

        def storm() -> None:
            with room.client() as client:
                while not enough.is_set():
                    app.numbers.append(len(app.numbers) + 1)
                    client.ws.send(message(app.numbers[-1]))
                    if app.numbers[-1] % 8 == 0:  # no faster than a page can show
                        client.hears_nothing()

        thread = threading.Thread(target=storm)
        thread.start()
        try:
            page.run(RECIPE)
            page.run(f"follow({json.dumps(f'http:{room.url()}')})")
            seen(page, "message", 100)
        finally:
            enough.set()
            thread.join(SECONDS)
        last = app.numbers[-1]
        found = page.until(f"(() => seen.some((one) => one[1] === {last}) && seen)()")
        known = page.run("known")
        came = [number for (number,) in of("message", found)]
        assert came == list(range(came[0], last + 1))
        assert came[0] <= len(known) + 1
        assert known == app.numbers[: len(known)]


def test_websocket_history_gone(page: Page, app: Site) -> None:
    """A page that comes with a position the relay has forgotten sees 4410, fetches the state anew, and goes on."""
    with relay(*OPTIONS, "--history", "3") as server:
        room = Room(port_of(server), "room")
        url = json.dumps(f"http:{room.url()}")
        page.run(RECIPE)
        app.add(room, 1)
        page.run(f"position({url})")
        page.run("state()")
        app.add(room, 10)
        page.run(f"connect({url})")
        seen(page, "open", 2)
        (new,) = app.add(room, 1)
        found = seen(page, "message", 1)
        gone = ["close", 4410, "the history is gone: fetch the state anew"]
        assert found == [["open"], gone, ["open"], ["message", new]]
        assert [*page.run("known"), new] == app.numbers
