"""Endpoint descriptions: the short forms that people write, as Twisted's endpoint strings. Pure text.

Must not live here: Twisted's own strings, which stay as they are (:mod:`wsrelay.net.endpoints`).
"""

import ipaddress
import re
from typing import Final

__all__ = ["full"]

#: An IPv6 address, with its zone where it is of one link: ``fe80::1%eth0`` (RFC 4007 section 11).
_IPV6: Final = r"[0-9A-Fa-f]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(?:%[\w.-]+)?"

#: ``PORT``, ``HOST:PORT``, ``:PORT``, ``*:PORT``, ``[IPv6]:PORT``.
_SHORT: Final = re.compile(rf"(?:(?P<host>\[{_IPV6}\]|[0-9.]+|localhost|\*|):)?(?P<port>[0-9]+)")

#: HOST of a short form → the address.
_HOSTS: Final = {None: "127.0.0.1", "localhost": "127.0.0.1", "": "0.0.0.0", "*": "0.0.0.0"}  # noqa: S104 - as asked for

#: What is written by mistake → what to write.
_MISTAKES: Final = (
    (re.compile(r"(?:ws|wss|http|https)://([^/]+)(?:/.*)?"), r"write \1, without scheme and path; TLS is ssl:PORT:…"),
    (re.compile(r"(?:tcp|tcp6):((?:localhost|[0-9]+(?:\.[0-9]+)+|\[.*\]):[0-9]+)"), r"write \1"),
    (re.compile(rf"({_IPV6}):([0-9]+)"), r"write [\1]:\2"),
    (re.compile(r"(localhost|[0-9]+(?:\.[0-9]+){3}|\[.*\]|\*)"), r"write \1:PORT"),
    (re.compile(r"([A-Za-z0-9.-]+\.[A-Za-z]+):([0-9]+)"), r"write the IP address of this machine: ADDRESS:\2"),
)


def full(description: str) -> str:
    """Return a short form as an endpoint string of Twisted; any other text as it is.

    A port alone is on loopback, as the relay is by default: ``9000`` is ``tcp:9000:interface=127.0.0.1``. ``:9000`` and
    ``*:9000`` are all IPv4 addresses, ``[::]:9000`` is all addresses, ``[fe80::1%eth0]:9000`` one of a link.

    Raises:
        ValueError: it cannot be meant for Twisted; the text says what to write.
    """
    if (short := _SHORT.fullmatch(description)) is None:
        for mistake, advice in _MISTAKES:
            if found := mistake.fullmatch(description):
                raise ValueError(found.expand(advice))
        return description
    host, port = short["host"], int(short["port"])
    if port > 65535:
        raise ValueError("a port is a number from 0 to 65535")
    address = ipaddress.ip_address(_HOSTS.get(host) or host.strip("[]"))
    kind = "tcp" if address.version == 4 else "tcp6"
    return f"{kind}:{port}:interface=" + str(address).replace(":", r"\:")
