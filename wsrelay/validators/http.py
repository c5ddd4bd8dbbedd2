"""Asking a back end: the ``http:`` validator, with the content of its questions and answers.

Must not live here: sending a question, with limits on time and size (:mod:`wsrelay.validators.backend`).
"""

import ipaddress
import re
from typing import Final, Self
from urllib.parse import urlsplit

import msgspec
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.iweb import IAgent, IResponse
from zope.interface import implementer

from wsrelay.errors import BadRoomName, Denied
from wsrelay.grant import Grant, HistoryRight, check_identity
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.logs.limiter import TICK_SECONDS, Limiter
from wsrelay.names import check_room
from wsrelay.request import HandshakeRequest
from wsrelay.text import without_mark
from wsrelay.validators.arguments import parse
from wsrelay.validators.backend import DEFAULT_CONNECTIONS, Backend, BusyError, NoAnswerError

__all__ = ["HTTPValidator"]

_log = Logger(namespace="wsrelay")

#: The default timeout. Below the 5 seconds of ``--validate-seconds`` for all validators, so that a dead back end
#: causes a 503 with its cause in the log, and not the chain's 504.
DEFAULT_TIMEOUT_SECONDS: Final = 3.0

#: The maximum of ``timeout=``.
MAX_TIMEOUT_SECONDS: Final = 300.0

#: The maximum of ``connections=``.
MAX_CONNECTIONS: Final = 1024

#: A field value that our response may contain: RFC 9110 section 5.5 without obs-text.
_FIELD_VALUE: Final = re.compile(rb"[\t\x20-\x7e]{1,1024}")


class _Answer(msgspec.Struct, forbid_unknown_fields=True):
    # The fields of a grant. null means absent, so that the back end may return the grant it was sent.
    room: str | None = None
    identity: str | None = None
    subprotocol: str | None = None
    can_publish: bool = True
    can_subscribe: bool = True
    expires_at: float | None = None
    history: HistoryRight = "all"


@implementer(IHandshakeValidator)
class HTTPValidator:
    """Ask a back end over HTTP.

    It gets a POST with a JSON object: ``path``, ``room``, ``query`` (name → list of values), ``headers`` (lower-case
    name → value; a byte above 0x7f is the character U+F700 + byte, see :func:`wsrelay.request.field_bytes`), ``host``,
    ``origin`` (or null), ``subprotocols``, ``peer`` ("192.0.2.1:50000", "[2001:db8::1]:50000" or "unix"), ``tls``
    (whether the client showed a certificate) and ``grant`` (so far).

    A 2xx answer is a JSON object with any of a grant's fields: ``room``, ``identity``, ``subprotocol`` (an offered
    one), ``can_publish``, ``can_subscribe``, ``expires_at`` (seconds since the epoch), ``history`` ("none",
    "resume", "all"). An empty body changes nothing; its end must be marked, by 204 or by a Content-Length of 0: a lost
    connection looks the same otherwise.

    Args:
        url: http or https.
        timeout_seconds: for the whole answer, waiting for a free connection included.
        connections: the maximum number of questions asked at once; 16 times as many may wait.
        agent: sends the requests; ``None`` is an agent with persistent connections.
        reactor: for the agent and the timeout; ``None`` is the global one, imported with the first handshake.

    Peer sees:
        400 for a malformed query. A 4xx status of the back end, with its ``WWW-Authenticate``. 503 with ``Retry-After``
        if the back end cannot be reached, times out, redirects, fails (5xx), or answers with more than 64 KiB or an
        invalid grant, or if too many questions wait, or for too long (``http_busy``); the log has the cause.

    Attributes:
        descriptors: see :class:`wsrelay.interfaces.UsesDescriptors`.
    """

    def __init__(
        self,
        url: str,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        connections: int = DEFAULT_CONNECTIONS,
        *,
        agent: IAgent | None = None,
        reactor: IReactorTime | None = None,
    ) -> None:
        self._shown_url = url.partition("?")[0]
        self._limiter = Limiter[str]()
        self._backend = Backend(url, timeout_seconds, connections, agent=agent, reactor=reactor)
        self.descriptors = self._backend.descriptors

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        """Make a validator from ``URL[,timeout=SECONDS][,connections=N]``.

        Raises:
            ValueError: no http or https URL, or a number out of range.
        """
        arguments = parse(text, ("timeout", "connections"))
        if len(arguments.values) != 1 or not _is_http_url(arguments.values[0]):
            raise ValueError("write one URL, http://… or https://…, without a user and a #fragment (and , as \\,)")
        timeout, connections = arguments.one("timeout"), arguments.one("connections")
        return cls(
            arguments.values[0],
            DEFAULT_TIMEOUT_SECONDS if timeout is None else _timeout_seconds(timeout),
            DEFAULT_CONNECTIONS if connections is None else _connections(connections),
        )

    async def validate(self, request: HandshakeRequest, grant: Grant) -> Grant:
        """Return the back end's grant. See :class:`~wsrelay.interfaces.IHandshakeValidator`."""
        question = msgspec.json.encode(_question(request, grant))
        try:
            response, body = await self._backend.ask(question, _network(request.peer))
            if 400 <= response.code < 500:
                raise _refusal(response)
            return _granted(_answer(response, body), request, grant)
        except NoAnswerError as error:
            self._report(str(error))
            cause = "http_busy" if isinstance(error, BusyError) else "http"
        raise Denied(503, "the handshake could not be validated: try again later", [("Retry-After", "10")], cause=cause)

    def _report(self, problem: str) -> None:
        """Log a problem, rate-limited; a count of the rest follows at a tick."""
        if not self._limiter:
            self._backend.clock().callLater(TICK_SECONDS, self._tick)
        if self._limiter.admit(problem):
            _log.warn("asking {url} failed: {problem}", url=self._shown_url, problem=problem)

    def _tick(self) -> None:
        for problem, count in self._limiter.tick().items():
            said = "asking {url} failed {count} more times: {problem}"
            _log.warn(said, url=self._shown_url, count=count, problem=problem)


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


def _connections(text: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= MAX_CONNECTIONS:
        raise ValueError(f"connections= must be a whole number from 1 to {MAX_CONNECTIONS}, not {text!r}")
    return int(text)


def _question(request: HandshakeRequest, grant: Grant) -> dict[str, object]:
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


def _peer(address: object) -> str:
    if not isinstance(address, (IPv4Address, IPv6Address)):
        return "unix"
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"


def _network(address: object) -> str:
    """Return a client's IPv4 address or IPv6 /48, the most that one site has as a rule."""
    if isinstance(address, IPv4Address):
        return address.host
    if not isinstance(address, IPv6Address):
        return "unix"
    host = ipaddress.IPv6Address(address.host)
    return str(host.ipv4_mapped) if host.ipv4_mapped else host.packed[:6].hex()


def _refusal(response: IResponse) -> Denied:
    challenges: list[bytes] = response.headers.getRawHeaders(b"www-authenticate", [])
    sane = [("WWW-Authenticate", value.decode("ascii")) for value in challenges if _FIELD_VALUE.fullmatch(value)]
    return Denied(response.code, "this connection is not allowed", sane)


def _answer(response: IResponse, body: bytes) -> _Answer:
    if not 200 <= response.code < 300:
        raise NoAnswerError(f"the answer's status is {response.code}")
    try:
        return msgspec.json.decode(without_mark(body), type=_Answer) if body else _Answer()
    except ValueError:  # msgspec's own, or UnicodeDecodeError
        raise NoAnswerError("the answer is not a grant") from None


def _granted(answer: _Answer, request: HandshakeRequest, grant: Grant) -> Grant:
    if answer.subprotocol is not None and answer.subprotocol not in request.subprotocols:
        raise NoAnswerError("the answer's subprotocol was not offered")
    try:
        check_identity(answer.identity)
        if answer.room is not None:
            check_room(answer.room)
    except BadRoomName as error:
        raise NoAnswerError(f"the answer's room is invalid: {error}") from None
    except ValueError as error:
        raise NoAnswerError(f"the answer's identity is invalid: {error}") from None
    return grant.narrowed(**msgspec.structs.asdict(answer))
