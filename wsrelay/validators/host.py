"""Allowed ``Host`` values: the ``host:`` validator, against DNS rebinding and requests meant for others.

How a ``Host`` field is split lives in :mod:`wsrelay.request`; nothing about origins is decided here.
"""

from collections.abc import Collection
from typing import Self

from zope.interface import implementer

from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.request import HandshakeRequest, split_host
from wsrelay.validators.arguments import parse

__all__ = ["HostValidator"]


@implementer(IHandshakeValidator)
class HostValidator:
    """Allow some ``Host`` values only.

    A client leaves out the port that its URL's scheme implies (80, 443), so a host that is served there is
    allowed without a port. A trailing dot belongs to the host: ``relay.example.`` is another one.

    Args:
        hosts: the allowed hosts in lower case, each with a port or with ``None`` for any port and none.

    Peer sees:
        421 for any other host.

    Source: RFC 9110 sections 7.2 and 15.5.20.
    """

    def __init__(self, hosts: Collection[tuple[str, int | None]]) -> None:
        self._hosts = frozenset(hosts)

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        """Make one of ``HOST[:PORT][,…]``.

        Raises:
            ValueError: nothing is given, or something that is no host.
        """
        values = parse(text).values
        if not values:
            raise ValueError("name at least one host, for example relay.example or relay.example:8443")
        hosts = []
        for value in values:
            host = split_host(value)
            if host is None:
                raise ValueError(f"{value!r} is no host: write HOST or HOST:PORT, and [ADDRESS] for IPv6")
            hosts.append(host)
        return cls(hosts)

    def validate(self, request: HandshakeRequest, grant: Grant) -> Grant:
        """Return the grant as it is. See :class:`~wsrelay.interfaces.IHandshakeValidator`."""
        host = split_host(request.host)
        if host is None or self._hosts.isdisjoint([host, (host[0], None)]):
            raise Denied(421, "this host is not served here")
        return grant
