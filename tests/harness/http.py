"""Plain HTTP in memory: requests as bytes to a relay of :mod:`tests.harness.support`, and the parsed responses."""

import http.client
import io
import json
from collections.abc import Mapping
from typing import Any

from tests.harness.support import Relay, Wire

__all__ = ["Response", "ask", "http_bytes"]


def http_bytes(
    line: str, body: bytes | None = None, fields: Mapping[str, str | None] | None = None, host: str = "relay.example"
) -> bytes:
    """Return the bytes of a request; a body brings its Content-Length, unless ``fields`` say otherwise."""
    merged: dict[str, str | None] = {"Host": host}
    if body is not None:
        merged["Content-Length"] = str(len(body))
    merged |= fields or {}
    lines = [f"{line} HTTP/1.1", *(f"{name}: {value}" for name, value in merged.items() if value is not None)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


class Response:
    """A parsed response.

    Attributes:
        status: its status.
        headers: its fields.
        body: its body; empty for a stream.
    """

    def __init__(self, data: bytes) -> None:
        class Socket:
            def makefile(self, *_: Any) -> io.BytesIO:
                return io.BytesIO(data)

        response = http.client.HTTPResponse(Socket())  # type: ignore[arg-type]  # all that it needs
        response.begin()
        self.status = response.status
        self.headers = response.headers
        self.body = response.read() if "chunked" not in (response.getheader("Transfer-Encoding") or "") else b""

    @property
    def json(self) -> Any:
        """Its body as JSON."""
        return json.loads(self.body)


def ask(relay: Relay, request: bytes, wire: Wire | None = None) -> Response:
    """Send a request, on a connection of its own unless one is given, and return the response."""
    return Response((wire or relay.wire()).send(request))
