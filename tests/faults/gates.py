"""Validators for the fault tests' relays: ``--validate python:gates:…``, with this folder on PYTHONPATH."""

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

_log = Logger(namespace="gates")

#: An identity that breaks the line, clears the screen, and reverses the text.
IDENTITY = "mallory\n2026-01-01T00:00:00+0000 [wsrelay#info] forged\x1b[2J\x07\x9b31m\u2028\u202e"


def proxied(request, grant):
    """Take the user from the field that the proxy sets, and log the request."""
    user = request.headers.get("x-user")
    _log.info("asked for {user!r} from {address!r}", user=user, address=request.headers.get("x-forwarded-for"))
    return grant.narrowed(identity=user)


def pending(request, grant):
    """Never answer for rooms with this prefix."""
    return Deferred() if request.room.startswith("hooked") else grant


def later(request, grant):
    """Grant in a later turn, half a second away."""
    from twisted.internet import reactor  # noqa: PLC0415 - installed by now

    return deferLater(reactor, 0.5, lambda: grant)


def named(request, grant):
    """Grant the attacker an identity of its own choice."""
    return grant.narrowed(identity=IDENTITY) if request.room.startswith("hooked") else grant


def raising(request, grant):
    """Quote the client in an exception, as a buggy validator would."""
    if request.room.startswith("hooked"):
        raise LookupError(f"no such user: {request.query['user'][0]}")
    return grant


def expiring(request, grant):
    """Let the grant expire at the date in the query, if there is one."""
    [date] = request.query.get("expires", [None])
    return grant if date is None else grant.narrowed(expires_at=float(date))
