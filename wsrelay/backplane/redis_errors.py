"""What Redis refuses and how connections fail, as one word for the metric and a text that says what to do.

Must not live here: what follows from it (:mod:`wsrelay.backplane.shard`).
"""

from typing import Final, NamedTuple

from OpenSSL.SSL import Error as TLSError
from service_identity import CertificateError, VerificationError
from twisted.internet import defer, error
from twisted.python.failure import Failure

from wsrelay.logs.failures import printable

__all__ = ["NoBroker", "NotRedis", "RedisError", "of_failure", "of_reply", "redacted"]

#: The most characters of a reply that are quoted.
_QUOTED_CHARS: Final = 200


class NoBroker(Exception):
    """The broker cannot be used now.

    Args:
        reason: one word, the value of a metric's label.
        text: one line for the log: what is wrong and what to do. Never has a password.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(reason, text)
        self.reason = reason
        self.text = text

    def __str__(self) -> str:
        return self.text


class RedisError(Exception):
    """An error reply; a value, never raised.

    Args:
        text: the reply, without "-". It may quote the command; see :func:`redacted`.

    Attributes:
        code: its first word, such as ``NOAUTH`` or ``ERR``.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = text.partition(" ")[0]


class NotRedis(Exception):
    """The peer does not speak RESP, or answers what was not asked."""


class _Advice(NamedTuple):
    reason: str
    text: str


#: Code of an error reply → what it means. Source: ``shared`` in Redis' src/server.c, and src/cluster.c.
_CODES: Final = {
    "NOAUTH": _Advice("auth", "it wants a password: name a file with it by --backplane-password-file"),
    "WRONGPASS": _Advice(
        "auth", "wrong user or password: mend the file of --backplane-password-file, or the user in --backplane"
    ),
    "NOPERM": _Advice("noperm", "its ACL refuses this: give the user all rights of the ACL in docs/scaling.md"),
    "DENIED": _Advice("auth", "it is in protected mode: set a password there, and --backplane-password-file here"),
    "READONLY": _Advice("readonly", "it is a replica now: name the master, or Sentinels by redis+sentinel://"),
    "MASTERDOWN": _Advice("replica", "it is a replica without its master: name the master"),
    "LOADING": _Advice("loading", "it reads its data from disk: wait"),
    "BUSY": _Advice("busy", "a script blocks it: SCRIPT KILL there"),
    "MOVED": _Advice("moved", "the shard lives on another node of the cluster now: connecting there"),
    "ASK": _Advice("moved", "the shard is moving to another node of the cluster: wait"),
    "TRYAGAIN": _Advice("moved", "the shard is moving to another node of the cluster: wait"),
    "CLUSTERDOWN": _Advice("cluster", "the cluster is down: see CLUSTER INFO there"),
    "CROSSSLOT": _Advice("cluster", "a command had keys of two slots; report this as a bug"),
    "OOM": _Advice("oom", "its memory is full: raise maxmemory there, or lower --backplane-log-bytes"),
    "MISCONF": _Advice("misconf", "it cannot save to disk, so it takes no writes: see its log, and free disk space"),
    "NOREPLICAS": _Advice("noreplicas", "it lacks good replicas (min-replicas-to-write): mend its replicas"),
    "WRONGTYPE": _Advice("wrongtype", "the key is used for something else: set ?prefix= in --backplane"),
    "EXECABORT": _Advice("error", "it refused a transaction; report this as a bug"),
}

#: Start of an error reply with the code ERR → what it means.
_ERRORS: Final = {
    "ERR max number of clients": _Advice("clients", "it has too many clients: raise maxclients there"),
    "ERR AUTH <password> called without": _Advice(
        "auth", "its user has no password: set one there, or leave --backplane-password-file out"
    ),
    "ERR Client sent AUTH": _Advice(
        "auth", "it has no password: set one there, or leave --backplane-password-file out"
    ),
    "ERR invalid password": _Advice("auth", "wrong password: mend the file of --backplane-password-file"),
    "ERR DB index is out of range": _Advice(
        "database", "it has no database of this number: see the end of --backplane"
    ),
    "ERR SELECT is not allowed in cluster": _Advice("database", "a cluster has database 0 only: mend --backplane"),
    "ERR unknown command": _Advice("version", "it lacks a command: Redis 6.2 or later, or Valkey, is needed"),
    "ERR operation not permitted": _Advice("auth", "it wants a password: name a file by --backplane-password-file"),
}

_CLOSED: Final = _Advice(
    "closed", "it closed the connection: see its log, and maxclients; if it speaks TLS only, write rediss://"
)
_SLOW: Final = _Advice("timeout", "no answer in time: check address, firewalls, its load, and whether it speaks TLS")

#: Exception → what it means; the first match counts.
_FAILURES: Final = (
    (
        (NotRedis,),
        _Advice("protocol", "this is not Redis: check host and port; if it speaks TLS only, write rediss://"),
    ),
    (
        (VerificationError, CertificateError),
        _Advice("tls", "the certificate is for another host: use a name that it has"),
    ),
    (
        (TLSError,),
        _Advice(
            "tls", "TLS failed: check ca= (the root of its certificate), cert= and key=, and whether it speaks TLS"
        ),
    ),
    ((error.DNSLookupError,), _Advice("dns", "no address for this name: check it, and the resolver")),
    (
        (error.ConnectionRefusedError,),
        _Advice("refused", "nothing listens there: start the broker, or mend the address"),
    ),
    ((error.TimeoutError, defer.TimeoutError), _SLOW),
    ((error.ConnectError,), _Advice("unreachable", "it cannot be reached: check the address, routes and permissions")),
    ((error.ConnectionClosed,), _CLOSED),
)


def of_reply(reply: RedisError, where: str) -> NoBroker:
    """Return what an error reply means.

    Args:
        reply: the reply; it is quoted.
        where: the broker, as host and port; the text starts with it.
    """
    said = str(reply)
    reason, text = _CODES.get(reply.code) or _ERRORS.get(_known_start(said)) or _Advice("error", "it refused a command")
    return NoBroker(reason, f"{where}: {text} ({printable(said[:_QUOTED_CHARS])})")


def redacted(reply: RedisError) -> RedisError:
    """Return the known words of a reply to AUTH: the others may quote the password."""
    return RedisError(reply.code if reply.code in _CODES else _known_start(str(reply)) or "ERR")


def _known_start(said: str) -> str:
    return next(filter(said.startswith, _ERRORS), "")


def of_failure(failure: Failure, where: str) -> NoBroker:
    """Return what the loss of a connection, or a failed attempt to connect, means.

    Args:
        failure: from an endpoint, or from ``RedisProtocol.lost``.
        where: the broker, as host and port; the text starts with it.
    """
    known = (advice for kinds, advice in _FAILURES if failure.check(*kinds))
    reason, text = next(known, _Advice("error", "unexpected failure: see the traceback in the log"))
    return NoBroker(reason, f"{where}: {text} ({_said(failure)})")


def _said(failure: Failure) -> str:
    said = printable(str(failure.value)[:_QUOTED_CHARS]).rstrip(".")
    return said or type(failure.value).__name__
