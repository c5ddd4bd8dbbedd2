"""The server to try: its URL, and the requests of its clients.

Must not live here: connections (:mod:`wsrelay.selftest.connection`), what is wrong with a request on purpose
(:mod:`wsrelay.selftest.refusals`).
"""

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import quote, urlsplit

__all__ = ["Target"]

#: Scheme → default port, RFC 6455 section 3.
_PORTS: Final = {"ws": 80, "wss": 443}

#: Other schemes for the same.
_SCHEMES: Final = {"http": "ws", "https": "wss"}

_PREFIX: Final = "selftest-"

#: Characters of a path that stay as they are, RFC 3986 section 3.3.
_SAFE: Final = "/%:@!$&'()*+,;=~"


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect, and as whom.

    Attributes:
        is_tls: whether by TLS.
        host: its name or address, without brackets.
        port: its port.
        path: what comes before each room, without "/" at its end.
        query: of all requests; may be empty.
        room: the one room for all cases; ``None`` for a new one for each.
        token: sent as ``Authorization: Bearer``.
        origin: sent as ``Origin``.
        subprotocol: offered by all clients.
    """

    is_tls: bool
    host: str
    port: int
    path: str = ""
    query: str = ""
    room: str | None = None
    token: str | None = None
    origin: str | None = None
    subprotocol: str | None = None

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        room: str | None = None,
        token: str | None = None,
        origin: str | None = None,
        subprotocol: str | None = None,
    ) -> Self:
        """Return the target of a URL: ``ws:``, ``wss:``, or ``http:`` and ``https:``, which mean the same.

        ``HOST:PORT``, also with a path, is short for ``ws://HOST:PORT``.

        Raises:
            ValueError: it is not one, or a value would break a line of the request.
        """
        try:
            parts = urlsplit(url if "://" in url else f"ws://{url}")
            given = parts.port
        except ValueError:  # brackets, or the port
            raise _no_url(url) from None
        scheme = _SCHEMES.get(parts.scheme, parts.scheme)
        if scheme not in _PORTS or not parts.hostname or parts.fragment or parts.username is not None:
            raise _no_url(url)
        for value in (token, origin, subprotocol):
            if value is not None and not (value.isascii() and value.isprintable()):
                raise ValueError(f"not a value of a header field: {value!r}")
        port = _PORTS[scheme] if given is None else given
        path, query = quote(parts.path.rstrip("/"), _SAFE), quote(parts.query, _SAFE + "?")
        room = None if room is None else quote(room.lstrip("/"), _SAFE)
        return cls(scheme == "wss", parts.hostname, port, path, query, room, token, origin, subprotocol)

    @property
    def url(self) -> str:
        """The URL, as it is shown: without the query, which may hold a secret."""
        return f"{'wss' if self.is_tls else 'ws'}://{self._host_field()}{self.path}/"

    @property
    def rooms(self) -> str:
        """The rooms of all cases, as they are shown."""
        return f"{self.path}/{_PREFIX + '…' if self.room is None else self.room}"

    def new_room(self) -> str:
        """Return the path of a room that nobody uses, unless one was named."""
        return f"{self.path}/{_PREFIX + secrets.token_hex(8) if self.room is None else self.room}"

    def request(self, path: str, changes: Mapping[str, str | None], method: str = "GET") -> bytes:
        """Return a handshake.

        Args:
            path: of the room.
            changes: fields to add, to replace or (``None``) to leave out.
            method: the method.
        """
        usual = {
            "Host": self._host_field(),
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": base64.b64encode(secrets.token_bytes(16)).decode(),
            "Sec-WebSocket-Version": "13",
            "Origin": self.origin,
            "Authorization": None if self.token is None else f"Bearer {self.token}",
            "Sec-WebSocket-Protocol": self.subprotocol,
        }
        fields = {**usual, **changes}
        target = f"{path}?{self.query}" if self.query else path
        lines = [
            f"{method} {target} HTTP/1.1",
            *(f"{name}: {text}" for name, text in fields.items() if text is not None),
        ]
        return "\r\n".join([*lines, "", ""]).encode("ascii")

    def _host_field(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS["wss" if self.is_tls else "ws"] else f"{host}:{self.port}"


def _no_url(url: str) -> ValueError:
    shown = url.partition("?")[0]  # the query may hold a secret
    return ValueError(f"not a URL of a relay: {shown!r}; write ws://HOST:PORT/ or wss://HOST/")
