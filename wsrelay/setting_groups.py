"""Groups of the fields of :class:`wsrelay.settings.Settings`: observability, several nodes, history, rates.

Must not live here: all other fields, and what is done with fields (:mod:`wsrelay.settings`).
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final

from msgspec import Meta

from wsrelay.option import file_path, one_of, setting
from wsrelay.policies import COUNTS, ByRoom
from wsrelay.ranges import Bytes, CountOrOff, RateOrOff, Seconds, SecondsOrOff

__all__ = ["LOG_FORMATS", "LOG_LEVELS", "History", "Nodes", "Observability", "Rates"]

#: Formats of the log.
LOG_FORMATS: Final = ("text", "json")

#: Levels of the log, lowest first.
LOG_LEVELS: Final = ("debug", "info", "warn", "error")

_PAUSED: Final = "reading is paused, then close 1008"


def node_name(text: str) -> None:
    """Raise ``ValueError`` unless a text is a node's name: it stands in log lines, in ``CLIENT LIST`` and on pages."""
    if not text.isascii() or not text.isprintable() or " " in text or len(text) > 64:
        raise ValueError("write at most 64 letters, digits and signs, without spaces")


@dataclass(frozen=True, kw_only=True)
class Observability:
    """Log, admin endpoint and readiness."""

    admin: str = setting(
        "",
        "Observability",
        "Where to serve health, metrics, rooms and connections: PORT, ADDRESS:PORT or an endpoint (tcp, ssl, ...).",
        detail="Endpoints are tcp, tcp6, ssl, unix and systemd. It has no password, and is on loopback unless an"
        " address or an `interface=` is named; a unix socket is for the relay's own user unless `mode=` says otherwise:"
        " [the admin endpoint](admin.md). If the port is in use, the relay exits with 1.",
        value="ENDPOINT",
        shown_default="none",
        choices=("tcp:", "tcp6:", "ssl:", "unix:", "systemd:"),
    )
    log_file: str = setting(
        "",
        "Observability",
        "File for the log, instead of where twistd or twist would write it.",
        detail="Appended to; opened again by SIGUSR1 and SIGHUP: [The log](logs.md#to-a-file). Overrides `twistd`'s own"
        " `--logfile` and `twist`'s own `--log-file`.",
        value="FILE",
        shown_default="none",
        check=file_path,
    )
    log_file_bytes: CountOrOff = setting(
        100 * 2**20,
        "Observability",
        "Largest log file, in bytes. 0 is no limit.",
        exceeded="rotated: FILE becomes FILE.1, and so on",
    )
    log_files_kept: Annotated[int, Meta(ge=0, le=100)] = setting(
        5,
        "Observability",
        "Most rotated log files. 0 is none: a full file is emptied.",
        exceeded="the oldest is overwritten",
    )
    log_format: str = setting(
        "text",
        "Observability",
        "Format of the log: text for people, or json.",
        detail="With `json` each line is one object; see [The log](logs.md). Overrides `twist`'s own `--log-format`.",
        value="FORMAT",
        choices=LOG_FORMATS,
        check=one_of(LOG_FORMATS),
    )
    log_level: str = setting(
        "info",
        "Observability",
        "Lowest level that is logged: debug, info, warn or error.",
        detail="Of the relay and of Twisted. Overrides `twist`'s own `--log-level`.",
        value="LEVEL",
        choices=LOG_LEVELS,
        check=one_of(LOG_LEVELS),
    )
    canary_seconds: Annotated[float, Meta(gt=0, le=10)] = setting(
        1.0,
        "Observability",
        "Time for the readiness probe behind /readyz of the admin endpoint, from connect to delivery.",
        exceeded="/readyz answers 503",
    )


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """Several relays that share rooms through a broker."""

    backplane: str = setting(
        "",
        "Several nodes",
        "Broker through which several relays share their rooms: the URL of a Redis or Valkey.",
        detail="`redis://HOST:PORT`, `rediss://` (TLS), `redis+unix:///PATH` or `redis+sentinel://HOST,HOST/MASTER`:"
        " [Several nodes](scaling.md). Needs `pip install 'wsrelay[redis]'`. Without it one process has all rooms.",
        value="URL",
        shown_default="none",
        choices=("redis://", "rediss://", "redis+unix://", "redis+sentinel://", "rediss+sentinel://"),
    )
    backplane_password_file: str = setting(
        "",
        "Several nodes",
        "File with the broker's password in its first line.",
        detail="A password in the URL is refused: other users of the machine can read it in the list of processes.",
        value="FILE",
        shown_default="none",
        check=file_path,
    )
    backplane_grace_seconds: Seconds = setting(
        15.0,
        "Several nodes",
        "Time without a broker in which clients only wait.",
        exceeded="close 1013, then 503 for new ones",
    )
    backplane_pending_bytes: Bytes = setting(
        8 * 2**20,
        "Several nodes",
        "Bytes of messages on their way to the broker and back.",
        exceeded="reading is paused; 503 for POST",
        detail="A connection that publishes is paused at three quarters of it, until a quarter is left; one message may"
        " be larger.",
    )
    backplane_log_bytes: Bytes = setting(
        64 * 2**20,
        "Several nodes",
        "Bytes of messages that the broker keeps for nodes that are behind.",
        exceeded="nodes that are further behind apply the slow policy of their rooms",
        detail="Of each shard. Give all nodes the same; the smallest counts. At least `--max-message-bytes`.",
    )
    node_name: str = setting(
        "",
        "Several nodes",
        "Name of this relay in the list of nodes, in answers about rooms, and in the broker's list of clients.",
        value="NAME",
        shown_default="the host's name",
        check=node_name,
    )


@dataclass(frozen=True, kw_only=True)
class History:
    """Messages that rooms keep for clients that come later."""

    history: tuple[str, ...] = setting(
        (),
        "History",
        "Most messages that a room keeps for clients that join or return later; PATTERN=COUNT for some rooms.",
        detail="From 0 to 1000000; older ones are forgotten. The first pattern that matches counts. Clients ask with"
        " `since=ID` or `last=N` in the query: [Clients](clients.md).",
        value="COUNT",
        shown_default="0",
        check=partial(ByRoom, choices=COUNTS),
    )
    greet: tuple[str, ...] = setting(
        (),
        "History",
        "Most old messages that a new subscriber gets unasked; PATTERN=COUNT for some rooms.",
        detail="From 0 to 1000000. The first pattern that matches counts. A room keeps the larger number of this and"
        " `--history`; with 1 it is a last-value room. A client that sends `since` or `last` gets what it asks for.",
        value="COUNT",
        shown_default="0",
        check=partial(ByRoom, choices=COUNTS),
    )
    history_seconds: SecondsOrOff = setting(
        300.0,
        "History",
        "Time that a message is kept. 0 is no limit.",
        exceeded="it is forgotten",
        detail="A room without members is kept as long as its newest message. With `--backplane` the broker keeps"
        " the messages at least as long, but with 0 only up to `--backplane-log-bytes`.",
    )
    history_bytes: Bytes = setting(
        2**20,
        "History",
        "Bytes of kept messages of one room.",
        exceeded="the oldest are forgotten",
        detail="Counted as plain frames, and part of `--room-log-bytes`: at most half of it. A larger message is not"
        " kept.",
    )
    history_total_bytes: CountOrOff = setting(
        0,
        "History",
        "Bytes of kept messages of all rooms without members, with 2 KiB for each. 0 is a quarter of --memory-budget.",
        exceeded="the rooms that are idle for longest are forgotten",
        detail="Without a budget, 0 is 128 MiB. Such rooms also give way to new ones at `--max-rooms`, and when memory"
        " is short they are forgotten before any client is closed.",
    )


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What a connection may send per second."""

    max_frames_per_second: RateOrOff = setting(
        10_000.0,
        "Rate limits",
        "Most frames per second of one connection, control frames included. 0 is no limit.",
        exceeded=_PAUSED,
        detail="Empty frames count, too. Beyond the rate the connection is not read for a while, so that TCP slows the"
        " client down; after `--rate-grace-seconds` of that it is closed.",
    )
    max_control_frames_per_second: RateOrOff = setting(
        100.0,
        "Rate limits",
        "Most pings and unasked pongs per second of one connection. 0 is no limit.",
        exceeded=_PAUSED,
        detail="Each takes as long as about fifty short messages.",
    )
    max_messages_per_second: RateOrOff = setting(
        5_000.0, "Rate limits", "Most messages per second of one connection. 0 is no limit.", exceeded=_PAUSED
    )
    max_bytes_per_second: CountOrOff = setting(
        32 * 2**20,
        "Rate limits",
        "Most bytes per second of one connection. 0 is no limit.",
        exceeded=_PAUSED,
        detail="On the wire or inflated, whichever is more.",
    )
    address_rate_factor: RateOrOff = setting(
        5.0,
        "Rate limits",
        "Rates of all connections of one address together, in times of those of one. 0 is no limit.",
        exceeded="reading is paused; 429 for POST",
        detail="Four times as much for an IPv6 /56, 16 times for a /48.",
    )
    burst_seconds: Seconds = setting(
        5.0,
        "Rate limits",
        "Burst that each rate limit allows, in seconds' worth of its rate.",
        exceeded="as for the rate",
        detail="Also for new connections. Of one connection, at most what fills a room's log.",
    )
    rate_grace_seconds: SecondsOrOff = setting(
        30.0,
        "Rate limits",
        "Time a connection may exceed its rates. 0 is not at all.",
        exceeded="close 1008",
        detail="The time ends when the connection is half a burst below its rates.",
    )
