"""Firefox, driven by WebDriver BiDi, for tests of pages.

:func:`firefox` starts one and always stops it; :meth:`Firefox.page` opens a window. It needs no network and no
geckodriver: Debian's ``firefox-esr`` has the protocol built in.

Source: https://www.w3.org/TR/webdriver-bidi/
"""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.harness.browser import UNTIL
from tests.harness.live import SECONDS, Process, require

OPTIONS = ["--headless", "--no-remote", "--new-instance", "--remote-debugging-port", "0"]

#: A crash starts no reporter, which would outlive the browser; and ``services.settings.server`` is obeyed (TRAPS 96).
ENVIRONMENT = {"MOZ_CRASHREPORTER_DISABLE": "1", "MOZ_REMOTE_SETTINGS_DEVTOOLS": "1"}

#: Preferences of the profile. Firefox adds the recommended ones of its remote agent; these are for a machine without
#: internet: nothing is fetched, checked, reported or updated, and no background page is throttled.
PREFERENCES = {
    "app.normandy.enabled": False,
    "app.shield.optoutstudies.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.aboutwelcome.enabled": False,
    "browser.newtabpage.enabled": False,
    "browser.region.network.url": "",
    "browser.region.update.enabled": False,
    "browser.safebrowsing.blockedURIs.enabled": False,
    "browser.safebrowsing.downloads.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.safebrowsing.update.enabled": False,
    "browser.search.update": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "browser.startup.page": 0,
    "browser.topsites.contile.enabled": False,
    "datareporting.healthreport.uploadEnabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "datareporting.usage.uploadEnabled": False,
    "dom.min_background_timeout_value": 4,
    "dom.push.connection.enabled": False,
    "dom.timeout.enable_budget_timer_throttling": False,
    "extensions.getAddons.cache.enabled": False,
    "extensions.systemAddon.update.enabled": False,
    "extensions.update.enabled": False,
    "geo.enabled": False,
    "media.gmp-manager.updateEnabled": False,
    "media.gmp-manager.url": "",
    "messaging-system.rsexperimentloader.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disablePrefetch": True,
    "network.http.speculative-parallel-limit": 0,
    "network.prefetch-next": False,
    "network.proxy.type": 0,
    "network.trr.mode": 5,
    "security.OCSP.enabled": 0,
    "security.remote_settings.crlite_filters.enabled": False,
    "security.remote_settings.intermediates.enabled": False,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "signon.autofillForms": False,
    "toolkit.telemetry.enabled": False,
    "toolkit.telemetry.server": "data:,",
    "toolkit.telemetry.unified": False,
}


class Firefox:
    """A running Firefox.

    Args:
        socket: a connection to its BiDi session.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    def page(self, url: str) -> "FirefoxPage":
        """Open a page in a new window, and wait until it has loaded."""
        page = FirefoxPage(self, self.call("browsingContext.create", type="window")["context"])
        page.go(url)
        return page

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method and return its result; events are dropped."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        # A little longer than the inner timeout, whose failure says more.
        while (answer := json.loads(self._socket.recv(SECONDS + 5))).get("id") != number:
            pass
        assert answer["type"] == "success", f"{method}: {answer}"
        result: dict[str, Any] = answer["result"]
        return result


class FirefoxPage:
    """A page in its own window; see :class:`tests.harness.browsers.AnyPage`."""

    def __init__(self, owner: Firefox, context: str) -> None:
        self._owner = owner
        self._context = context

    def go(self, url: str) -> None:
        """Open a URL, and wait until it has loaded."""
        self._owner.call("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def run(self, script: str) -> Any:
        """Return the value of an expression; promises are awaited."""
        answer = self._owner.call(
            "script.evaluate",
            expression=script,
            target={"context": self._context},
            awaitPromise=True,
            userActivation=True,
        )
        assert answer["type"] == "success", answer["exceptionDetails"]["text"]
        return value_of(answer["result"])

    def until(self, expression: str) -> Any:
        """Wait until an expression is true, and return its value."""
        return self.run(UNTIL % (expression, SECONDS * 1000))

    def close(self) -> None:
        """Close the window."""
        self._owner.call("browsingContext.close", context=self._context)


def value_of(remote: dict[str, Any]) -> Any:
    """Return a BiDi remote value as JSON has it; ``None`` for what JSON has not."""
    match remote:
        case {"type": "array", "value": list(items)}:
            return [value_of(item) for item in items]
        case {"type": "object", "value": list(pairs)}:
            return {name: value_of(value) for name, value in pairs}
        case {"type": "string" | "number" | "boolean", "value": value}:
            return value
    return None


@contextmanager
def firefox(folder: Path) -> Iterator[Firefox]:
    """Run Firefox while the block runs.

    Args:
        folder: its profile and its home; an empty folder.
    """
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items()]
    (folder / "user.js").write_text("".join(lines))
    environ = {**ENVIRONMENT, "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}  # root may only use its own folders
    with Process([require("firefox-esr"), *OPTIONS, "--profile", str(folder)], str(folder), environ) as process:
        (url,) = process.output.wait_for(r"WebDriver BiDi listening on (ws://\S+)")
        with connect(f"{url}/session", proxy=None, max_size=None, compression=None, open_timeout=SECONDS) as socket:
            started = Firefox(socket)
            started.call("session.new", capabilities={"alwaysMatch": {"acceptInsecureCerts": True}})
            yield started
            with suppress(Exception):  # it may end before it answers
                started.call("browser.close")
        process.wait()
