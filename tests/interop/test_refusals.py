"""Refused handshakes as pages see them, in Chromium and in Firefox."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.browsers import Browser, Page, blank_site
from tests.harness.live import relay

pytestmark = pytest.mark.deploy

#: Resolves with the end of a WebSocket: code, reason, and its subprotocol.
CONNECT = """new Promise((resolve) => {
  const socket = new WebSocket(...%s);
  socket.onclose = ({ code, reason }) => resolve([code, reason, socket.protocol]);
})"""

#: The GET of docs/clients.md: status and reason, or that the browser does not show them.
ASK = """fetch(%s.replace(/^ws/, "http"), { cache: "no-store" }).then(
  async (answer) => [answer.status, (await answer.text()).trim()],
  () => "hidden",
)"""

UNSEEN = [1006, "", ""]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a site of empty pages."""
    with blank_site() as started:
        yield started


@pytest.fixture
def page(each_browser: Browser, port: int) -> Iterator[Page]:
    """A page of an allowed origin, a.localhost."""
    opened = each_browser.page(f"http://a.localhost:{port}/")
    yield opened
    opened.close()


def connect(page: Page, *arguments: Any) -> Any:
    """Return how a WebSocket with these arguments ends."""
    return page.run(CONNECT % json.dumps(arguments))


def test_explained(page: Page, port: int) -> None:
    """With --explain-refusals a page sees close code and reason, also with subprotocols, and of another origin."""
    origin, rooms = f"origin:http://a.localhost:{port}", "rooms:public/*"
    with relay("--explain-refusals", "--validate", rooms, "--validate", origin) as server:
        url = server.url("/private")
        assert connect(page, url) == [4403, "this room is not allowed", ""]
        offers = ["base64url.bearer.x.c2VjcmV0", "chat", "v2"]
        assert connect(page, url, offers) == [4403, "this room is not allowed", "chat"]
        page.go(f"http://b.localhost:{port}/")
        code, reason, _ = connect(page, url)
        assert (code, reason.partition(";")[0]) == (4403, f"the origin http://b.localhost:{port} is not allowed")


def test_asked_by_get(page: Page, port: int) -> None:
    """Without it, and without --http, a page reads why by a GET; one of another origin, that this is the reason."""
    origin, rooms = f"origin:http://a.localhost:{port}", "rooms:public/*"
    with relay("--validate", rooms, "--validate", origin) as server:
        private, public = server.url("/private"), server.url("/public/1")
        assert connect(page, private) == UNSEEN
        assert page.run(ASK % json.dumps(private)) == [403, "this room is not allowed"]
        status, text = page.run(ASK % json.dumps(public))
        assert (status, f'new WebSocket("{public}")' in text) == (426, True)
        page.go(f"http://b.localhost:{port}/")
        assert connect(page, private) == UNSEEN
        remedy = f"add http://b.localhost:{port} to --validate origin:..."
        told = [403, f"the origin http://b.localhost:{port} is not allowed; to allow it, {remedy}"]
        assert page.run(ASK % json.dumps(private)) == page.run(ASK % json.dumps(public)) == told
