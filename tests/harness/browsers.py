"""Pages in Chromium and in Firefox, as Debian has them, driven by Playwright.

The fixture ``each_browser`` of ``tests/conftest.py`` runs a test once per row of :data:`BROWSERS`. A browser is started
when a test needs it at first, and runs to the end of the session; each page has a profile of its own. Nothing here
sleeps or polls: the page reports when an expression becomes true (:meth:`Page.until`).

Sources: https://playwright.dev/python/, https://www.w3.org/TR/webdriver-bidi/ (its way to Firefox), TRAPS 163.
"""

import os
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from tests.harness.background import Background
from tests.harness.live import SECONDS, missing, require

if TYPE_CHECKING:
    import playwright.async_api as api

Result = TypeVar("Result")

#: Preferences of Firefox, added to those of Playwright: no request leaves the machine, and pages of files may not read
#: each other, as for people.
PREFERENCES = {
    "app.normandy.enabled": False,
    "browser.region.network.url": "",
    "browser.topsites.contile.enabled": False,
    "dom.push.connection.enabled": False,
    "media.gmp-manager.url": "",
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    "network.captive-portal-service.enabled": False,
    "network.dns.disablePrefetch": True,
    "network.prefetch-next": False,
    "network.proxy.type": 0,
    "network.trr.mode": 5,
    "security.fileuri.strict_origin_policy": True,
    "security.OCSP.enabled": 0,
    "security.remote_settings.crlite_filters.enabled": False,
    "security.remote_settings.intermediates.enabled": False,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
}

#: Name → how Playwright starts it. Both make ICE candidates addresses instead of multicast DNS names, which some
#: machines cannot resolve.
BROWSERS: dict[str, dict[str, Any]] = {
    "chromium": {
        "program": "chromium",
        "args": ["--no-proxy-server", "--disable-features=WebRtcHideLocalIpsWithMdns"],
    },
    "firefox": {"program": "firefox-esr", "channel": "moz-firefox", "firefox_user_prefs": PREFERENCES},
}

#: Resolves with the value of an expression as soon as it is true; checked at each change of the DOM. Its timeout says
#: more than ours, and so is shorter.
UNTIL = """new Promise((resolve, reject) => {
  const look = () => {
    const value = (() => %s)();
    if (value) { observer.disconnect(); clearTimeout(timer); resolve(value); }
  };
  const observer = new MutationObserver(look);
  const timer = setTimeout(() => reject(new Error(document.body.innerText.slice(0, 2000))), %d);
  observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
  look();
})"""


class Driver:
    """Playwright, in a thread of its own: its blocking API leaves a running loop in the thread of the tests.

    A context manager: leaving stops all browsers.

    Attributes:
        downloads: the folder for what pages download (Firefox' downloads of ``blob:`` are no event of Playwright's).
    """

    def __init__(self) -> None:
        self._background = Background()
        self._home = TemporaryDirectory(ignore_cleanup_errors=True)
        self.downloads = Path(self._home.name, "downloads")
        self._started: dict[tuple[str, ...], Browser] = {}

    def __enter__(self) -> Self:
        """Start Playwright."""
        if not find_spec("playwright"):
            missing("the Python package playwright", "pip install -e '.[deploy]'")
        self._background.__enter__()
        self._playwright = self.run(import_module("playwright.async_api").async_playwright().start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for browser in self._started.values():
            browser.close()
        self.run(self._playwright.stop())
        self._background.__exit__(kind, error, trace)
        self._home.cleanup()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine of Playwright's, and return its result."""
        return self._background.run(work)

    def browser(self, name: str, *options: str) -> "Browser":
        """Return a running browser, started at the first call.

        Args:
            name: a row of :data:`BROWSERS`.
            options: additional options of the program.
        """
        return self._started.get((name, *options)) or self._start(name, *options)

    def _start(self, name: str, *options: str) -> "Browser":
        how = dict(BROWSERS[name])
        how["executable_path"] = require(how.pop("program"))
        how["args"] = [*how.get("args", []), *options]
        # A crash starts no reporter; services.settings.server is obeyed (TRAPS 96); root may only use its own folders.
        home = {"HOME": self._home.name, "XDG_RUNTIME_DIR": self._home.name}
        env = {**os.environ, **home, "MOZ_CRASHREPORTER_DISABLE": "1", "MOZ_REMOTE_SETTINGS_DEVTOOLS": "1"}
        how.update(env=env, downloads_path=self.downloads, timeout=SECONDS * 1000)
        started = self.run(getattr(self._playwright, name).launch(**how))
        self._started[(name, *options)] = Browser(self, name, started)
        return self._started[(name, *options)]


class Browser:
    """A running browser.

    Attributes:
        name: a row of :data:`BROWSERS`.
        downloads: the folder for what pages download, under any names.
    """

    def __init__(self, driver: Driver, name: str, browser: "api.Browser") -> None:
        self.name = name
        self.downloads = driver.downloads
        self._driver = driver
        self._browser = browser

    def page(self, url: str, *, before: str = "", width: int = 1280, height: int = 720) -> "Page":
        """Open a page in a window and a profile of its own, and wait until it has loaded.

        Args:
            url: the page.
            before: a script that runs before the page's own.
            width: of the window, in pixels; below 600 it is a phone, as far as the browser can be one.
            height: of the window, in pixels.
        """
        phone = {"is_mobile": True, "has_touch": True} if width < 600 and self.name == "chromium" else {}
        opened = self._driver.run(self._open(before, {"width": width, "height": height}, phone))
        opened.go(url)
        return opened

    def close(self) -> None:
        """Stop it."""
        self._driver.run(self._browser.close())

    async def _open(self, before: str, viewport: Any, phone: dict[str, Any]) -> "Page":
        context = await self._browser.new_context(ignore_https_errors=True, viewport=viewport, **phone)
        await context.add_init_script(before)
        return Page(self._driver, await context.new_page())


class Page:
    """A page in a window of its own.

    Attributes:
        playwright: Playwright's page, whose methods :meth:`do` calls.
    """

    def __init__(self, driver: Driver, page: "api.Page") -> None:
        self.playwright = page
        self.do = driver.run
        self._complaints: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self._complaints.append(str(error)))

    def _on_console(self, message: "api.ConsoleMessage") -> None:
        if message.type in ("error", "warning", "assert"):
            self._complaints.append(message.text)

    def go(self, url: str) -> None:
        """Open a URL, and wait until it has loaded."""
        self.do(self.playwright.goto(url))

    def reload(self) -> None:
        """Reload, and wait until it has loaded."""
        self.do(self.playwright.reload())

    def run(self, script: str) -> Any:
        """Return the value of a script; promises are awaited, and a function is called."""
        return self.do(self.playwright.evaluate(script))

    def until(self, expression: str) -> Any:
        """Wait until an expression is true, and return its value."""
        return self.run(UNTIL % (expression, (SECONDS - 5) * 1000))

    def choose_files(self, selector: str, *files: Path) -> None:
        """Choose files in a file input."""
        self.do(self.playwright.set_input_files(selector, files))

    def press(self, key: str) -> None:
        """Press and release a key, by its code."""
        self.do(self.playwright.keyboard.press(key))

    def type(self, text: str) -> None:
        """Type into the focused element."""
        self.do(self.playwright.keyboard.insert_text(text))

    def outline(self) -> str:
        """Return the page as assistive technology sees it: roles, names and texts, in Playwright's notation."""
        return self.do(self.playwright.locator("body").aria_snapshot())

    def complaints(self) -> list[str]:
        """Return the console's errors and warnings, exceptions and policy violations."""
        self.run("0")  # all earlier events are handled when its answer comes
        return self._complaints

    def close(self) -> None:
        """Close the window, and forget its profile."""
        self.do(self.playwright.context.close())


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
