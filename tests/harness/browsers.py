"""Pages in browsers, Chromium and Firefox alike.

The fixture ``each_browser`` of ``tests/conftest.py`` runs a test once per row of :data:`BROWSERS`. What only one of
them can do stays with it: :mod:`tests.harness.browser` (Chromium) and :mod:`tests.harness.firefox`.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

from tests.harness.browser import browser
from tests.harness.firefox import firefox
from tests.harness.live import SECONDS


class AnyPage(Protocol):
    """A page in its own window."""

    def go(self, url: str, /) -> None:
        """Open a URL, and wait until it has loaded."""

    def run(self, script: str, /) -> Any:
        """Return the value of an expression; promises are awaited."""

    def until(self, expression: str, /) -> Any:
        """Wait until an expression is true, and return its value."""

    def close(self) -> None:
        """Close the window."""


class AnyBrowser(Protocol):
    """A running browser."""

    def page(self, url: str, /) -> AnyPage:
        """Open a page in a new window, and wait until it has loaded."""


#: Name → what runs it while the block runs, with an empty folder for its profile.
BROWSERS: dict[str, Callable[[Path], AbstractContextManager[AnyBrowser]]] = {"chromium": browser, "firefox": firefox}


class _Blank(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(b'<!doctype html><title>blank</title><link rel="icon" href="data:,">')

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def blank_site() -> Iterator[int]:
    """Serve an empty page at each path, and give the port on 127.0.0.1.

    Browsers resolve all names below ``localhost`` to this machine: ``http://a.localhost:PORT`` and
    ``http://b.localhost:PORT`` are pages of two origins.
    """
    with ThreadingHTTPServer(("127.0.0.1", 0), _Blank) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join(SECONDS)
