"""A scripted WebSocket server: refuses, closes or listens as a test says."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from tests.harness.live import SECONDS
from wsrelay.closecodes import CloseReason


@dataclass
class Refuse:
    """Answers a handshake with a status, a body and other fields."""

    status: int
    body: str = "not now"
    fields: dict[str, str] = field(default_factory=dict)


@dataclass
class Close:
    """Accepts a client and closes with a row of the table, after a message or `after_seconds` of silence."""

    row: CloseReason
    after_seconds: float = 0


@dataclass
class Hear:
    """Accepts a client and keeps its messages and close code."""

    heard: list[str | bytes] = field(default_factory=list)
    code: int | None = None


Act = Refuse | Close | Hear


@dataclass
class Stage:
    """A scripted server.

    Attributes:
        url: its URL.
        requests: the handshakes so far.
        times: their arrival, on the monotonic clock in seconds.
        last: what was done with the last one.
    """

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    last: Act | None = None


@contextmanager
def stage(next_act: Callable[[], Act]) -> Iterator[Stage]:
    """Run a server while the block runs; each handshake calls ``next_act`` in a thread of its own."""
    found = Stage()
    acts: dict[ServerConnection, Act] = {}

    def on_request(connection: ServerConnection, request: Request) -> Response | None:
        if "Upgrade" not in request.headers:
            return asked(connection)
        found.requests.append(request)
        found.times.append(time.monotonic())
        act = acts[connection] = found.last = next_act()
        return refusal(connection, act) if isinstance(act, Refuse) else None

    def refusal(connection: ServerConnection, act: Refuse) -> Response:
        response = connection.respond(act.status, act.body + "\n")
        response.headers.update(act.fields)
        return response

    def asked(connection: ServerConnection) -> Response:
        """Answer a plain GET as the last handshake was answered, to pages of every origin."""
        response = refusal(connection, found.last if isinstance(found.last, Refuse) else Refuse(426))
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    def on_client(connection: ServerConnection) -> None:
        act = acts[connection]
        if isinstance(act, Close):
            with suppress(TimeoutError):
                connection.recv(act.after_seconds)
            connection.close(act.row.code, act.row.text)
        elif isinstance(act, Hear):
            with suppress(ConnectionClosed):
                while True:
                    act.heard.append(connection.recv(SECONDS))
            act.code = connection.close_code

    with serve(on_client, "127.0.0.1", 0, process_request=on_request) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        found.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/chat"
        try:
            yield found
        finally:
            server.shutdown()
            thread.join(SECONDS)


def in_turn(*acts: Act) -> Callable[[], Act]:
    """Return a function that returns these acts one by one."""
    return iter(acts).__next__
