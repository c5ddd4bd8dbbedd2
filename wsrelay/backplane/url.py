"""The broker's URL: schemes, hosts, options; and the password, which comes from a file.

Must not live here: connecting (:mod:`wsrelay.backplane.redis_link`), the option (:mod:`wsrelay.setting_groups`).
"""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from wsrelay.text import without_mark

__all__ = ["Address", "Host", "Password", "parse", "password"]

#: The ports of Redis and of Sentinel. Source: redis.io, "High availability with Redis Sentinel".
_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379

#: At most as many shards as a cluster has slots. Source: Redis Cluster specification, "Key distribution model".
MAX_SHARDS: Final = 16384

#: Redis sets no limit to the number of databases; this one finds typing errors.
_MAX_DATABASE: Final = 65535

_MASTER: Final = re.compile(r"[A-Za-z0-9_.-]+")

#: Without braces, which would move the hash tag of the keys, and without the wildcards of ACL rules.
_PREFIX: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")

_ELSEWHERE: Final = "no password in the URL: put it into a file, and name that with --backplane-password-file"


class _Scheme(NamedTuple):
    """What a scheme's URL has.

    Attributes:
        port: the default port; 0 for a unix socket.
        options: the names that may stand behind "?".
    """

    port: int
    options: tuple[str, ...]


_COMMON: Final = ("prefix", "shards")
_TLS: Final = ("ca", "cert", "key")

_SCHEMES: Final = {
    "redis": _Scheme(_PORT, _COMMON),
    "rediss": _Scheme(_PORT, (*_COMMON, *_TLS)),
    "redis+unix": _Scheme(0, (*_COMMON, "db")),
    "redis+sentinel": _Scheme(_SENTINEL_PORT, _COMMON),
    "rediss+sentinel": _Scheme(_SENTINEL_PORT, (*_COMMON, *_TLS)),
}


class Password:
    """A password that no ``repr``, traceback or log line shows.

    Args:
        secret: the password.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return "Password(hidden)"

    def reveal(self) -> bytes:
        """Return the password; for AUTH only."""
        return self._secret


class Host(NamedTuple):
    """A host, by name or IP address (IPv6 without brackets), and a TCP port."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed URL. ``str`` of it is the URL, without options that have their defaults; it has no secrets.

    Attributes:
        scheme: one of ``redis``, ``rediss``, ``redis+unix``, ``redis+sentinel``, ``rediss+sentinel``.
        hosts: the brokers, or the Sentinels; empty for a unix socket.
        path: the unix socket; else empty.
        master: the name that Sentinels know the broker by; else empty.
        database: the number for SELECT.
        user: the user of AUTH, which is logged; empty: the broker's default user.
        prefix: the first part of all keys.
        shards: the number of streams, from 1 to :data:`MAX_SHARDS`.
        ca: a file with the certificates to trust; empty: those of the platform.
        cert: a file with the client's certificate, and those between it and its root; empty: none.
        key: a file with the client's key; it may be ``cert``.
    """

    scheme: str
    hosts: tuple[Host, ...] = ()
    path: str = ""
    master: str = ""
    database: int = 0
    user: str = ""
    prefix: str = "wsrelay"
    shards: int = 1
    ca: str = ""
    cert: str = ""
    key: str = ""

    @property
    def is_tls(self) -> bool:
        """Whether connections are encrypted, to brokers and to Sentinels."""
        return self.scheme.startswith("rediss")

    def host(self, shard: int) -> Host:
        """Return the broker of a shard: several brokers take turns. Not for unix sockets and Sentinels."""
        return self.hosts[shard % len(self.hosts)]

    def stream(self, shard: int) -> str:
        """Return the key of a shard's stream."""
        return f"{self.prefix}:{{{shard}}}:log"

    def nodes(self, shard: int) -> str:
        """Return the key of the list of nodes that read a shard."""
        return f"{self.prefix}:{{{shard}}}:nodes"

    def __str__(self) -> str:
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        master = f"/{self.master}" if self.master else ""
        place = quote(self.path) if self.path else f"{','.join(map(str, self.hosts))}{master}/{self.database}"
        values = {name: str(getattr(self, "database" if name == "db" else name)) for name in self._options()}
        query = "&".join(f"{name}={quote(value, safe='/:')}" for name, value in values.items())
        return f"{self.scheme}://{user}{place}{'?' if query else ''}{query}"

    def _options(self) -> list[str]:
        """Return the names of the options that differ from their defaults."""
        default = Address(self.scheme)
        fields = {name: "database" if name == "db" else name for name in _SCHEMES[self.scheme].options}
        return [name for name, field in fields.items() if getattr(self, field) != getattr(default, field)]


def parse(text: str) -> Address:
    """Parse a broker's URL.

    ::

        redis://[user@]host[:6379][,host…][/database][?prefix=wsrelay&shards=1]
        rediss://…[?ca=FILE&cert=FILE&key=FILE]
        redis+unix://[user@]/path/of/socket[?db=0]
        redis+sentinel://[user@]sentinel[:26379][,sentinel…]/master[/database]
        rediss+sentinel://…

    Raises:
        ValueError: says what to write instead, and quotes nothing that may be a password.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ValueError(f"must start with {', '.join(f'{name}://' for name in _SCHEMES)}")
    if re.search(":.*@", rest, re.DOTALL):
        raise ValueError(f'{_ELSEWHERE} (an "@" in the name of a file is written %40)')
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    user, _, hosts = authority.rpartition("@")
    options = _options(query, _SCHEMES[scheme])
    place = _place(scheme, hosts, slash + path, options.get("db", ""))
    return Address(
        scheme,
        *place,
        user=unquote(user),
        prefix=options.get("prefix", "wsrelay"),
        shards=_number("shards=", options.get("shards", ""), 1, MAX_SHARDS),
        ca=options.get("ca", ""),
        cert=options.get("cert", ""),
        key=options.get("key", options.get("cert", "")),
    )


def _place(scheme: str, hosts: str, path: str, database: str) -> tuple[tuple[Host, ...], str, str, int]:
    """Return hosts, unix socket, master and database."""
    if scheme == "redis+unix":
        if hosts or len(path) < 2:
            raise ValueError("a unix socket is written redis+unix:///path/of/socket")
        return (), unquote(path), "", _number("db=", database, 0, _MAX_DATABASE)
    port = _SCHEMES[scheme].port
    brokers = tuple(_host(host, port) for host in hosts.split(","))
    names = path.removeprefix("/").split("/")
    master = names.pop(0) if scheme.endswith("+sentinel") else ""
    if scheme.endswith("+sentinel") and not _MASTER.fullmatch(master):
        raise ValueError(f"Sentinels need the name of the master: {scheme}://sentinel:{port}/mymaster")
    if len(names) > 1:
        raise ValueError("only the number of the database may follow the last /")
    return brokers, "", master, _number("the database", "".join(names), 0, _MAX_DATABASE)


def _host(text: str, default_port: int) -> Host:
    """Parse ``name``, ``name:port``, ``[IPv6]`` or ``[IPv6]:port``."""
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_][A-Za-z0-9_.-]*))(?::(.*))?", text)
    ipv6, name, port = found.groups() if found else (None, None, None)
    if name is None and (ipv6 is None or not _is_ipv6(ipv6)):
        raise ValueError("a host is written host:port, an IPv6 address [::1]:port; several are separated by commas")
    return Host(name or ipv6 or "", default_port if port is None else _number("the port", port or "0", 1, 65535))


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _number(what: str, text: str, least: int, most: int) -> int:
    """Parse a decimal number; no text is the least one."""
    number = int(text) if re.fullmatch("[0-9]{1,9}", text) else -1 if text else least
    if not least <= number <= most:
        raise ValueError(f"{what} must be a number from {least} to {most}")
    return number


def _options(query: str, scheme: _Scheme) -> dict[str, str]:
    """Parse what follows "?"."""
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    if len(options) < len(pairs):
        raise ValueError("each option behind ? may be given once")
    if {"password", "pass", "auth", "username"} & set(options):
        raise ValueError(_ELSEWHERE)
    if not all(name in scheme.options and value for name, value in pairs):
        raise ValueError(f"behind ? may stand, with a value: {', '.join(f'{name}=' for name in scheme.options)}")
    if "key" in options and "cert" not in options:
        raise ValueError("key= needs cert=, the certificate of the key")
    if not _PREFIX.fullmatch(options.get("prefix", "wsrelay")):
        raise ValueError("prefix= must have 1 to 64 letters, digits, and _ . : -")
    return options


def password(path: str | Path) -> Password:
    """Read a password: the first line of a file.

    Raises:
        ValueError: the file cannot be read, or its first line is empty. The text names the file.
    """
    try:
        line, *_ = without_mark(Path(path).read_bytes()).splitlines() or [b""]
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not line:
        raise ValueError(f"{path}: the first line is empty; it must be the password")
    return Password(line)
