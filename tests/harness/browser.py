"""Chromium, driven by the Chrome DevTools Protocol, for tests of pages.

:func:`browser` starts one and always stops it; :meth:`Browser.page` opens a tab. Nothing here sleeps or polls: the
page reports when an expression becomes true (:meth:`Page.until`).

Source: https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.harness.live import SECONDS, Process, require

OPTIONS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--ignore-certificate-errors",
    "--no-proxy-server",
    # Each page has its own window, and only one can be in front: the others would be throttled.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--lang=en",
    "--remote-debugging-port=0",
]

#: Code of a key → its number in DevTools.
KEYS = {"ArrowDown": 40, "ArrowLeft": 37, "ArrowRight": 39, "ArrowUp": 38, "Enter": 13, "Space": 32, "Tab": 9}

#: Resolves with the value of an expression as soon as it is true; checked at each change of the DOM.
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


class Browser:
    """A running Chromium.

    Args:
        socket: a connection to its DevTools.

    Attributes:
        events: DevTools events of the browser as a whole.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._pages: dict[str, Page] = {}
        self.events: list[dict[str, Any]] = []

    def page(self, url: str, *, before: str = "", **screen: Any) -> "Page":
        """Open a page in a new window, and wait until it has loaded.

        Args:
            url: the page.
            before: a script that runs before the page's own.
            screen: ``width``, ``height`` and ``mobile`` of an emulated screen.
        """
        target = self.call("Target.createTarget", url="about:blank", newWindow=True)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Audits", "DOM"):
            page.call(f"{domain}.enable")
        page.call("Emulation.setFocusEmulationEnabled", enabled=True)
        if screen:
            page.call("Emulation.setDeviceMetricsOverride", **{"deviceScaleFactor": 1, "mobile": False, **screen})
        page.call("Page.addScriptToEvaluateOnNewDocument", source=before)
        page.go(url)
        return page

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call a method and return its result; events that arrive first go to their pages."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message if session is None else {**message, "sessionId": session}))
        while (answer := self.hear()).get("id") != number:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def hear(self) -> dict[str, Any]:
        """Return the next message, an event or an answer."""
        # A little longer than the inner timeout, whose failure says more.
        message: dict[str, Any] = json.loads(self._socket.recv(SECONDS + 5))
        page = self._pages.get(message.get("sessionId", ""))
        (page or self).events.append(message)
        return message

    def download(self, folder: Path) -> Path:
        """Wait until a download is complete, and return its file."""
        while True:
            for event in self.events:
                match event:
                    case {"method": "Browser.downloadProgress", "params": {"state": "completed", "guid": str(guid)}}:
                        self.events.remove(event)
                        return folder / guid
            self.hear()


class Page:
    """A page in its own window.

    Attributes:
        events: all that DevTools said of it.
    """

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser = browser
        self._session = session
        self._target = target
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of DevTools for this tab."""
        return self._browser.call(method, self._session, **parameters)

    def go(self, url: str) -> None:
        """Open a URL, and wait until it has loaded."""
        self.events.clear()
        self.call("Page.navigate", url=url)
        self._await_load()

    def reload(self) -> None:
        """Reload, and wait until it has loaded."""
        self.events.clear()
        self.call("Page.reload")
        self._await_load()

    def _await_load(self) -> None:
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self._browser.hear()

    def run(self, script: str, **options: Any) -> Any:
        """Return the value of an expression; promises are awaited."""
        usual = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        answer = self.call("Runtime.evaluate", expression=script, **{**usual, **options})
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value", answer["result"].get("objectId"))

    def until(self, expression: str) -> Any:
        """Wait until an expression is true, and return its value."""
        return self.run(UNTIL % (expression, SECONDS * 1000))

    def choose_files(self, selector: str, *files: Path) -> None:
        """Choose files in a file input."""
        chooser = self.run(f"document.querySelector({json.dumps(selector)})", returnByValue=False)
        self.call("DOM.setFileInputFiles", objectId=chooser, files=[str(file) for file in files])

    def press(self, code: str, text: str = "") -> None:
        """Press and release a key; ``text`` is its character, if any."""
        same = {"key": text if text == " " else code, "code": code, "windowsVirtualKeyCode": KEYS[code]}
        self.call("Input.dispatchKeyEvent", type="keyDown", **({"text": text} if text else {}), **same)
        self.call("Input.dispatchKeyEvent", type="keyUp", **same)

    def type(self, text: str) -> None:
        """Type into the focused element."""
        self.call("Input.insertText", text=text)

    def screenshot(self, file: Path, **options: Any) -> None:
        """Save a screenshot."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", **options)["data"]))

    def complaints(self) -> list[str]:
        """Return the console's errors, warnings, exceptions and policy violations."""
        self.run("0")  # all earlier events are handled when its answer comes
        found = []
        for event in self.events:
            parameters = event.get("params", {})
            match event.get("method"):
                case "Runtime.exceptionThrown":
                    found.append(json.dumps(parameters["exceptionDetails"]))
                case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning", "assert"):
                    found.append(json.dumps(parameters["args"]))
                case "Log.entryAdded" if parameters["entry"]["level"] in ("error", "warning"):
                    found.append(parameters["entry"]["text"])
                case "Audits.issueAdded":
                    found.append(json.dumps(parameters["issue"]))
        return found

    def close(self) -> None:
        """Close the tab."""
        self._browser.call("Target.closeTarget", targetId=self._target)


@contextmanager
def browser(folder: Path, *options: str) -> Iterator[Browser]:
    """Run Chromium while the block runs.

    Args:
        folder: its profile; an empty folder.
        options: additional options.
    """
    # No speculative connections: a stopping relay waits for them, and the page would obey the answer on one (503,
    # Retry-After: 10).
    preferences = folder / "Default" / "Preferences"
    preferences.parent.mkdir(parents=True)
    preferences.write_text(json.dumps({"net": {"network_prediction_options": 2}}))
    command = [require("chromium"), *OPTIONS, *options, f"--user-data-dir={folder}", "about:blank"]
    with Process(command) as process:
        (url,) = process.output.wait_for(r"DevTools listening on (\S+)")
        with connect(url, proxy=None, max_size=None, compression=None, open_timeout=SECONDS) as socket:
            started = Browser(socket)
            yield started
            with suppress(Exception):  # it may end before it answers
                started.call("Browser.close")
        process.wait()
