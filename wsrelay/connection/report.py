"""Reports on a connection for operators: its status, and its log lines.

Must not live here: writing of lines (:mod:`wsrelay.logs.lines`), views of a status (:mod:`wsrelay.admin.views`).
"""

import math
from typing import Final

from twisted.python.failure import Failure

from wsrelay import closecodes
from wsrelay.connection.host import Host
from wsrelay.connection.member import NO_GRANT, Member
from wsrelay.connection.stage import CLOSING_STAGES, OPEN_STAGES, OPENING_STAGES, Stage
from wsrelay.errors import Denied
from wsrelay.http.responses import MAX_REASON_CHARS
from wsrelay.limits.addresses import address_key
from wsrelay.logs.failures import printable
from wsrelay.logs.lines import ASKED, UNCHOSEN
from wsrelay.net.proxies import ip_address
from wsrelay.request import HandshakeRequest
from wsrelay.stats import NOTHING, ConnectionStatus, Tally

__all__ = ["JUST_ENDED", "report_end", "report_failure", "report_open", "report_refusal", "status"]

#: The most characters of a text from the client in a log line.
LOG_CHARS: Final = 80

#: The most characters of a refusal's cause that are counted and logged; a longer one is a validator's mistake.
MAX_CAUSE_CHARS: Final = 64

#: The fields of a refused request whose head is not known.
_UNKNOWN: Final = dict.fromkeys(ASKED)

#: ``leaves_without_close`` → closing side, code and reason of an end of TCP without a close.
JUST_ENDED: Final = {
    False: ("lost", closecodes.LOST, ""),
    True: ("client", closecodes.NO_CODE, ""),
}

#: Stage → its name for operators.
_NAMES: Final = {
    **dict.fromkeys(OPENING_STAGES, "handshake"),
    **dict.fromkeys(OPEN_STAGES, "open"),
    **dict.fromkeys(CLOSING_STAGES, "closed"),
    Stage.CLOSING: "closing",
}


def status(host: Host, member: Member | None) -> ConnectionStatus:
    """Return the current status of a connection.

    Args:
        host: the connection.
        member: its subscriber in a room; ``None`` without one.
    """
    grant = NO_GRANT if member is None else member.grant
    messages_out, bytes_out = NOTHING if member is None else _given(host, member)
    return ConnectionStatus(
        number=host.number,
        handle=None if member is None else member.handle,
        peer=host.peer,
        room=grant.room,
        identity=grant.identity,
        state=_NAMES[host.stage],
        seconds=0.0 if member is None else max(0.0, host.seconds() - member.opened_at),
        messages_in=0 if member is None else member.messages_in,
        bytes_in=0 if member is None else member.bytes_in,
        messages_out=messages_out,
        bytes_out=bytes_out,
        paused=host.paused,
        held=member is not None and bool(host.flow.held),
    )


def report_refusal(host: Host, denied: Denied) -> None:
    """Count a refused request, and log a line, with what is known of the request."""
    cause = printable(str(denied.cause or "malformed"))[:MAX_CAUSE_CHARS]
    host.factory.stats.handshakes_denied[denied.status, cause] += 1
    reason = str(denied.reason)[:MAX_REASON_CHARS]
    host.factory.lines.add_refusal(
        connection=host.number,
        peer=host.peer,
        status=denied.status,
        cause=cause,
        reason=reason,
        **_asked(host.phase.request),
    )


def _asked(request: HandshakeRequest | None) -> dict[str, str | None]:
    """Return the fields of a log line that say what was asked, and by what; no query and no token."""
    if request is None:
        return _UNKNOWN
    asked = (request.room, request.origin, request.headers.get("user-agent"))
    return {name: text and text[:LOG_CHARS] for name, text in zip(_UNKNOWN, asked, strict=True)}


def report_failure(host: Host, error: Failure | Exception) -> str:
    """Count a failed callback, log it, and return the incident id."""
    host.factory.stats.failures += 1
    failure = error if isinstance(error, Failure) else Failure(error)
    return host.factory.lines.failure("a callback failed on the connection of", failure, host.peer)


def report_open(host: Host, member: Member, unchosen: str | None = None) -> None:
    """Count an opened connection, and log a line.

    Args:
        host: the connection.
        member: its subscriber in a room.
        unchosen: the subprotocols that it offered, if none was chosen: some clients then fail.
    """
    host.factory.stats.connections_opened += 1
    fields = _who(host, member)
    if unchosen is not None:
        fields[UNCHOSEN] = unchosen
    host.factory.lines.add("opened", _address(host), **fields)


def report_end(host: Host, member: Member, by: str, code: int, reason: str) -> None:
    """Count the end of a connection, and log a line; no effect if it has not opened.

    Args:
        host: the connection.
        member: its subscriber in a room.
        by: the closing side: ``relay``, ``client``, or ``lost`` if TCP ended without a close.
        code: the close code.
        reason: its text.
    """
    if member.opened_at == math.inf:
        return
    factory = host.factory
    factory.stats.connections_closed[by, closecodes.counted_as(code)] += 1
    messages_out, bytes_out = _given(host, member)
    factory.lines.add(
        "closed",
        _address(host),
        **_who(host, member),
        seconds=round(host.seconds() - member.opened_at, 3),
        by=by,
        code=code,
        reason=reason[:LOG_CHARS],
        messages_in=member.messages_in,
        bytes_in=member.bytes_in,
        messages_out=messages_out,
        bytes_out=bytes_out,
    )


def _given(host: Host, member: Member) -> Tally:
    """Return the messages and plain bytes sent to a member, also after it has left its room."""
    return host.factory.hub.given(member) if member.given is None else member.given


def _address(host: Host) -> str:
    """Return the client's address as the limits have it; its visit has none once it is over, nor on a unix socket."""
    return host.visit.address or address_key(host.forwarded_for or ip_address(host.transport.getPeer()))


def _who(host: Host, member: Member) -> dict[str, object]:
    """Return the fields of a log line that identify the connection."""
    identity = member.grant.identity
    return {
        "connection": host.number,
        "peer": host.peer,
        "room": member.grant.room,
        "identity": None if identity is None else identity[:LOG_CHARS],
    }
