"""Seeds of all runs: requests and frames of real clients, and inputs that broke other servers.

A seed is one line here. New inputs go to ``fuzz/.corpus``, which git ignores.
"""

from collections.abc import Mapping

import inputs

from tests.harness.framing import deflated, fragmented, wire_frame
from tests.harness.support import request_bytes

#: Flags of :mod:`gate_target`: the input is a whole request, or the fields, target or body of a valid one.
WHOLE, FIELDS, TARGET, BEHIND = range(4)

#: Flags of :mod:`frames_target` and :mod:`connection_target`.
PLAIN, DEFLATE = range(2)

_CHROMIUM = {
    "Host": "127.0.0.1:8080",
    "Connection": "Upgrade",
    "Pragma": "no-cache",
    "Cache-Control": "no-cache",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0",
    "Upgrade": "websocket",
    "Origin": "http://127.0.0.1:8080",
    "Sec-WebSocket-Version": "13",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-US,en;q=0.9",
    "Cookie": "session=3f2a; theme=dark",
    "Sec-WebSocket-Key": "q4xkcO32u266gldTuKaSOw==",
    "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits",
    "Sec-WebSocket-Protocol": "chat, base64url.bearer.authorization.k8s.io.QUJD",
}
_FIREFOX = {
    "Accept": "*/*",
    "Connection": "keep-alive, Upgrade",
    "Sec-Fetch-Mode": "websocket",
    "Sec-WebSocket-Extensions": "permessage-deflate",
}
_NGINX = {"X-Forwarded-For": "203.0.113.7", "X-Real-IP": "203.0.113.7", "Connection": "upgrade"}

#: Name → request; all get a response, most are refused.
REQUESTS: Mapping[str, bytes] = {
    "least": request_bytes(),
    "chromium": request_bytes("/chat/42?token=a.b.c", _CHROMIUM),
    "firefox": request_bytes(fields=_FIREFOX),
    "nginx": request_bytes(fields=_NGINX),
    "haproxy-http10": b"OPTIONS / HTTP/1.0\r\n\r\n",
    "curl": b"GET /room HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n",
    "h2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls-hello": bytes.fromhex("1603010200010001fc0303"),
    "post": request_bytes(line="POST /room HTTP/1.1", fields={"Content-Length": "5"}) + b"hello",
    "head": request_bytes(line="HEAD /room HTTP/1.1"),
    "put": request_bytes(line="PUT /room HTTP/1.1"),
    "non-ascii-room": request_bytes("/caf%C3%A9/%F0%9F%99%82"),
    "dots": request_bytes("/a/../admin"),
    "encoded-slash": request_bytes("/a%2Fb%00%0d%0aX:1"),
    "absolute-form": request_bytes("http://relay.example/room"),
    "absolute-form-without-path": request_bytes("wss://relay.example:443?a=b"),
    "absolute-form-of-another-host": request_bytes("http://evil.example/room"),
    "absolute-form-of-a-user": request_bytes("http://relay.example@evil.example/room"),
    "fragment": request_bytes("/room#admin"),
    "silent": b"",
    "old-version": request_bytes(fields={"Sec-WebSocket-Version": "8"}),
    "two-requests": request_bytes("/public") + request_bytes("/admin"),
    "a-frame-behind": request_bytes() + wire_frame(0x81, b"early"),
    "two-long-cookies": request_bytes(fields={"Cookie": "x" * 4096, "cookie": "y" * 4096}),
    "large": request_bytes(fields={"Cookie": "x" * 16400}),
    "many-lines": request_bytes(fields={f"X-{number}": "1" for number in range(100)}),
    "no-line-ends": b"G" * 17000,
}

#: Name → field lines for a valid request.
FIELD_LINES: Mapping[str, bytes] = {
    "nel": b"X-A: 1\x85X-User: admin\r\n",  # CVE-2026-44546 (Daphne): str.splitlines
    "vertical-tab": b"X-A: 1\x0bX-User: admin\r\n",
    "file-separator": b"X-A: 1\x1cX-User: admin\r\n",
    "bare-cr": b"X-A: 1\rX-User: admin\r\n",
    "bare-lf": b"X-A: 1\nX-User: admin\r\n",
    "folded": b"X-A: 1\r\n X-User: admin\r\n",
    "space-before-colon": b"X-User : admin\r\n",
    "no-name": b": admin\r\n",
    "nul": b"X-A: 1\x00\r\n",
    "latin-1": b"X-A: caf\xe9\r\n",  # Granian: a worker ended
    "cookie-in-utf-8": "Cookie: name=José\r\n".encode(),
    "host-in-latin-1": b"Host: relay.example\xa0\r\n",
    "lists-in-lines": b"Sec-WebSocket-Protocol: a,\r\nSec-WebSocket-Protocol: ,b\r\nVia: 1.1 a\r\nvia: 1.1 b\r\n",
    "two-hosts": b"Host: evil.example\r\n",  # CVE-2022-39348 (Twisted)
    "two-origins": b"Origin: https://a.example\r\nOrigin: https://evil.example\r\n",
    "two-cookies": b"Cookie: a=1\r\nCookie: b=2\r\n",
    "body": b"Content-Length: 10\r\n",  # CVE-2026-69243 (aiohttp): upgrade with a body
    "chunked": b"Transfer-Encoding: chunked\r\n",
    "underscore": b"X_User: admin\r\n",  # CVE-2015-0219 (Django)
    "extensions": b"Sec-WebSocket-Extensions: " + b"permessage-deflate; " * 40 + b"\r\n",  # CVE-2020-7662
    "extension-quotes": b'Sec-WebSocket-Extensions: permessage-deflate; a="\\"\r\n',
    "windows": b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8\r\n",
    "subprotocols": b"Sec-WebSocket-Protocol: a,a\r\n",  # CVE-2021-32640 (ws): a slow pattern
    "forwarded": b"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\n",
}

#: Name → request target.
TARGETS: Mapping[str, bytes] = {
    "root": b"/",
    "deep": b"/a/b/c?x=1&y=2",
    "percent": b"/%41%zz",
    "utf-8": b"/%c0%af",
    "query": b"/r?%ff=1",
    "long": b"/" + b"a" * 300,
}

#: Name → bytes on an open connection, by section of the Autobahn testsuite.
STREAMS: Mapping[str, bytes] = {
    "1-text": wire_frame(0x81, b"hello"),
    "1-binary-125-126": wire_frame(0x82, bytes(125)) + wire_frame(0x82, bytes(126)),
    "1-64-bits": wire_frame(0x82, bytes(200), length_bits=64),
    "2-ping": wire_frame(0x89, b"are you there") + wire_frame(0x81, b"x"),
    "2-ping-126": wire_frame(0x89, bytes(126)),
    "2-pongs": wire_frame(0x8A, b"") * 3,
    "3-reserved": wire_frame(0xF1, b"x"),
    "4-opcode": wire_frame(0x81, b"a") + wire_frame(0x83, b"x"),
    "4-control-opcode": wire_frame(0x8B, b""),
    "5-fragments": fragmented(1, [b"a", b"b", b"c"]),
    "5-too-many": fragmented(2, [b""] * 4),
    "5-ping-between": wire_frame(0x01, b"a") + wire_frame(0x89, b"p") + wire_frame(0x80, b"b"),
    "5-continues-nothing": wire_frame(0x80, b"x"),
    "5-fragmented-ping": wire_frame(0x09, b"x"),
    "5-two-at-once": wire_frame(0x01, b"a") + wire_frame(0x81, b"b"),
    "6-cut-character": fragmented(1, ["é".encode()[:1], "é".encode()[1:]]),
    "6-surrogate": wire_frame(0x81, b"\xed\xa0\x80"),
    "6-unfinished": wire_frame(0x81, b"\xe2\x82"),
    "7-close": wire_frame(0x88, b"\x03\xe8bye") + wire_frame(0x81, b"after"),
    "7-close-empty": wire_frame(0x88, b""),
    "7-close-1": wire_frame(0x88, b"\x03"),
    "7-close-1005": wire_frame(0x88, b"\x03\xed"),
    "7-close-1014": wire_frame(0x88, b"\x03\xf6"),
    "7-close-reason": wire_frame(0x88, b"\x03\xe8\xff"),
    "6-text-by-width": b"".join(wire_frame(0x81, (width * 40).encode()) for width in ("x", "é", "€", "🙂")),
    "9-limit": wire_frame(0x82, bytes(4500)),
    "9-beyond": wire_frame(0x82, bytes(4501)),
    "9-declared": b"\x82\xff\x7f" + b"\xff" * 7 + bytes(4) + b"x" * 20,  # CVE-2020-13935, CVE-2020-27813
    "9-declared-negative": b"\x82\xff" + b"\xff" * 8 + bytes(4),
    "9-ping-declared": b"\x89\xff" + (2**40).to_bytes(8) + bytes(4) + b"x" * 20,  # TRAPS 49
    "unmasked": wire_frame(0x81, b"hello", None),
}

#: The same, deflated.
DEFLATED_STREAMS: Mapping[str, bytes] = {
    "12-text": wire_frame(0xC1, deflated(b"hello hello hello")),
    "12-empty": wire_frame(0xC1, b"\0"),
    "12-final-block": wire_frame(0xC1, deflated(b"hello", final=True)) + wire_frame(0x81, b"x"),
    "12-fragments": fragmented(0x41, [deflated(b"hello")[:3], deflated(b"hello")[3:]]),
    "12-stored": wire_frame(0xC2, b"\x00\x05\x00\xfa\xffhello\x00"),
    "12-corrupt": wire_frame(0xC1, b"\xff\xff\xff"),
    "12-limit": wire_frame(0xC2, deflated(bytes(4500))),
    "12-bomb": wire_frame(0xC2, deflated(bytes(200_000))),  # CVE-2016-10544, CVE-2018-1000518
    "12-not-utf8": wire_frame(0xC1, deflated(b"\xff")),
    "12-plain": wire_frame(0x81, b"plain") + wire_frame(0xC1, deflated(b"not")),
    "12-ping": wire_frame(0xC9, b"x"),
    "12-continuation": wire_frame(0x41, b"\0") + wire_frame(0xC0, b"\0"),
}


def gate() -> dict[str, bytes]:
    """Return the seeds of the gate."""
    seeds = {name: inputs.encode(WHOLE, request) for name, request in REQUESTS.items()}
    seeds |= {f"field-{name}": inputs.encode(FIELDS, lines, [40]) for name, lines in FIELD_LINES.items()}
    return seeds | {f"target-{name}": inputs.encode(TARGET, target) for name, target in TARGETS.items()}


def open_connection() -> dict[str, bytes]:
    """Return the seeds of open connections, with and without deflate, whole and cut."""
    return {
        f"{name}-{flags}-{len(cuts)}": inputs.encode(flags, stream, cuts)
        for flags, streams in ((PLAIN, STREAMS), (DEFLATE, STREAMS | DEFLATED_STREAMS))
        for name, stream in streams.items()
        for cuts in ((), (1, 4, 7))
    }


def parsers() -> dict[str, bytes]:
    """Return the seeds of :mod:`native_target`: open connections, for messages of both types, and with low limits."""
    return {
        f"{name}-{flags}-{len(cuts)}": inputs.encode(flags, stream, cuts)
        for flags in (3, 3 | 1 << 2, 3 | 1 << 4)
        for name, stream in STREAMS.items()
        for cuts in ((), (1, 4, 7))
    }
