"""Asking a back end: the ``http:`` validator.

What it is asked about a handshake, and what its answer means. How the question gets there and the answer back,
within which bounds, is :mod:`wsrelay.validators.backend`'s; how several validators are run is not decided here.
"""

import re
from typing import Any, Final, Self
from urllib.parse import urlsplit

import msgspec
from twisted.logger import Logger
from twisted.web.iweb import IAgent, IResponse
from zope.interface import implementer

from wsrelay.errors import BadRoomName, Denied
from wsrelay.grant import Grant
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.names import check_room
from wsrelay.request import HandshakeRequest
from wsrelay.validators.arguments import parse
from wsrelay.validators.backend import Backend, NoAnswerError

__all__ = ["HTTPValidator"]

_log = Logger(namespace="wsrelay")

#: How long an answer may take if nothing else is said. Below the 5 seconds that ``--validate-seconds`` gives all
#: validators together, so that a dead back end is a 503 of ours, with its cause in the log, and not the chain's 504.
DEFAULT_TIMEOUT_SECONDS: Final = 3.0

#: The most that can be said.
MAX_TIMEOUT_SECONDS: Final = 300.0

#: RFC 9110 section 5.5 without obs-text: what may go into our own response as it is.
_FIELD_VALUE: Final = re.compile(rb"[\t\x20-\x7e]{1,1024}")


class _Answer(msgspec.Struct, forbid_unknown_fields=True):
    # The fields of a grant; null is as good as nothing, so that the grant that was sent may be sent back.
    room: str | None = None
    identity: str | None = None
    subprotocol: str | None = None
    can_publish: bool = True
    can_subscribe: bool = True
    expires_at: float | None = None


@implementer(IHandshakeValidator)
class HTTPValidator:
    """Ask a back end over HTTP.

    It gets a POST of a JSON object: ``path``, ``room``, ``query`` (name → list of values), ``headers`` (lower-case
    name → value), ``host``, ``origin`` (or null), ``subprotocols``, ``peer`` ("192.0.2.1:50000", "[2001:db8::1]:50000"
    or "unix"), ``tls`` (whether the client showed a certificate) and ``grant``, what is granted so far.

    A 2xx answer is a JSON object with any of a grant's fields: ``room``, ``identity``, ``subprotocol`` (one of the
    offered), ``can_publish``, ``can_subscribe``, ``expires_at`` (seconds since the epoch). An empty body changes
    nothing; its end must be marked, by 204 or by a Content-Length of 0: a broken connection looks the same.

    Args:
        url: where to, http or https.
        timeout_seconds: for the whole answer.
        agent: sends the requests; ``None`` is one of our own, which keeps connections open.
        reactor: for the agent and the timeout; ``None`` is the global one, imported with the first handshake.

    Peer sees:
        The back end's status when it is 4xx, with its ``WWW-Authenticate``. 503 with ``Retry-After`` when the back end
        cannot be reached, is too late, redirects, fails (5xx), or answers with more than 64 KiB or
        anything but a grant; what it was goes to the log.
    """

    def __init__(
        self,
        url: str,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        *,
        agent: IAgent | None = None,
        reactor: Any = None,
    ) -> None:
        self._shown_url = url.partition("?")[0]
        self._backend = Backend(url, timeout_seconds, agent=agent, reactor=reactor)

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        """Make one of ``URL[,timeout=SECONDS]``.

        Raises:
            ValueError: there is no URL, it is no http or https URL, or the timeout is out of range.
        """
        arguments = parse(text, ("timeout",))
        if len(arguments.values) != 1 or not _is_http_url(arguments.values[0]):
            raise ValueError("write one URL, http://… or https://…, without a user and a #fragment (and , as \\,)")
        timeout = arguments.one("timeout")
        return cls(arguments.values[0], DEFAULT_TIMEOUT_SECONDS if timeout is None else _timeout_seconds(timeout))

    async def validate(self, request: HandshakeRequest, grant: Grant) -> Grant:
        """Return what the back end grants. See :class:`~wsrelay.interfaces.IHandshakeValidator`."""
        question = msgspec.json.encode(_question(request, grant))
        try:
            response, body = await self._backend.ask(question)
            if 400 <= response.code < 500:
                raise _refusal(response)
            return _granted(_answer(response, body), request, grant)
        except NoAnswerError as error:
            _log.warn("asking {url} failed: {problem}", url=self._shown_url, problem=str(error))
        raise Denied(503, "this cannot be decided now, try again later", [("Retry-After", "10")])


def _is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        named = parts.hostname and parts.port != 0
    except ValueError:
        return False
    printable = re.fullmatch(r"[\x21-\x7e]+", url) is not None and "#" not in url
    return bool(named) and printable and parts.scheme in ("http", "https") and "@" not in parts.netloc


def _timeout_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= MAX_TIMEOUT_SECONDS:
        raise ValueError(f"timeout= must be seconds above 0 and up to {MAX_TIMEOUT_SECONDS:g}, not {text!r}")
    return seconds


def _question(request: HandshakeRequest, grant: Grant) -> dict[str, Any]:
    return {
        "path": request.path,
        "room": request.room,
        "query": dict(request.query),
        "headers": dict(request.headers),
        "host": request.host,
        "origin": request.origin,
        "subprotocols": request.subprotocols,
        "peer": _peer(request.peer),
        "tls": request.tls is not None,
        "grant": grant,
    }


def _peer(address: Any) -> str:
    host = getattr(address, "host", None)
    if host is None:
        return "unix"
    return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"


def _refusal(response: IResponse) -> Denied:
    challenges: list[bytes] = response.headers.getRawHeaders(b"www-authenticate", [])
    sane = [("WWW-Authenticate", value.decode("ascii")) for value in challenges if _FIELD_VALUE.fullmatch(value)]
    return Denied(response.code, "this connection is not allowed", sane)


def _answer(response: IResponse, body: bytes) -> _Answer:
    if not 200 <= response.code < 300:
        raise NoAnswerError(f"the answer's status is {response.code}")
    try:
        return msgspec.json.decode(body, type=_Answer) if body else _Answer()
    except ValueError:  # msgspec's own, or UnicodeDecodeError
        raise NoAnswerError("the answer is no grant") from None


def _granted(answer: _Answer, request: HandshakeRequest, grant: Grant) -> Grant:
    if answer.subprotocol is not None and answer.subprotocol not in request.subprotocols:
        raise NoAnswerError("the answer's subprotocol is not offered")
    if answer.room is not None:
        try:
            check_room(answer.room)
        except BadRoomName as error:
            raise NoAnswerError(f"the answer's room is none: {error}") from None
    return grant.narrowed(**msgspec.structs.asdict(answer))
