"""The options that are numbers, as rows; :mod:`wsrelay.cli.options` has the others, and all of them."""

from typing import Final

from wsrelay.cli.option import Option

__all__ = ["LIMITS"]

_SLOWED = "it is slowed down, then close 1008"

LIMITS: Final = (
    Option(
        "max-message-bytes",
        "Messages",
        "Largest message, in bytes of payload.",
        beyond="close 1009",
        detail="Inflated, and over all its fragments.",
    ),
    Option("max-fragments", "Messages", "Most frames of one message.", beyond="close 1008"),
    Option(
        "compress-min-bytes",
        "Messages",
        "Shortest payload that is deflated.",
        detail="Shorter ones go out as they are.",
    ),
    Option("max-rooms", "Rooms and slow readers", "Most rooms with anyone in them.", beyond="503"),
    Option("max-room-members", "Rooms and slow readers", "Most connections in one room.", beyond="503"),
    Option(
        "room-log-bytes",
        "Rooms and slow readers",
        "What a room keeps for subscribers that read slowly.",
        beyond="close 1013",
        detail="Counted as plain frames; of what was deflated, up to three deflated copies come on top. At least"
        " `--max-message-bytes` + 256, better several times that: what is published in one turn of the reactor must"
        " fit, or everybody is behind.",
    ),
    Option(
        "slow-seconds",
        "Rooms and slow readers",
        "Time a message may wait for a slow subscriber. 0 is for ever.",
        beyond="close 1013",
        detail="It is that of the oldest message in the room's log that somebody waits for, where the policy is"
        " `disconnect` or `pause-publishers`; with `pause-publishers` it may not be 0.",
    ),
    Option(
        "memory-budget",
        "Rooms and slow readers",
        "Bytes for all that is kept for clients. 0 is no limit.",
        beyond="503, and the slowest are closed with 1013",
        detail="It counts rooms' logs, what waits to be written, messages that are not complete, and 2 KiB for"
        " each connection.",
    ),
    Option(
        "max-frames-per-second",
        "Rates",
        "Most frames of one connection, control frames included. 0 is no limit.",
        beyond=_SLOWED,
        detail="Empty ones count, too. A connection that sends more is not read for a while, so that TCP slows it down,"
        " and is closed after `--rate-grace-seconds` of that.",
    ),
    Option(
        "max-messages-per-second",
        "Rates",
        "Most messages of one connection. 0 is no limit.",
        beyond=_SLOWED,
    ),
    Option(
        "max-bytes-per-second",
        "Rates",
        "Most bytes of one connection. 0 is no limit.",
        beyond=_SLOWED,
        detail="Counted on the wire or inflated, whichever is more.",
    ),
    Option(
        "burst-seconds",
        "Rates",
        "How many seconds' worth of any rate may come at once.",
        detail="It is that of connects as well.",
    ),
    Option(
        "rate-grace-seconds",
        "Rates",
        "How long a connection may be slowed down. 0 is not at all.",
        beyond="close 1008",
        detail="Without having been half a burst below its rates in between.",
    ),
    Option(
        "max-connections",
        "Connections",
        "Most connections. 0 is as many as files may be open.",
        beyond="503",
        detail="Unfinished handshakes are included. As many as files may be open is the hard limit (`ulimit -Hn`), to"
        " which the relay raises its own, less what it needs for itself; the log says at start how many that is.",
    ),
    Option(
        "max-connections-per-address",
        "Connections",
        "Most connections of one IPv4 address or IPv6 /64. 0 is no limit.",
        beyond="429",
        detail="Behind a proxy, name that with `--trusted-proxies`.",
    ),
    Option("max-handshakes", "Connections", "Most unfinished handshakes. 0 is no limit.", beyond="503"),
    Option(
        "max-handshakes-per-address",
        "Connections",
        "Most unfinished handshakes of one address. 0 is no limit.",
        beyond="429",
    ),
    Option("max-connects-per-second", "Connections", "Most new connections. 0 is no limit.", beyond="503"),
    Option(
        "max-connects-per-second-per-address",
        "Connections",
        "Most new connections of one address. 0 is no limit.",
        beyond="429",
    ),
    Option(
        "handshake-seconds",
        "Times",
        "Time for a client to send its request.",
        beyond="408",
        detail="From accept to the whole request.",
    ),
    Option("validate-seconds", "Times", "Time for all validators together.", beyond="504"),
    Option(
        "message-seconds",
        "Times",
        "Time for a message to come to its end. 0 is no limit.",
        beyond="close 1008",
    ),
    Option("ping-seconds", "Times", "Time between pings, and for their pongs. 0 is never.", beyond="close 3008"),
    Option("close-seconds", "Times", "Time for clients to answer a close.", beyond="TCP is aborted"),
    Option(
        "drain-seconds",
        "Times",
        "Time over which SIGTERM spreads its closes. 0 is all at once.",
        detail="So that clients do not all come back at once.",
    ),
    Option(
        "canary-seconds",
        "Observing",
        "Time for the message with which /readyz of the admin endpoint tries the relay out.",
        beyond="/readyz answers 503",
        detail="From the connect to the delivery.",
    ),
)
