"""Settings: every number and choice of a relay, declared once: type and range, default, and its option's texts.

``--help``, the man page, completion, ``--check-config``, docs/options.md and the table of limits in
docs/reliability.md are made from these declarations. A new option is a field here; then ``make reference``.

Must not live here: reading command line, environment and file (:mod:`wsrelay.tap`), the meaning of ``--validate``
strings (:mod:`wsrelay.validators`), options without a setting (:mod:`wsrelay.cli.options`). Four groups of fields,
observability, several nodes, history and rates, are in :mod:`wsrelay.setting_groups`.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Annotated, Final, get_type_hints

from msgspec import Meta

from wsrelay.errors import SettingsError
from wsrelay.message import MESSAGE_OVERHEAD_BYTES
from wsrelay.net.proxies import TrustedProxies
from wsrelay.option import Option, attributes, checked, listed, setting
from wsrelay.policies import COUNTS, MESSAGE_TYPES, SLOW_POLICIES, ByRoom
from wsrelay.ranges import MOST_BYTES, BytesOrDerived, Count, CountOrOff, RateOrOff, Seconds, SecondsOrOff
from wsrelay.setting_groups import LOG_FORMATS, LOG_LEVELS, History, Nodes, Observability, Rates

__all__ = ["DERIVED", "ENDPOINTS", "LOG_FORMATS", "LOG_LEVELS", "OPTIONS", "RELOADABLE", "Settings", "check_value"]

#: Beginnings of endpoints, for completion; plugins of Twisted add more.
ENDPOINTS: Final = ("tcp:", "tcp6:", "ssl:", "tls:", "unix:", "systemd:", "haproxy:")

#: A room's log has so many bytes by default: what the kernel no longer keeps (wsrelay.net.endpoints.bound_unsent); or
#: so many of the largest messages, as far as they fit in this share of the memory budget.
_ROOM_LOG_BYTES: Final = 8 * 2**20
_ROOM_LOG_MESSAGES: Final = 4
_ROOM_LOG_SHARE: Final = 0.5


def _room_log_bytes(max_message_bytes: int, memory_budget: int) -> int:
    message_bytes = max_message_bytes + MESSAGE_OVERHEAD_BYTES
    fitting_bytes = int(memory_budget * _ROOM_LOG_SHARE) or MOST_BYTES
    messages_bytes = max(message_bytes, min(_ROOM_LOG_MESSAGES * message_bytes, fitting_bytes))
    return min(MOST_BYTES, max(_ROOM_LOG_BYTES, messages_bytes))


@dataclass(frozen=True, kw_only=True)
class Settings(Observability, Nodes, History, Rates):
    """The settings of one relay. Frozen, except for :meth:`take_over`.

    A :class:`wsrelay.factory.RelayFactory` copies the settings that it is given. All its parts hold this one copy and
    read a field when they need it, so that they see a reload. :meth:`wsrelay.factory.RelayFactory.reload` is the one
    place that changes the copy and refreshes objects derived from it.

    Raises:
        SettingsError: from the constructor; it names all wrong values at once.
    """

    listen: Annotated[tuple[str, ...], Meta(min_length=1)] = setting(
        ("tcp:8080:interface=127.0.0.1",),
        "Listening",
        "Where to listen: PORT, ADDRESS:PORT, or an endpoint of Twisted (tcp, tcp6, ssl, tls, unix, haproxy:...).",
        detail="A port alone is on loopback: `9000` is `tcp:9000:interface=127.0.0.1`; `:9000` is all IPv4 addresses of"
        " this machine, `[::]:9000` all addresses. `systemd:` and endpoints of Twisted's plugins work, too; each can"
        " stand behind `haproxy:`. `tcp6:PORT` serves IPv4, too, unless another endpoint has this port on IPv4. A"
        " `unix:` socket is open to all users of the machine, as proxies run as others, unless its folder or"
        " `:mode=660` says otherwise. The backlog is 1024 unless `:backlog=` sets another. If the port is in use, the"
        " relay exits with 1.",
        value="ENDPOINT",
        choices=ENDPOINTS,
    )
    trusted_proxies: tuple[str, ...] = setting(
        (),
        "Listening",
        "Proxies whose X-Forwarded-For is trusted: an address, a network in CIDR notation, or unix.",
        detail="The field is read from right to left. `unix` means all connections through unix sockets. From other"
        " peers the field is ignored.",
        value="NETWORK",
        shown_default="none",
        choices=("unix",),
        check=TrustedProxies,
    )
    http: bool = setting(
        False,
        "Listening",
        "Serve rooms over plain HTTP, too: POST publishes, GET tails or describes.",
        detail="On the same ports, with the same validators and limits: [plain HTTP](http.md).",
    )
    demo: bool = setting(False, "Listening", "Serve a demo page at /: open it in two tabs.")

    validate: tuple[str, ...] = setting(
        (),
        "Access control",
        "Handshake validator, see --help-validators; called in this order.",
        detail="Names and arguments: [Handshake validators](validators.md). `origin:same-host` is called first unless"
        " another `origin` is given. A request that fails is refused with the validator's status.",
        value="NAME[:ARGUMENTS]",
        shown_default="origin:same-host",
        reloadable=True,
    )

    explain_refusals: bool = setting(
        False,
        "Access control",
        "Tell pages why a WebSocket handshake was refused: by a close code, such as 4403 for 403, and the reason.",
        detail="Browsers show pages nothing of a refused handshake but 1006. The refusal is a 101 and, at once, a close"
        " frame: [Close codes](closecodes.md#refused-handshakes). It is counted and logged as without this option.",
        reloadable=True,
    )

    echo: bool = setting(False, "Messages", "Send messages to their publisher, too.")
    message_type: tuple[str, ...] = setting(
        (),
        "Messages",
        f"Accepted messages: {listed(MESSAGE_TYPES)}; PATTERN=TYPE for some rooms. Other types: close 1003.",
        detail="The first pattern that matches counts.",
        value="TYPE",
        shown_default="any",
        choices=tuple(MESSAGE_TYPES),
        check=partial(ByRoom, choices=MESSAGE_TYPES),
    )
    no_compress: bool = setting(False, "Messages", "Decline permessage-deflate (RFC 7692).")
    max_message_bytes: Annotated[int, Meta(ge=1, le=MOST_BYTES - MESSAGE_OVERHEAD_BYTES)] = setting(
        2**20,
        "Messages",
        "Largest message, in bytes of payload.",
        exceeded="close 1009",
        detail="Inflated, over all its fragments.",
    )
    max_fragments: Count = setting(1024, "Messages", "Most frames of one message.", exceeded="close 1008")
    compress_min_bytes: Annotated[int, Meta(ge=0, le=2**31)] = setting(
        256, "Messages", "Shortest payload that is deflated.", detail="Shorter ones are sent uncompressed."
    )

    slow_policy: tuple[str, ...] = setting(
        (),
        "Rooms and slow subscribers",
        f"Policy for slow subscribers: {listed(SLOW_POLICIES)}; PATTERN=POLICY for some rooms.",
        detail="The first pattern that matches counts; see [Slow subscribers](#slow-subscribers).",
        value="POLICY",
        shown_default="disconnect",
        choices=tuple(SLOW_POLICIES),
        reloadable=True,
        check=partial(ByRoom, choices=SLOW_POLICIES),
    )
    max_rooms: Count = setting(
        10_000, "Rooms and slow subscribers", "Most rooms with at least one member.", exceeded="503"
    )
    max_room_members: Count = setting(
        10_000, "Rooms and slow subscribers", "Most connections in one room.", exceeded="503"
    )
    room_log_bytes: BytesOrDerived = setting(
        0,
        "Rooms and slow subscribers",
        f"Bytes of a room's log, which slow subscribers read from. 0 is {_ROOM_LOG_BYTES}, or"
        f" {_ROOM_LOG_MESSAGES} of the largest messages if that is more and fits in half of --memory-budget.",
        exceeded="the slow policy",
        detail="Counted as plain frames. At least `--max-message-bytes` + 256, better several times that: within one"
        " turn of the reactor, a room's publishers may fill half of it.",
        derived=(("max_message_bytes", "memory_budget"), _room_log_bytes),
    )
    slow_seconds: SecondsOrOff = setting(
        30.0,
        "Rooms and slow subscribers",
        "Time a message may wait for a slow subscriber. 0 is no limit.",
        exceeded="close 1013",
        detail="Of the oldest message in the log that it still needs; with `pause-publishers` it must not be 0.",
    )
    memory_budget: CountOrOff = setting(
        512 * 2**20,
        "Rooms and slow subscribers",
        "Bytes kept for all clients together. 0 is no limit.",
        exceeded="close 1013 for the largest clients of the largest addresses, then 503 for new ones",
        detail="Rooms' logs and their encoded frames, unsent bytes, unfinished messages and requests, and 2 KiB per"
        " connection. An eighth is for encoded frames (deflated, or events), which are freed first. At least two of the"
        " largest messages.",
    )
    max_unfinished_bytes_per_address: CountOrOff = setting(
        0,
        "Rooms and slow subscribers",
        "Most bytes of unfinished messages and requests of one address. 0 is an eighth of --memory-budget.",
        exceeded="close 1013 for the largest, 429 before a response",
        detail="By default at least two of the largest messages. At least `--max-message-bytes` +"
        " `--max-request-bytes`.",
    )

    max_connections: CountOrOff = setting(
        0,
        "Connection limits",
        "Most connections, unfinished handshakes included. 0 is as many as the limit on open files allows.",
        exceeded="503",
        detail="That is the hard limit (`ulimit -Hn`), less a reserve; the log says at start how many that are.",
    )
    max_connections_per_address: CountOrOff = setting(
        1024,
        "Connection limits",
        "Most connections of one IPv4 address or IPv6 /64, 4 times as many of a /56, 16 times of a /48. 0 is no limit.",
        exceeded="429",
        detail="A network has half of all at most. Behind a proxy, name it with `--trusted-proxies`.",
    )
    max_handshakes: CountOrOff = setting(
        8192, "Connection limits", "Most unfinished handshakes. 0 is no limit.", exceeded="503"
    )
    max_handshakes_per_address: CountOrOff = setting(
        256, "Connection limits", "Most unfinished handshakes of one address. 0 is no limit.", exceeded="429"
    )
    max_connects_per_second: RateOrOff = setting(
        5000.0, "Connection limits", "Most new connections per second. 0 is no limit.", exceeded="503"
    )
    max_connects_per_second_per_address: RateOrOff = setting(
        200.0, "Connection limits", "Most new connections per second of one address. 0 is no limit.", exceeded="429"
    )
    max_request_bytes: Annotated[int, Meta(ge=1024, le=65536)] = setting(
        16_384,
        "Connection limits",
        "Most bytes of a request without its body: request line and header fields, cookies included.",
        exceeded="431; 414 for the request line",
        detail="From 1024 to 65536; also on the admin endpoint. A proxy in front has a limit of its own.",
    )

    handshake_seconds: Seconds = setting(10.0, "Timeouts", "Time from accept to the complete request.", exceeded="408")
    validate_seconds: Seconds = setting(5.0, "Timeouts", "Time for all validators together.", exceeded="504")
    message_seconds: SecondsOrOff = setting(
        30.0, "Timeouts", "Time from the beginning of a message to its end. 0 is no limit.", exceeded="close 1008"
    )
    ping_seconds: SecondsOrOff = setting(
        20.0,
        "Timeouts",
        "Time between pings, and for their pongs. 0 is no pings.",
        exceeded="close 3008",
        detail="A slow client may answer later while it takes bytes that waited for it.",
    )
    close_seconds: Seconds = setting(
        3.0,
        "Timeouts",
        "Time from the relay's close frame to the end of TCP.",
        exceeded="TCP is aborted",
        detail="Up to ten times this long while the client takes bytes before it, but not when the relay stops.",
    )
    drain_seconds: SecondsOrOff = setting(
        5.0,
        "Timeouts",
        "Time over which SIGTERM spreads its closes. 0 is all at once.",
        exceeded="clients that are still behind are closed, too",
        detail="So that clients do not all reconnect at once, where another relay takes them meanwhile. Where none"
        " does, they are offline for as much longer: [Restart](deployment.md#restart-without-pain).",
    )

    def __post_init__(self) -> None:
        problems = [
            f"{field.name}: {problem}"
            for field in fields(self)
            if (problem := check_value(field.name, getattr(self, field.name))[1])
        ]
        if not problems:
            for name in DERIVED:
                if getattr(self, name) == _DEFAULTS[name]:
                    object.__setattr__(self, name, self._derived(name))
            problems = [*self._too_small(), *self._contradictions()]
        if problems:
            raise SettingsError(problems)

    def _derived(self, name: str) -> object:
        sources, derive = DERIVED[name]
        return derive(*(getattr(self, source) for source in sources))

    @property
    def _message_bytes(self) -> int:
        """The largest message as a log counts it."""
        return self.max_message_bytes + MESSAGE_OVERHEAD_BYTES

    def _too_small(self) -> list[str]:
        """Return the problems of limits that do not fit the largest message."""
        least = {
            "room_log_bytes": (self._message_bytes, "so that a room's log holds one whole message"),
            "memory_budget": (2 * self._message_bytes, "or a client that sends such a message is closed"),
            "max_unfinished_bytes_per_address": (
                self.max_message_bytes + self.max_request_bytes,
                "or a client that sends such a message is closed",
            ),
            "backplane_log_bytes": (
                self.max_message_bytes if self.backplane else 0,
                "so that the broker keeps one whole message",
            ),
        }
        return [
            f"{name}: must be at least {bytes_} with max_message_bytes={self.max_message_bytes}, {why}; got {got}"
            for name, (bytes_, why) in least.items()
            if 0 < (got := getattr(self, name)) < bytes_
        ]

    def _contradictions(self) -> list[str]:
        """Return the problems of fields that are right each, but not together."""
        problems = []
        policies = ByRoom(self.slow_policy, SLOW_POLICIES).chosen
        if not self.slow_seconds and any(policy.holds_publishers for policy in policies):
            problems.append(
                "slow_seconds: must not be 0 with the policy pause-publishers, or one client that does not read stops"
                " its room for good"
            )
        if self.backplane and any(policy.holds_publishers for policy in policies):
            problems.append(
                "slow_policy: pause-publishers cannot hold the publishers of other nodes; choose another policy, or run"
                " one node without --backplane"
            )
        if self.history_bytes > self.room_log_bytes // 2 and self._keeps_messages():
            problems.append(
                f"history_bytes: must be at most half of room_log_bytes; got {self.history_bytes} and"
                f" {self.room_log_bytes}: write history_bytes={self.room_log_bytes // 2} or less, or"
                f" room_log_bytes={2 * self.history_bytes} or more"
            )
        return problems

    def _keeps_messages(self) -> bool:
        """Whether any room may have history."""
        return any(any(ByRoom(texts, COUNTS).chosen) for texts in (self.history, self.greet))

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
        """Return the names of the fields in which others differ; not those that only follow others."""
        names = [field.name for field in fields(self) if getattr(self, field.name) != getattr(other, field.name)]
        return [name for name in names if not (self._is_derived(name) and other._is_derived(name))]

    def _is_derived(self, name: str) -> bool:
        return name in DERIVED and getattr(self, name) == self._derived(name)


#: Field name → its option; in the order of the fields.
OPTIONS: Final[Mapping[str, Option]] = {
    field.name: replace(field.metadata["option"], name=field.name.replace("_", "-")) for field in fields(Settings)
}

#: The fields that SIGHUP applies to a running relay; the others need a restart.
RELOADABLE: Final = frozenset(name for name, option in OPTIONS.items() if option.reloadable)

#: Field name → its default, before it is derived from other fields; and from which, and how.
_DEFAULTS: Final[Mapping[str, object]] = {field.name: field.default for field in fields(Settings)}
DERIVED: Final[Mapping[str, tuple[tuple[str, ...], Callable[..., object]]]] = {
    field.name: field.metadata["derived"] for field in fields(Settings) if field.metadata["derived"]
}

#: Field name → its type with its range, and the check of its values.
_TYPES: Final = get_type_hints(Settings, include_extras=True)
_CHECKS: Final = {field.name: field.metadata["check"] for field in fields(Settings)}


def check_value(name: str, value: object, *, strict: bool = True) -> tuple[object, str | None]:
    """Convert a value to the type of a field and check its range.

    Args:
        name: a field of :class:`Settings`.
        value: the value to check.
        strict: whether a string may not stand for a number or a boolean. ``False`` for the command line and the
            environment, which have strings only.

    Returns:
        The converted value and ``None``, or ``None`` and the problem in a few words.
    """
    return checked(value, _TYPES[name], _CHECKS[name], strict=strict)


Settings.__doc__ = f"{inspect.cleandoc(Settings.__doc__ or '')}\n\n{attributes(OPTIONS)}"
