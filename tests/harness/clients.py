"""Third-party WebSocket clients with one interface, for tests on real sockets.

:class:`WebsocketsClient` is Python's ``websockets`` in this process; :class:`ScriptClient` is a client in another
process, controlled by lines of JSON. Every wait has a timeout, and nothing sleeps: the absence of a message is shown
by a later answer (:meth:`Client.hears_nothing`).

The protocol on the pipes of a script, payloads in base64::

    to it    {"do": "say", "text": true, "fragments": ["…"]}    one fragment is a plain message
             {"do": "ping"}
             {"do": "close"}
    from it  {"saw": "open", "extensions": "permessage-deflate; …"}
             {"saw": "refused", "status": 403}
             {"saw": "message", "text": true, "payload": "…"}
             {"saw": "pong"}
             {"saw": "close", "code": 1012, "reason": "…"}
"""

import base64
import hashlib
import json
import socket
import ssl
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect, unix_connect

from tests.harness.live import SECONDS, Process, Relay, missing, require

HERE = Path(__file__).resolve().parents[1] / "interop"


@dataclass(frozen=True)
class Said:
    """A message as sent.

    Attributes:
        fragments: its payload, a frame each; cuts may be within a character.
        is_text: whether it is text.
    """

    fragments: tuple[bytes, ...]
    is_text: bool

    @property
    def heard(self) -> str | bytes:
        """The message as received."""
        payload = b"".join(self.fragments)
        return payload.decode() if self.is_text else payload


def text(*fragments: str | bytes) -> Said:
    """Return a text message of these fragments."""
    return Said(tuple(part.encode() if isinstance(part, str) else part for part in fragments), is_text=True)


def binary(*fragments: bytes) -> Said:
    """Return a binary message of these fragments."""
    return Said(fragments, is_text=False)


def brief(payload: str | bytes) -> object:
    """Return a short stand-in for a payload, so that a failing comparison does not print megabytes."""
    if len(payload) <= 80:
        return payload
    data = payload.encode() if isinstance(payload, str) else payload
    return type(payload).__name__, len(payload), hashlib.sha256(data).hexdigest()


class Client(Protocol):
    """The common interface of all clients."""

    #: What was agreed on top of the protocol; empty for nothing.
    extensions: str

    def say(self, said: Said) -> None:
        """Send a message."""

    def hear(self) -> str | bytes:
        """Return the next message."""

    def hears_nothing(self) -> None:
        """Fail if a message is pending: the pong of a new ping must come first."""

    def closed(self) -> tuple[int | None, str]:
        """Wait for the end; return code and reason of the relay's close frame."""


class WebsocketsClient:
    """Python's ``websockets``. A context manager: connects on entering, closes on leaving.

    Args:
        url: where to connect; the room is in it.
        unix: the path of a socket to connect to instead.
        deflate: whether to offer compression.
        options: of ``websockets.sync.client.connect``.

    Attributes:
        ws: the connection itself.
    """

    ws: ClientConnection
    extensions: str

    def __init__(self, url: str, unix: str | None = None, *, deflate: bool = False, **options: Any) -> None:
        usual: dict[str, Any] = {
            "compression": "deflate" if deflate else None,
            "max_size": None,
            # As many messages as a test lets pile up: beyond, websockets stops reading, and no pong would come.
            "max_queue": None,
            "open_timeout": SECONDS,
            "close_timeout": SECONDS,
        }
        if unix is None:
            self._connecting = partial(connect, url, proxy=None, **usual, **options)
        else:
            self._connecting = partial(unix_connect, unix, url, **usual, **options)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Connect."""
        self.ws = self._stack.enter_context(self._connecting())
        self.extensions = ", ".join(extension.name for extension in self.ws.protocol.extensions)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def say(self, said: Said) -> None:
        """Send a message."""
        message = said.fragments if len(said.fragments) > 1 else said.fragments[0]
        self.ws.send(message, text=said.is_text)

    def hear(self) -> str | bytes:
        """Return the next message."""
        return self.ws.recv(SECONDS)

    def hears_nothing(self) -> None:
        """Fail if a message is pending."""
        assert self.ws.ping().wait(SECONDS), f"no pong came; the relay has closed with {self.ws.protocol.close_rcvd}"
        with pytest.raises(TimeoutError):
            self.ws.recv(0)

    def closed(self) -> tuple[int | None, str]:
        """Wait for the end; return code and reason of the relay's close frame."""
        with pytest.raises(ConnectionClosed) as ended:
            self.ws.recv(SECONDS)
        received = ended.value.rcvd
        return (received.code, received.reason) if received else (None, "")


class ScriptClient(Process):
    """A client in another process. A context manager: leaving kills it.

    Args:
        command: the program; the URL is added as its last argument.
        url: where to connect; the room is in it.
        options: more arguments, before the URL.
    """

    def __init__(self, command: Sequence[str], url: str, *options: str, environ: dict[str, str] | None = None) -> None:
        super().__init__([*command, *options, url], environ=environ)
        self._seen = 0
        try:
            self.extensions: str = self._next("open")["extensions"]
        except BaseException:
            self.__exit__()
            raise

    def say(self, said: Said) -> None:
        """Send a message."""
        fragments = [base64.b64encode(fragment).decode() for fragment in said.fragments]
        self._do("say", text=said.is_text, fragments=fragments)

    def hear(self) -> str | bytes:
        """Return the next message."""
        event = self._next("message")
        payload = base64.b64decode(event["payload"])
        return payload.decode() if event["text"] else payload

    def hears_nothing(self) -> None:
        """Fail if a message is pending."""
        self._do("ping")
        self._next("pong")

    def closed(self) -> tuple[int | None, str]:
        """Wait for the end; return code and reason of the relay's close frame."""
        event = self._next("close")
        return event["code"], event["reason"]

    def close(self) -> None:
        """Close with a close frame, and wait for the end of the process."""
        self._do("close")
        self.closed()
        assert self.wait() == 0, self.output.text

    def _do(self, what: str, **details: object) -> None:
        self.write_line(json.dumps({"do": what, **details}))

    def _next(self, expected: str) -> dict[str, Any]:
        """Return the next event; fail unless it is of the expected kind."""
        line = self.output.line(self._seen)
        self._seen += 1
        event: dict[str, Any] = json.loads(line)
        assert event["saw"] == expected, f"expected {expected}, saw {line[:200]}"
        return event


def node_client(url: str, *options: str, environ: dict[str, str] | None = None) -> ScriptClient:
    """Connect ``ws``, the common client on Node.js.

    Args:
        url: where to connect.
        options: ``--deflate`` to offer compression.
        environ: what its environment has besides ours.
    """
    node = require("node")
    if not (HERE / "node_modules" / "ws").is_dir():
        missing("the npm package ws", "npm ci --prefix tests/interop")
    return ScriptClient([node, str(HERE / "ws_client.mjs")], url, *options, environ=environ)


def autobahn_client(url: str) -> ScriptClient:
    """Connect Autobahn's client, in another process: no reactor may run in this one."""
    return ScriptClient([sys.executable, str(HERE / "autobahn_client.py")], url)


def tls_context(certificate: Path, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """Return a context that trusts one certificate and offers these ALPN protocols; none: no ALPN."""
    context = ssl.create_default_context(cafile=certificate)
    # websockets' sync client reads in one thread while it writes in another. On Python 3.11 TLS 1.3, which sends
    # tickets after its handshake, lost its request in 2 of 5 600 connects; clients with one thread lost none of 9 500,
    # TLS 1.2 none of 2 500. Node and Chromium speak TLS 1.3 in these tests.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def handshake(path: str = "/", host: str = "127.0.0.1", **fields: str) -> bytes:
    """Return the bytes of a handshake; ``fields`` are added, with ``_`` for ``-``."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def mute(server: Relay, path: str = "/", receive_bytes: int | None = None) -> socket.socket:
    """Return the socket of a client that opens a connection and then sends nothing.

    Args:
        server: the relay.
        path: the room.
        receive_bytes: the size of the kernel's receive buffer, where it should be small.
    """
    connection = server.connect(receive_bytes)
    connection.sendall(handshake(path))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)  # one by one, to leave the frames behind it
        assert byte, head
        head += byte
    assert head.startswith(b"HTTP/1.1 101 "), head
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    """Return the remaining bytes of a connection, until its end or reset."""
    data = b""
    try:
        while more := connection.recv(2**16):
            data += more
    except ConnectionResetError:
        pass
    return data
