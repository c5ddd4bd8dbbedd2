"""The options: what each means, as ``--help`` says it. Ranges and defaults are the Settings'.

A new option is a row in one of the tables, a field in :class:`wsrelay.settings.Settings` of the same name, and a row in
docs/options.md. How they are read is :mod:`wsrelay.tap`'s.
"""

from typing import Final

__all__ = ["FLAGS", "PARAMETERS", "REPEATABLE"]

#: Options with a value; the default is added to the text.
PARAMETERS: Final = {
    "compress-min-bytes": "Shortest payload that is deflated.",
    "max-message-bytes": "Largest message, in bytes of payload. Larger: close 1009.",
    "max-fragments": "Most frames of one message. More: close 1008.",
    "max-frames-per-second": "Most frames of one connection, control frames included. More: it waits, then close 1008.",
    "max-messages-per-second": "Most messages of one connection. More: it waits, then close 1008.",
    "max-bytes-per-second": "Most bytes of one connection. More: it waits, then close 1008.",
    "burst-seconds": "How many seconds' worth of any rate may come at once.",
    "rate-grace-seconds": "How long a connection may be slowed down. Longer: close 1008.",
    "message-seconds": "Time for a message to come to its end. Longer: close 1008. 0 is no limit.",
    "max-connections": "Most connections. More: 503. 0 is as many as files may be open.",
    "max-connections-per-address": "Most connections of one IPv4 address or IPv6 /64. More: 429. 0 is no limit.",
    "max-handshakes": "Most unfinished handshakes. More: 503. 0 is no limit.",
    "max-handshakes-per-address": "Most unfinished handshakes of one address. More: 429. 0 is no limit.",
    "max-connects-per-second": "Most new connections. More: 503. 0 is no limit.",
    "max-connects-per-second-per-address": "Most new connections of one address. More: 429. 0 is no limit.",
    "max-rooms": "Most rooms with anyone in them. More: 503.",
    "max-room-members": "Most connections in one room. More: 503.",
    "memory-budget": "Bytes for all that is kept for clients. More: 503, and the slowest are closed. 0 is no limit.",
    "room-log-bytes": "What a room keeps for subscribers that read slowly. Further behind: close 1013.",
    "slow-seconds": "Time a message may wait for a slow subscriber. Longer: close 1013. 0 is for ever.",
    "handshake-seconds": "Time for a client to send its request. Longer: 408.",
    "validate-seconds": "Time for all validators together. Longer: 504.",
    "close-seconds": "Time for clients to answer a close.",
    "drain-seconds": "Time over which SIGTERM spreads its closes. 0 is all at once.",
    "ping-seconds": "Time between pings, and for their pongs. Longer: close 3008. 0 is never.",
}

#: Options without one.
FLAGS: Final = {
    "echo": "Send messages to their publisher, too.",
    "http": "Serve rooms over plain HTTP, too: POST publishes, GET tails (text/event-stream) or describes (JSON).",
    "demo": "Serve a page at / that talks: open it in two tabs.",
    "no-compress": "Decline permessage-deflate.",
}

#: Options that can be given more than once; from the environment, as words in shell quoting.
REPEATABLE: Final = {
    "listen": "Where to listen, as a Twisted server endpoint string (tcp, tcp6, ssl, tls, unix, systemd, haproxy:...)."
    " [default: tcp:8080:interface=127.0.0.1]",
    "validate": "Handshake validator, NAME[:ARGUMENTS], see --help-validators; asked in this order."
    " [default: origin:same-host]",
    "message-type": "What may be published: any, text or binary; PATTERN=TYPE for some rooms. Other: close 1003."
    " [default: any]",
    "trusted-proxies": "Proxies whose X-Forwarded-For is believed: an address, a network in CIDR notation, or unix.",
    "slow-policy": "What becomes of slow subscribers: disconnect, drop-oldest, latest or pause-publishers;"
    " PATTERN=POLICY for some rooms. [default: disconnect]",
}
