"""A room with history on a relay process, by plain HTTP: positions, messages, publishing, event streams.

Nothing sleeps: each read waits for the next event with a timeout. Pages in browsers are
:mod:`tests.harness.browsers`, WebSockets :mod:`tests.harness.clients`.
"""

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tests.harness.clients import WebsocketsClient
from tests.harness.live import SECONDS


@dataclass(frozen=True)
class Event:
    """An event of a stream.

    Attributes:
        kind: its type; ``message`` by default.
        data: its data.
        id: the id that it brought; ``None`` without an id line.
    """

    kind: str
    data: str
    id: str | None


class EventReader:
    """The client of an event stream. Source: HTML Standard, section 9.2.6, without what no relay sends.

    Args:
        response: the begun response.

    Attributes:
        last_id: the last event id; ``""`` before the first one.
        fields: the fields of the response.
    """

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        self.fields = response.headers
        self.last_id = ""

    def first_id(self) -> str:
        """Read the block with which a stream of a room with history begins: an id alone."""
        lines = self._block()
        while not lines or lines[0].startswith("retry:"):
            lines = self._block()
        assert len(lines) == 1, f"an id alone was expected: {lines}"
        name, _, self.last_id = lines[0].partition(": ")
        assert name == "id", lines
        return self.last_id

    def next(self) -> Event:
        """Return the next event.

        Raises:
            EOFError: the stream has ended.
        """
        while True:
            fields = [line.partition(": ") for line in self._block()]
            ids = [value for name, _, value in fields if name == "id"]
            data = [value for name, _, value in fields if name == "data"]
            kinds = [value for name, _, value in fields if name == "event"]
            if ids:
                self.last_id = ids[-1]
            if data:
                return Event((kinds or ["message"])[-1], "\n".join(data), (ids or [None])[-1])

    def texts(self, count: int) -> list[str]:
        """Return the data of the next messages, which must all be texts."""
        events = [self.next() for _ in range(count)]
        assert {event.kind for event in events} <= {"message"}, events
        return [event.data for event in events]

    def rest(self) -> list[str]:
        """Return the data of the messages that come before the stream ends."""
        texts = []
        with suppress(EOFError):
            while True:
                texts += self.texts(1)
        return texts

    def gap(self) -> dict[str, str]:
        """Return the data of the next event, which must tell of a gap."""
        event = self.next()
        assert event.kind == "gap", event
        told: dict[str, str] = json.loads(event.data)
        return told

    def _block(self) -> list[str]:
        """Return the lines of the next block, without comments."""
        lines = []
        while line := self._line():
            lines.append(line)
        return [line for line in lines if not line.startswith(":")]

    def _line(self) -> str:
        try:
            line = self._response.readline().decode()
        except (ConnectionResetError, http.client.IncompleteRead):
            line = ""
        if not line.endswith("\n"):
            raise EOFError("the event stream has ended")
        return line[:-1]


@dataclass(frozen=True)
class Room:
    """A room of a relay.

    Attributes:
        port: the relay's, on 127.0.0.1.
        name: the room's.
    """

    port: int
    name: str

    def on(self, port: int) -> "Room":
        """Return the same room of another node."""
        return Room(port, self.name)

    def url(self, query: str = "") -> str:
        """Return its URL without the scheme.

        Args:
            query: with its question mark.
        """
        return f"//127.0.0.1:{self.port}/{self.name}{query}"

    def read(self, query: str = "", status: int = 200) -> Any:
        """Return the body of a GET as JSON: ``at``, and with a query ``messages`` and ``complete``.

        Args:
            query: with its question mark.
            status: the expected status; with 410 the body is text.
        """
        body = self._ask("GET", query, {"Accept": "application/json"}, None, status)
        return json.loads(body) if status == 200 else body

    def at(self) -> str:
        """Return the id of the room's newest message, or of its beginning."""
        at: str = self.read()["at"]
        return at

    def history(self, query: str = "?last=1000000") -> list[tuple[str, str]]:
        """Return the id and text of each message that a query gives, by default of all."""
        return [(message["id"], message["text"]) for message in self.read(query)["messages"]]

    def publish(self, *texts: str) -> list[str]:
        """Publish texts, each after the answer to the one before it, and return their ids."""
        return [json.loads(self._ask("POST", "", {}, text.encode(), 202))["id"] for text in texts]

    def client(self, query: str = "", **options: Any) -> WebsocketsClient:
        """Return a WebSocket client; it connects on entering."""
        return WebsocketsClient(f"ws:{self.url(query)}", **options)

    @contextmanager
    def stream(self, query: str = "", last_id: str | None = None) -> Iterator[EventReader]:
        """Open an event stream while the block runs.

        Args:
            query: with its question mark.
            last_id: ``Last-Event-ID``.
        """
        fields = {"Accept": "text/event-stream"} | ({} if last_id is None else {"Last-Event-ID": last_id})
        with self._answer("GET", query, fields, None) as response:
            assert response.status == 200, (response.status, response.read())
            yield EventReader(response)

    def _ask(self, method: str, query: str, fields: Mapping[str, str], body: bytes | None, status: int) -> str:
        with self._answer(method, query, fields, body) as response:
            text = response.read().decode()
            assert response.status == status, (response.status, text)
            return text

    @contextmanager
    def _answer(
        self, method: str, query: str, fields: Mapping[str, str], body: bytes | None
    ) -> Iterator[http.client.HTTPResponse]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)) as connection:
            connection.request(method, f"/{self.name}{query}", body, dict(fields))
            with connection.getresponse() as response:
                yield response
