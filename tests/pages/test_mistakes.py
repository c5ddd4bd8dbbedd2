"""docs/mistakes.md: each mistake is made, and what is said is compared with the page."""

import io
import os
import re
import resource
import shlex
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import jwt
import pytest
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.usage import UsageError

from tests.harness.framing import wire_frame
from tests.harness.live import make_certificate
from tests.harness.service import Taken
from tests.harness.support import Relay, RelayTestCase, request_bytes
from tests.pages.page import ROOT, rows, spans
from wsrelay import service
from wsrelay.cli.hints import unknown_variables
from wsrelay.commands.main import main
from wsrelay.factory import RelayFactory
from wsrelay.net import descriptors
from wsrelay.net.endpoints import Endpoint
from wsrelay.process import RelayProcess
from wsrelay.settings import Settings
from wsrelay.tap import Options
from wsrelay.validators.plugins import load
from wsrelay.wire import frames

#: Deprecated pyOpenSSL functions that Twisted calls.
pytestmark = pytest.mark.filterwarnings("ignore:.*You should use.*cryptography:DeprecationWarning")

PAGE = ROOT / "docs" / "mistakes.md"

SECRET = "a secret of at least thirty-two bytes"

#: ``--validate token:…`` on the page.
TOKEN = "--validate token:key=relay.key,algorithm=HS256,audience=relay,issuer=wsrelay"

#: Mistake → the error with which the system, or Twisted, refuses to listen; they differ by machine and user.
LISTEN_ERRORS: dict[str, Exception] = {
    "the port is in use": CannotListenError("127.0.0.1", 8080, OSError(98, "Address already in use")),
    "relay and admin endpoint on one port": CannotListenError("127.0.0.1", 8080, OSError(98, "Address already in use")),
    "a port below 1024": CannotListenError("0.0.0.0", 80, OSError(13, "Permission denied")),
    "two relays on one unix socket": CannotListenError(None, b"relay.sock", "Cannot acquire lock"),
    "a unix socket in no folder": FileNotFoundError(2, "No such file or directory", "17", None, "relay.sock.lock"),
}

#: Mistake → claims of its token, but for those of :data:`CLAIMS`.
TOKENS: dict[str, dict[str, Any]] = {
    "an expired token": {"exp": 1_000_000_000},
    "a token of another key, or for another audience": {"aud": "another"},
    "a token for another room": {"rooms": ["news"]},
}
CLAIMS = {"exp": 4_102_444_800, "aud": "relay", "iss": "wsrelay"}

#: Mistakes that are made elsewhere: in a browser, by nginx and make.
ELSEWHERE = {"a page on https:// opens ws://", "Python is too old"}

#: Fields of a handshake that a proxy in front changes.
PROXIES = {
    "a proxy that does not pass Upgrade on": {"Upgrade": None, "Connection": "close"},
    "a proxy that speaks HTTP/1.0": {"line": "GET /chat HTTP/1.0", "Upgrade": None, "Connection": "close"},
}


def table() -> dict[str, list[str]]:
    """Return mistake → what is typed, what is said, what to do."""
    return {mistake: cells for mistake, *cells in rows(PAGE)}


class MistakesTestCase(RelayTestCase):
    """Mistakes that are made in a folder of their own."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        self.patch(Options, "environ", {})
        self.patch(sys, "argv", ["wsrelay"])

    def assert_said(self, mistake: str, said: str) -> None:
        """Compare what was said with the page."""
        expected = spans(table()[mistake][1])
        self.assertTrue(expected, mistake)
        for text in expected:
            self.assertIn(text, said, f"{mistake}: {text!r} is not in {said!r}")


class StartTests(MistakesTestCase):
    """The first table."""

    def test_rows(self) -> None:
        """Each mistake at the start is answered as the page says, by a command that ends with another code than 0."""
        found = 0
        for mistake, (typed, _, _) in table().items():
            command, *files = spans(typed)
            if " in a page" in typed or "`, and " in typed or mistake in ELSEWHERE:
                continue
            found += 1
            if files:
                Path("relay.toml").write_text("\n".join(files), "utf-8")
            with self.subTest(mistake):
                self.assert_said(mistake, self.said(mistake, command))
        self.assertGreater(found, 30)

    def said(self, mistake: str, command: str) -> str:
        """Run a command, and return what it says."""
        self.patch(Options, "environ", dict(re.findall(r"^(WSRELAY_\w+)=(\S+) ", command)))
        theirs = Path("theirs.log")
        theirs.touch()
        self.patch(os, "access", lambda place, mode: Path(place) != theirs)  # tests may run as root
        for limit in re.findall(r"^ulimit -n (\d+); ", command):
            self.patch(resource, "getrlimit", lambda which, files=int(limit): (files, files))
            self.patch(descriptors, "_open_files", lambda: 6)
        words = shlex.split(re.sub(r"^.*?\bwsrelay ", "", command))
        without = {"hiredis": None} if "without its library" in mistake else {}
        output = io.StringIO()
        code: object = 0
        with redirect_stdout(output), redirect_stderr(output), mock.patch.dict(sys.modules, without):
            try:
                code = self.run_command(mistake, words)
            except SystemExit as end:
                code = end.code
        if "is ignored" not in mistake:
            self.assertTrue(code, mistake)
        return f"{output.getvalue()}\n{code}"

    def run_command(self, mistake: str, words: list[str]) -> object:
        """Run ``wsrelay`` in this process; ``serve`` stops before it listens. Returns a text, or the exit code."""
        if words[0] != "serve":
            return main(words)
        options = Options()
        try:
            options.parseOptions(words[1:])
        except UsageError as error:
            return str(error)
        if mistake in LISTEN_ERRORS:
            self.listen(LISTEN_ERRORS[mistake])
        return "\n".join(unknown_variables(options.environ))

    def listen(self, error: Exception) -> None:
        """Start a relay that cannot listen; raises ``SystemExit``."""
        taken = Taken()
        self.patch(taken, "error", error)
        self.patch(service, "endpoints", lambda *_: [taken])
        factory = RelayFactory(Settings(), [], MemoryReactorClock())
        RelayProcess(factory, lambda: (factory.settings, [])).privilegedStartService()


class ConnectTests(MistakesTestCase):
    """The second table."""

    def test_rows(self) -> None:
        """Each mistake of a client is answered as the page says, in the log or to the client."""
        found = 0
        for mistake, (typed, _, _) in table().items():
            if "`, and " not in typed:
                continue
            found += 1
            relay_typed, *client_typed = typed.split("`, and ", 1)
            client = spans("".join(client_typed)) or [""]
            with self.subTest(mistake):
                self.assert_said(mistake, self.said(mistake, self.started(relay_typed), client[0]))
        self.assertGreater(found, 13)

    def started(self, typed: str) -> Relay:
        """Return a relay with the options of the page."""
        pem = make_certificate(self.folder)
        for name, content in (
            ("key.pem", pem.read_bytes()),
            ("cert.pem", pem.read_bytes()),
            ("relay.key", SECRET.encode()),
        ):
            Path(name).write_bytes(content)
        options = Options()
        options.parseOptions(shlex.split(typed.strip("`").replace("--validate token:…", TOKEN))[2:])
        settings = {
            name: getattr(options.settings, name) for name in ("http", "listen", "max_message_bytes", "validate")
        }
        return self.relay(load(options.settings.validate), **settings)

    def said(self, mistake: str, relay: Relay, typed: str) -> str:
        """Make a mistake at a relay; return the answer, and the log."""
        self.events.clear()
        url = urlsplit("".join(re.findall(r"\w+://[^\s\"]+", typed)))
        if mistake == "ws:// to a port with TLS":
            answer = self.to_tls(relay)
        elif url.scheme == "https":
            answer = relay.wire().send(b"\x16\x03\x01\x02\x00\x01")
        elif typed.startswith("curl"):
            answer = relay.wire().send(of_curl(typed, url.path))
        else:
            answer = self.of_page(mistake, relay, url)
        return "\n".join([answer.decode("latin-1"), *self.logged()])

    def to_tls(self, relay: Relay) -> bytes:
        """Send plain HTTP to an endpoint of the relay that speaks TLS."""
        clock, transport = MemoryReactorClock(), StringTransport()
        Endpoint(clock, relay.factory.settings.listen[0]).listen(relay.factory)
        connection = clock.tcpServers[0][1].buildProtocol(None)
        connection.makeConnection(transport)
        connection.dataReceived(of_curl("curl http://127.0.0.1:8443/chat", "/chat"))
        return bytes(transport.value())

    def of_page(self, mistake: str, relay: Relay, url: Any) -> bytes:
        """Connect as a page does; with a token, or as behind a proxy, where the mistake is about them."""
        target = f"{url.path or '/chat'}{url.query and '?'}{url.query}"
        fields: dict[str, Any] = {"Origin": "https://app.example" if mistake == "a page of another site" else None}
        line = f"GET {target} HTTP/1.1"
        if mistake in TOKENS:
            fields["Authorization"] = f"Bearer {jwt.encode({**CLAIMS, **TOKENS[mistake]}, SECRET)}"
        fields |= PROXIES.get(mistake, {})
        wire = relay.wire()
        answer: bytes = wire.send(request_bytes(line=fields.pop("line", line), fields=fields))
        if mistake == "too large a message":
            closed = wire.send(wire_frame(0x80 | frames.BINARY, bytes(101)))
            return b"%d %s" % (int.from_bytes(closed[2:4]), closed[4:])
        return answer


def of_curl(command: str, path: str) -> bytes:
    """Return the request that a command with curl sends."""
    words = shlex.split(command)
    body = words[words.index("--data") + 1] if "--data" in words else ""
    head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept: */*\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
