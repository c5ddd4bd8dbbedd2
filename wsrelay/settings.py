"""Settings: every number and choice of a relay, with unit, range and default, in one frozen object.

Where a value comes from (command line, environment, file) is :mod:`wsrelay.tap`'s business; what the
``--validate`` strings mean is the validators'.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Annotated, Any, Final, get_type_hints

import msgspec
from msgspec import Meta

from wsrelay.errors import SettingsError
from wsrelay.message import MESSAGE_OVERHEAD_BYTES
from wsrelay.net.proxies import TrustedProxies
from wsrelay.policies import MESSAGE_TYPES, SLOW_POLICIES, ByRoom

__all__ = ["FIELD_TYPES", "LOG_FORMATS", "LOG_LEVELS", "RELOADABLE", "Settings", "check_value"]

#: How the log may be written.
LOG_FORMATS: Final = ("text", "json")

#: What the least that is logged may be, from much to little.
LOG_LEVELS: Final = ("debug", "info", "warn", "error")

_Count = Annotated[int, Meta(ge=1, le=2**62)]
_CountOrOff = Annotated[int, Meta(ge=0, le=2**62)]
_RateOrOff = Annotated[float, Meta(ge=0, le=1e12)]
_Seconds = Annotated[float, Meta(gt=0, le=86400)]
_SecondsOrOff = Annotated[float, Meta(ge=0, le=86400)]
#: Above 2^31 a single message would no longer fit what zlib and the kernel take in one piece.
_Bytes = Annotated[int, Meta(ge=1, le=2**31)]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one relay. Frozen, except for :meth:`take_over`.

    A :class:`wsrelay.factory.RelayFactory` copies the settings that it is given. All its parts hold this one copy and
    read a field when they need it, so that they see a reload. :meth:`wsrelay.factory.RelayFactory.reload` is the one
    place that changes the copy and refreshes objects derived from it.

    Raises:
        SettingsError: from the constructor; it names all wrong values at once.

    Attributes:
        listen: Twisted server endpoint strings.
        echo: whether publishers receive their own messages too.
        admin: the endpoint string of the admin endpoint; empty for none.
        canary_seconds: how long its canary may take, from the connect to the delivery.
        validate: handshake validators as ``NAME[:ARGUMENTS]``, in the order in which they are asked.
        http: whether rooms are served over plain HTTP, too: publishing, tailing, describing.
        demo: whether the demo page is served at ``/``.
        no_compress: whether permessage-deflate is declined (RFC 7692).
        compress_min_bytes: the shortest payload that is deflated.
        max_message_bytes: payload of one message, inflated, over all its fragments. Beyond: 1009.
        max_fragments: frames of one message. Beyond: 1008.
        message_type: what may be published, each ``TYPE`` or ``PATTERN=TYPE``; see
            :data:`wsrelay.policies.MESSAGE_TYPES`. Another type: 1003.
        max_frames_per_second: frames that one connection may send, control frames and empty ones included. Beyond, here
            and in the next two: it is not read for a while, and 1008 after ``rate_grace_seconds``. 0 is no limit.
        max_messages_per_second: messages that one connection may send.
        max_bytes_per_second: bytes that one connection may send, on the wire or inflated, whichever is more.
        burst_seconds: how many seconds' worth of any rate may come at once.
        rate_grace_seconds: how long a connection may be slowed down. Longer: 1008.
        message_seconds: from the beginning of a message to its end. Longer: 1008. 0 is no limit.
        max_connections: TCP connections, unfinished handshakes included. Beyond: 503. 0 is as many as files may be
            open.
        max_connections_per_address: the same from one IPv4 address or IPv6 /64. Beyond: 429. 0 is no limit.
        max_handshakes: handshakes that are not done. Beyond: 503. 0 is no limit.
        max_handshakes_per_address: the same from one address. Beyond: 429. 0 is no limit.
        max_connects_per_second: new connections. Beyond: 503. 0 is no limit.
        max_connects_per_second_per_address: the same from one address. Beyond: 429. 0 is no limit.
        trusted_proxies: whose ``X-Forwarded-For`` is believed: networks in CIDR notation.
        max_rooms: rooms with at least one member. Beyond: 503.
        max_room_members: connections in one room. Beyond: 503.
        memory_budget: bytes for all that the relay keeps for its clients. Beyond: new connections get 503, and the
            slowest are closed with 1013. 0 is no limit.
        room_log_bytes: what one room keeps for subscribers that are behind, as plain payload. Further behind: 1013.
            Several of the largest messages, because some may come before anyone could read one.
        slow_policy: what becomes of subscribers that are behind, each ``POLICY`` or ``PATTERN=POLICY``; see
            :data:`wsrelay.policies.SLOW_POLICIES`.
        slow_seconds: how long the oldest message may wait for a subscriber in its room's log. Longer: 1013, where the
            policy evicts at all. 0 is for ever.
        handshake_seconds: from accept to the whole request. Later: 408.
        validate_seconds: for all validators together. Later: 504.
        close_seconds: from our close frame to the end of the TCP connection.
        drain_seconds: the time over which the closes are spread when the relay stops. 0 is all at once.
        ping_seconds: between pings, and for the pong to come. Without it: 3008. 0 turns pings off.
        log_format: one of :data:`LOG_FORMATS`. This and the next are for a relay that is the process.
        log_level: the least that is logged, one of :data:`LOG_LEVELS`.
    """

    listen: Annotated[tuple[str, ...], Meta(min_length=1)] = ("tcp:8080:interface=127.0.0.1",)
    echo: bool = False
    admin: str = ""
    canary_seconds: Annotated[float, Meta(gt=0, le=10)] = 1.0
    validate: tuple[str, ...] = ()
    http: bool = False
    demo: bool = False
    no_compress: bool = False
    compress_min_bytes: Annotated[int, Meta(ge=0, le=2**31)] = 256
    max_message_bytes: _Bytes = 2**20
    max_fragments: _Count = 1024
    message_type: tuple[str, ...] = ()
    max_frames_per_second: _RateOrOff = 10_000.0
    max_messages_per_second: _RateOrOff = 5_000.0
    max_bytes_per_second: _CountOrOff = 32 * 2**20
    burst_seconds: _Seconds = 5.0
    rate_grace_seconds: _SecondsOrOff = 30.0
    message_seconds: _SecondsOrOff = 30.0
    max_connections: _CountOrOff = 0
    max_connections_per_address: _CountOrOff = 1024
    max_handshakes: _CountOrOff = 8192
    max_handshakes_per_address: _CountOrOff = 256
    max_connects_per_second: _RateOrOff = 5000.0
    max_connects_per_second_per_address: _RateOrOff = 200.0
    trusted_proxies: tuple[str, ...] = ()
    max_rooms: _Count = 10_000
    max_room_members: _Count = 10_000
    memory_budget: _CountOrOff = 512 * 2**20
    room_log_bytes: _Bytes = 4 * 2**20
    slow_policy: tuple[str, ...] = ()
    slow_seconds: _SecondsOrOff = 30.0
    handshake_seconds: _Seconds = 10.0
    validate_seconds: _Seconds = 5.0
    close_seconds: _Seconds = 3.0
    drain_seconds: _SecondsOrOff = 5.0
    ping_seconds: _SecondsOrOff = 20.0
    log_format: str = "text"
    log_level: str = "info"

    def __post_init__(self) -> None:
        problems = [
            f"{field.name}: {problem}"
            for field in fields(self)
            if (problem := check_value(field.name, getattr(self, field.name))[1])
        ]
        if not problems and self.room_log_bytes < self.max_message_bytes + MESSAGE_OVERHEAD_BYTES:
            problems.append(
                f"room_log_bytes: must be at least max_message_bytes + {MESSAGE_OVERHEAD_BYTES}, so that a room's log"
                f" holds one whole message; got {self.room_log_bytes} and {self.max_message_bytes}"
            )
        policies = () if problems else ByRoom(self.slow_policy, SLOW_POLICIES).chosen
        if not self.slow_seconds and any(policy.holds_publishers for policy in policies):
            problems.append(
                "slow_seconds: must not be 0 with the policy pause-publishers, or one client that does not read stops"
                " its room for good"
            )
        if problems:
            raise SettingsError(problems)

    def take_over(self, other: "Settings") -> None:
        """Change the :data:`RELOADABLE` fields to those of other settings: all of them, or none.

        Raises:
            SettingsError: they contradict fields that stay; nothing has changed.
        """
        changes = {name: getattr(other, name) for name in RELOADABLE}
        replace(self, **changes)  # checked as a whole
        for name, value in changes.items():
            object.__setattr__(self, name, value)

    def differences(self, other: "Settings") -> list[str]:
        """Return the names of the fields in which others differ."""
        return [field.name for field in fields(self) if getattr(self, field.name) != getattr(other, field.name)]


#: The fields that SIGHUP applies to a running relay; the others need a restart.
RELOADABLE: Final = frozenset(["validate", "slow_policy"])

#: msgspec's words → an operator's.
_WORDS: Final = (
    ("`", ""),
    (r", got \w+", ""),
    ("^Expected int", "expected a whole number"),
    ("^Expected float", "expected a number"),
    ("^Expected bool", "expected true or false"),
    ("^Expected array", "expected a list"),
    ("^Expected str", "expected a string"),
    ("^Number out of range", "expected a smaller number"),
)


def _one_of(value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"expected one of {', '.join(choices)}, got {value!r}")


#: Field name → what makes something of its value, and raises ``ValueError`` for one that means nothing.
_MEANINGS: Final[Mapping[str, Callable[[Any], object]]] = {
    "message_type": partial(ByRoom, choices=MESSAGE_TYPES),
    "trusted_proxies": TrustedProxies,
    "slow_policy": partial(ByRoom, choices=SLOW_POLICIES),
    "log_format": partial(_one_of, choices=LOG_FORMATS),
    "log_level": partial(_one_of, choices=LOG_LEVELS),
}

#: Field name → its type with its range.
FIELD_TYPES: Final[Mapping[str, Any]] = get_type_hints(Settings, include_extras=True)


def check_value(name: str, value: object, *, strict: bool = True) -> tuple[Any, str | None]:
    """Convert a value to the type of a field and check its range.

    Args:
        name: a field of :class:`Settings`.
        value: what was given.
        strict: whether a string may not stand for a number or a boolean; it may where
            strings are all there is (command line, environment).

    Returns:
        The value and ``None``, or ``None`` and the problem in a few words.
    """
    try:
        converted = msgspec.convert(value, FIELD_TYPES[name], strict=strict)
        if name in _MEANINGS:
            _MEANINGS[name](converted)
    except msgspec.ValidationError as error:
        return None, f"{_plain(str(error))}, got {value!r}"
    except ValueError as error:
        return None, str(error)
    return converted, None


def _plain(error: str) -> str:
    """Turn msgspec's words into an operator's: no backticks, no Python types."""
    for theirs, ours in _WORDS:
        error = re.sub(theirs, ours, error)
    return error
