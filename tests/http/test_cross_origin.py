"""Plain HTTP from pages of other origins, in real browsers. The fields alone: tests/http/test_site.py."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import jwt
import pytest

from tests.harness.browsers import Browser, Page, blank_site
from tests.harness.clients import WebsocketsClient
from tests.harness.live import Relay, relay

pytestmark = pytest.mark.deploy

SECRET = b"0123456789abcdef0123456789abcdef"
TOKEN = jwt.encode({"exp": int(time.time()) + 3600, "aud": "relay", "iss": "tests"}, SECRET, "HS256")

BEARER = {"Authorization": f"Bearer {TOKEN}"}
JSON = {"Content-Type": "application/json"}

#: A script of the page: the answer to a request, ``hidden`` where the browser does not show it.
ASK = """
fetch(%s, %s).then(
  async (answer) => [answer.status, await answer.text(), answer.headers.get("Retry-After")],
  () => "hidden",
)
"""

#: Opens a stream, whose messages are written into the page.
TAIL = """
new Promise((resolve) => {
  const events = new EventSource(%s, {withCredentials: %s});
  events.onopen = () => resolve("open");
  events.onerror = () => { events.close(); resolve("failed"); };
  events.onmessage = ({ data }) => document.body.append(`${data};`);
})
"""


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    """The port of the pages."""
    with blank_site() as port:
        yield port


@pytest.fixture(scope="module")
def server(site: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A relay for pages of a.localhost that have a token, as a cookie or a field."""
    key = tmp_path_factory.mktemp("key") / "key"
    key.write_bytes(SECRET)
    token = f"token:key={key},algorithm=HS256,audience=relay,issuer=tests,cookie=session"
    origin = f"origin:none,http://a.localhost:{site}"
    # Browsers send cookies to all ports of a host, so page and relay share them although their origins differ.
    with relay("--http", "--validate", origin, "--validate", token, "--max-message-bytes", "1000") as started:
        yield started


class Guest:
    """A page of another origin than the relay.

    Args:
        page: the page.
        server: the relay.
    """

    def __init__(self, page: Page, server: Relay) -> None:
        self._page = page
        port = server.addresses[0].rstrip("/").rpartition(":")[2]
        self.url = f"http://a.localhost:{port}/room"

    def sign_in(self) -> None:
        """Set the cookie."""
        self._page.run(f"document.cookie = 'session={TOKEN}'")

    def ask(self, body: str | None = None, headers: dict[str, str] | None = None, **options: str) -> Any:
        """Send a request, a POST if it has a body; return status, content and Retry-After, or that they are hidden."""
        content = {} if body is None else {"method": "POST", "body": body}
        init = {**content, "headers": headers or {}, **options}
        return self._page.run(ASK % (json.dumps(self.url), json.dumps(init)))

    def tail(self, credentials: bool) -> Any:
        """Open a stream; return whether it did."""
        return self._page.run(TAIL % (json.dumps(self.url), json.dumps(credentials)))

    def await_text(self, text: str) -> None:
        """Wait until the messages of the stream are a text."""
        self._page.until(f"document.body.textContent.trim() === {json.dumps(text)}")


#: Opens a page at a URL; for the relay of the module, unless another is given.
Visit = Callable[..., Guest]


@pytest.fixture
def visit(each_browser: Browser, server: Relay) -> Iterator[Visit]:
    """Opens pages, and closes them."""
    with ExitStack() as stack:

        def opened(url: str, other: Relay | None = None) -> Guest:
            page = each_browser.page(url)
            stack.callback(page.close)
            return Guest(page, other or server)

        yield opened


def test_page_with_cookie(visit: Visit, site: int) -> None:
    """EventSource with credentials, and a POST of JSON with them, work from a named origin; each is published once."""
    guest = visit(f"http://a.localhost:{site}/")
    guest.sign_in()
    assert guest.tail(credentials=True) == "open"
    accepted = [202, '{"room":"room","members":1}\n', None]
    assert guest.ask('{"n": 1}', JSON, credentials="include") == accepted
    assert guest.ask("plain", credentials="include") == accepted
    assert guest.ask('{"n": 2}', {**JSON, "Wsrelay-Except": "A" * 22, "X-Own": "a"}, credentials="include") == accepted
    guest.await_text('{"n": 1};plain;{"n": 2};')


def test_page_with_token(visit: Visit, site: int) -> None:
    """A page may send Authorization without cookies, and read the answer."""
    guest = visit(f"http://a.localhost:{site}/")
    guest.sign_in()
    assert guest.tail(credentials=False) == "failed"
    assert guest.tail(credentials=True) == "open"
    assert guest.ask("by token", BEARER, credentials="omit")[0] == 202
    guest.await_text("by token;")
    status, content, _ = guest.ask(None, {**BEARER, "Accept": "application/json"}, credentials="omit")
    assert (status, json.loads(content)) == (200, {"room": "room", "members": 1, "publishers": 0})


def test_page_refused(visit: Visit, site: int) -> None:
    """A page of a named origin may read why it was refused, and so knows that nothing was published."""
    guest = visit(f"http://a.localhost:{site}/")
    guest.sign_in()
    assert guest.ask("x", credentials="omit") == [401, "a token is needed\n", None]
    assert guest.ask("x", {"Authorization": "Bearer x"}, credentials="omit")[0] == 401
    assert guest.ask("x" * 1001, credentials="include")[0] == 413
    assert guest.ask("x", {"Content-Type": "text/plain; charset=latin-1"}, credentials="include")[0] == 415
    assert guest.ask(credentials="include")[0] == 426
    assert guest.ask(credentials="include", method="HEAD")[:2] == [426, ""]
    assert guest.ask(credentials="include", method="PUT") == "hidden"


def test_page_over_limit(visit: Visit, site: int) -> None:
    """A page over a limit may read when to try again."""
    origin = f"origin:none,http://a.localhost:{site}"
    with relay("--http", "--validate", origin, "--max-connections-per-address", "1") as full:
        guest = visit(f"http://a.localhost:{site}/", full)
        with WebsocketsClient(full.url("/room")):
            assert guest.ask("plain") == [429, "too many connections from your address\n", "10"]


def test_page_not_allowed(visit: Visit, server: Relay) -> None:
    """A page of any other origin publishes nothing, although the browser sends its cookie; it reads that alone."""
    with blank_site() as other, WebsocketsClient(server.url("/room"), additional_headers=BEARER) as client:
        guest = visit(f"http://a.localhost:{other}/")
        guest.sign_in()
        status, reason, _ = guest.ask(credentials="omit")
        assert (status, reason.partition(";")[0]) == (403, f"the origin http://a.localhost:{other} is not allowed")
        assert_powerless(guest, reason)
        client.hears_nothing()


def test_page_without_origin(visit: Visit, server: Relay) -> None:
    """The same for a page with the origin "null"."""
    with WebsocketsClient(server.url("/room"), additional_headers=BEARER) as client:
        assert_powerless(visit("data:text/html,<body>"), "the origin null is not allowed ")
        client.hears_nothing()


def assert_powerless(guest: Guest, reason: str) -> None:
    """Assert that a page gets no stream and no answer but the refusal of its origin, whatever it sends."""
    for headers in ({}, JSON, BEARER):
        for body in ("forged", None) if headers != JSON else ("forged",):
            assert guest.ask(body, headers, credentials="include") == "hidden"
            told = guest.ask(body, headers, credentials="omit")
            # Chromium lets no data: page ask this machine anything.
            assert told == "hidden" or (not headers and told[0] == 403 and told[1].startswith(reason)), told
    assert guest.tail(credentials=True) == guest.tail(credentials=False) == "failed"


def test_page_of_every_origin(visit: Visit, site: int) -> None:
    """Where every origin is allowed, a page may do the same without credentials, and read nothing with them."""
    with relay("--http", "--validate", "origin:*") as open_relay:
        guest = visit(f"http://b.localhost:{site}/", open_relay)
        assert guest.tail(credentials=True) == "failed"
        assert guest.tail(credentials=False) == "open"
        assert guest.ask('{"n": 1}', {**JSON, **BEARER}, credentials="omit")[0] == 202
        guest.await_text('{"n": 1};')
        assert guest.ask('{"n": 2}', JSON, credentials="include") == "hidden"
        assert guest.ask('{"n": 3}', JSON)[0] == 202
        guest.await_text('{"n": 1};{"n": 3};')
