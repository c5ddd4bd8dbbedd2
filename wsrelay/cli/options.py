"""The options: one row for each, from which come ``--help``, the man page, zsh's completion and docs/options.md.

A new option is a row here, or in :mod:`wsrelay.cli.option_limits` if it is a number, and a field in
:class:`wsrelay.settings.Settings` of the same name, where its range and default are; then ``make reference``. How
options are read is :mod:`wsrelay.tap`'s, how they are shown :mod:`wsrelay.cli.reference`'s.
"""

from typing import Final

from wsrelay.cli.option import GROUPS, Option
from wsrelay.cli.option_limits import LIMITS
from wsrelay.policies import MESSAGE_TYPES, SLOW_POLICIES
from wsrelay.settings import LOG_FORMATS, LOG_LEVELS

__all__ = ["FLAGS", "OPTIONS", "PARAMETERS", "REPEATABLE"]

#: What endpoints can begin with; more come with plugins.
ENDPOINTS: Final = ("tcp:", "tcp6:", "ssl:", "tls:", "unix:", "systemd:", "haproxy:")

_CHOICES: Final = (
    Option(
        "listen",
        "Listening",
        "Where to listen, as a Twisted server endpoint (tcp, tcp6, ssl, tls, unix, systemd, haproxy:...).",
        detail="Any endpoint that Twisted or its plugins know; each of these also behind `haproxy:`. The backlog is"
        " 1024 unless `:backlog=` says otherwise. A port in use: exit 1.",
        kind="repeatable",
        value="ENDPOINT",
        default="tcp:8080:interface=127.0.0.1",
        choices=ENDPOINTS,
    ),
    Option(
        "trusted-proxies",
        "Listening",
        "Proxies whose X-Forwarded-For is believed: an address, a network in CIDR notation, or unix.",
        detail="It is read from right to left; `unix` is whoever connects through a unix socket. From others it is"
        " ignored.",
        kind="repeatable",
        value="NETWORK",
        default="none",
        choices=("unix",),
    ),
    Option(
        "http",
        "Listening",
        "Serve rooms over plain HTTP, too: POST publishes, GET tails or describes.",
        detail="On the same ports, behind the same validators and limits: [plain HTTP](http.md).",
        kind="flag",
    ),
    Option("demo", "Listening", "Serve a page at / that talks to its like: open it in two tabs.", kind="flag"),
    Option(
        "validate",
        "Who comes in",
        "Handshake validator, see --help-validators; asked in this order.",
        detail="What they are and what they take: [Handshake validators](validators.md). `origin:same-host` is asked"
        " first unless another `origin` is given. Who does not pass is refused with the validator's own status.",
        kind="repeatable",
        value="NAME[:ARGUMENTS]",
        default="origin:same-host",
    ),
    Option("help-validators", "Who comes in", "List the installed validators with their arguments.", kind="action"),
    Option("echo", "Messages", "Send messages to their publisher, too.", kind="flag"),
    Option(
        "message-type",
        "Messages",
        "What may be published: any, text or binary; PATTERN=TYPE for some rooms. Other: close 1003.",
        detail="Of several patterns the first that fits counts.",
        kind="repeatable",
        value="TYPE",
        default="any",
        choices=tuple(MESSAGE_TYPES),
    ),
    Option("no-compress", "Messages", "Decline permessage-deflate.", detail="See RFC 7692.", kind="flag"),
    Option(
        "slow-policy",
        "Rooms and slow readers",
        "What becomes of slow subscribers: disconnect, drop-oldest, latest or pause-publishers; PATTERN=POLICY for some"
        " rooms.",
        detail="One for all rooms, and others for those of a pattern, of which the first that fits counts; see"
        " [Slow subscribers](#slow-subscribers).",
        kind="repeatable",
        value="POLICY",
        default="disconnect",
        choices=tuple(SLOW_POLICIES),
    ),
    Option(
        "admin",
        "Observing",
        "Where to serve health, metrics, rooms and connections, as an endpoint (tcp, tcp6, ssl, unix, systemd).",
        detail="It has no password, and is on loopback unless the endpoint names an `interface=`: [the admin"
        " endpoint](admin.md). A port in use: exit 1.",
        value="ENDPOINT",
        default="none",
        choices=("tcp:", "tcp6:", "ssl:", "unix:", "systemd:"),
    ),
    Option(
        "log-format",
        "Observing",
        "How the log is written: text for people, or json.",
        detail="With `json` each line is one object; see [The log](logs.md). Where `twist` was given a `--log-format`"
        " of its own, this one counts.",
        value="FORMAT",
        choices=LOG_FORMATS,
    ),
    Option(
        "log-level",
        "Observing",
        "The least that is logged: debug, info, warn or error.",
        detail="Of the relay and of Twisted. Where `twist` was given a `--log-level` of its own, this one counts.",
        value="LEVEL",
        choices=LOG_LEVELS,
    ),
    Option(
        "config",
        "Process",
        "TOML file with options.",
        detail="Under their names without dashes in front; those that can be repeated are lists.",
        value="FILE",
        default="none",
    ),
    Option(
        "check-config",
        "Process",
        "Print the effective settings, or all that is wrong, and exit.",
        detail="As a file for `--config`, with where each value comes from. Nothing is listened on, but all else that"
        " can be wrong at start is checked: values, endpoints, certificates, validators with their keys.",
        kind="action",
    ),
    Option("version", "Process", "Print the version and exit.", kind="action"),
    Option("help", "Process", "Print this help and exit.", kind="action"),
)

#: All options, as they are shown: by heading.
OPTIONS: Final[tuple[Option, ...]] = tuple(sorted((*_CHOICES, *LIMITS), key=lambda option: GROUPS.index(option.group)))

#: The names of those with a value, of those without one, and of those that can be given more than once; from the
#: environment the latter come as words in shell quoting.
PARAMETERS: Final = tuple(option.name for option in OPTIONS if option.kind == "value")
FLAGS: Final = tuple(option.name for option in OPTIONS if option.kind == "flag")
REPEATABLE: Final = tuple(option.name for option in OPTIONS if option.kind == "repeatable")
