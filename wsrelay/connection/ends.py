"""Ends of a connection that depend on its stage: after a bug, to free memory, and of its input when TCP has ended.

Must not live here: the close and the refusal themselves (:mod:`wsrelay.connection.protocol`), deadlines
(:mod:`wsrelay.connection.deadline`), log lines (:mod:`wsrelay.connection.report`).
"""

from contextlib import suppress

from twisted.python.failure import Failure

from wsrelay import closecodes
from wsrelay.closecodes import CloseReason
from wsrelay.connection.host import Host
from wsrelay.connection.keepalive import KeepAlive
from wsrelay.connection.reading import settle
from wsrelay.connection.report import report_failure, report_refusal
from wsrelay.connection.stage import CLOSING_STAGES, OPEN_STAGES, OPENING_STAGES, Stage
from wsrelay.errors import Denied
from wsrelay.net.tls import PLAIN_HTTP

__all__ = ["end", "fail", "refused_plain_http", "shed", "take_rest"]


def fail(host: Host, error: Failure | Exception) -> None:
    """End a connection after a bug in the relay or an extension, and log it.

    Args:
        host: the connection.
        error: the exception.

    Peer sees:
        500 during the handshake, 1011 after it, with a fixed text and the incident id of the log line; the end of TCP
        if a close has begun.
    """
    incident = report_failure(host, error)
    try:
        if host.stage in OPENING_STAGES:
            host.deny(Denied(500, f"internal error: {incident}", cause="failure"))
        elif host.stage in OPEN_STAGES:
            host.reject(closecodes.INTERNAL_ERROR, incident)
        else:
            host.abort()
    except Exception:  # noqa: BLE001 - not even a polite end works
        with suppress(Exception):
            host.abort()


def shed(host: Host, reason: CloseReason, denied: Denied) -> None:
    """Close a connection in any stage, to free memory now: where bytes wait to be written, with a reset.

    Args:
        host: the connection.
        reason: for an open connection.
        denied: before the response.

    Peer sees:
        The close frame or the response; the reset in front of it if bytes wait, or a close has begun before.
    """
    has_ended = host.stage in CLOSING_STAGES
    host.deny(denied)
    if host.stage in OPEN_STAGES:
        host.reject(reason)
    if has_ended or host.paused:
        host.abort()


def refused_plain_http(host: Host) -> None:
    """Report plain HTTP at a TLS endpoint. See :class:`wsrelay.net.tls.Charged`."""
    report_refusal(host, Denied(400, PLAIN_HTTP, cause="malformed"))


def end(host: Host) -> None:
    """End TCP behind a whole response. A slow peer has more time, as for a close: while it takes bytes, up to ten
    ``close_seconds``.
    """
    host.dropConnection()
    if len(host.unsent):
        now, close_seconds = host.seconds(), host.factory.settings.close_seconds
        host.keepalive = KeepAlive(now, 0.0, 0.0)
        host.writer.progressed()  # from here on
        host.expect_within(host.keepalive.begin_close(now, close_seconds, is_slow=False))


def take_rest(host: Host) -> None:
    """TCP has ended: publish what waited for a turn, as far as one turn takes it, and charge the last reads."""
    rest = host.factory.turns.withdraw(host)
    if (rest or host.data) and host.stage is Stage.OPEN:
        try:
            host.phase.receive(rest)
        except Exception as error:  # noqa: BLE001 - the guard of dataReceived
            host.fail(error)
        host.factory.turns.withdraw(host)  # the read may have been too long for one turn
    if host.member is not None and not host.flow.is_full:
        settle(host, host.factory.now)
