"""Allowed ``Host`` values: the ``host:`` validator, against DNS rebinding and misdirected requests.

Must not live here: splitting a ``Host`` field (:mod:`wsrelay.request`), origins (:mod:`wsrelay.validators.origin`).
"""

from collections.abc import Collection
from typing import Final, Self

from zope.interface import implementer

from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.request import HandshakeRequest, split_host
from wsrelay.validators.arguments import parse

__all__ = ["HostValidator"]

#: The most characters of a host in a refusal.
MAX_HOST_CHARS: Final = 100


@implementer(IHandshakeValidator)
class HostValidator:
    """Allow some ``Host`` values only.

    Clients omit the default port of the URL's scheme (80, 443): allow such a host without a port. A trailing dot
    belongs to the host: ``relay.example.`` is a different one.

    Args:
        hosts: the allowed hosts in lower case, each with a port, or with ``None`` for any or no port.

    Peer sees:
        421 for any other host. The reason names it, cut, and what to write.

    Source: RFC 9110 sections 7.2 and 15.5.20.
    """

    def __init__(self, hosts: Collection[tuple[str, int | None]]) -> None:
        self._hosts = frozenset(hosts)

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        """Make a validator from ``HOST[:PORT][,…]``.

        Raises:
            ValueError: no host, or an invalid one.
        """
        values = parse(text).values
        if not values:
            raise ValueError("name at least one host, for example relay.example or relay.example:8443")
        hosts = []
        for value in values:
            host = split_host(value)
            if host is None:
                raise ValueError(f"{value!r} is not a host: write HOST or HOST:PORT, and [ADDRESS] for IPv6")
            hosts.append(host)
        return cls(hosts)

    def validate(self, request: HandshakeRequest, grant: Grant) -> Grant:
        """Return the grant unchanged. See :class:`~wsrelay.interfaces.IHandshakeValidator`."""
        host = split_host(request.host)
        if host is None:
            raise Denied(421, "the Host is malformed")
        if self._hosts.isdisjoint([host, (host[0], None)]):
            shown = request.host[:MAX_HOST_CHARS]
            raise Denied(421, f"the host {shown} is not allowed; to allow it, add it to --validate host:...")
        return grant
