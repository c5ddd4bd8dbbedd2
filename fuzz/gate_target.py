"""Arbitrary bytes, cut anywhere, as an opening handshake on a connection in memory.

Invariants:

* the status is 101 or documented; for an incomplete request it is 408, after the timeout
* an accepted request that wants no WebSocket gets 426
* a response is well-formed, and nothing follows it
* accepted requests mean the same to all parsers: CRLF line ends, names are tokens, no field twice but lists, no body;
  values have the same bytes and no other spaces than were sent
* cuts do not change the response
* CPU time is linear in the size
* no failure is logged; no connection, room or delayed call is left
"""

import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import inputs
import memory
import seeds
from hypothesis import strategies as st
from target import Target

from tests.harness.support import MAX_REQUEST_BYTES, REQUEST_FIELDS, request_bytes
from wsrelay.http.fields import MAX_FIELDS
from wsrelay.names import canonical_room

CLOSE_CODES = Path(__file__).resolve().parent.parent / "docs" / "closecodes.md"

END = b"\r\n\r\n"

#: RFC 9110 section 5.6.2.
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

#: Fields that other parsers join, too; any other one may occur once.
JOINED = {
    *("accept", "accept-encoding", "accept-language", "cache-control", "connection", "cookie", "forwarded", "pragma"),
    *("sec-websocket-extensions", "sec-websocket-protocol", "upgrade", "via", "x-forwarded-for"),
}

#: Fields used for decisions: ASCII only.
ASCII = {"authorization", "content-length", "forwarded", "host", "origin", "transfer-encoding", "upgrade", "connection"}

#: CPU time of one input: far above linear time for 16 KiB, far below quadratic time.
CPU_SECONDS = 0.5


def documented_statuses() -> set[int]:
    """Return the documented statuses, except 500, which is a bug."""
    rows = re.findall(r"^\| ([0-9, ]+) \| [^|]*[a-z]", CLOSE_CODES.read_text(encoding="utf-8"), re.MULTILINE)
    found = {int(status) for row in rows for status in row.split(",")}
    return {status for status in found if 400 <= status < 600} - {500}


STATUSES = documented_statuses()


def request_of(case: inputs.Input) -> bytes:
    """Return the request of an input."""
    least = request_bytes()
    if case.flags % 4 == seeds.FIELDS:
        return least[:-2] + case.stream + b"\r\n"
    if case.flags % 4 == seeds.TARGET:
        return least.replace(b"/room", case.stream, 1)
    if case.flags % 4 == seeds.BEHIND:
        return least + case.stream
    return case.stream


def check(octets: bytes) -> None:
    """Send an input in one read and in several."""
    case = inputs.decode(octets)
    request = request_of(case)
    began = time.process_time()
    whole, accepted = send([request])
    spent = time.process_time() - began
    assert spent < CPU_SECONDS, f"{len(request)} bytes took {spent:.1f} s"
    judge_response(whole, is_head=request.startswith(b"HEAD "))
    end = request.find(END)
    if accepted is not None:
        assert whole.startswith(b"HTTP/1.1 101 " if accepted.wants_websocket else b"HTTP/1.1 426 "), whole
        # What comes behind another request than a handshake is discarded: its answer ends the connection.
        judge_request(request if accepted.wants_websocket else request[: end + len(END)], accepted)
    if end < 0 or end + len(END) == len(request):  # bytes after a response are not a request
        cut, _ = send(case.chunks(request))
        assert cut == whole, f"in one piece {whole!r}, cut {cut!r}"


def send(chunks: list[bytes]) -> tuple[bytes, Any]:
    """Send a request, and return the response and the accepted request or None."""
    asked: list[Any] = []

    class Everybody:
        """Accepts all handshakes."""

        def validate(self, request: Any, grant: Any) -> Any:
            """Remember the request."""
            asked.append(request)
            return grant

    with memory.relay([Everybody()]) as running:
        wire = running.wire()
        response = b"".join([wire.send(chunk) for chunk in chunks])
        if not response:
            running.wait(memory.OVERDUE_SECONDS)
            response = wire.send(b"")
            assert response.startswith(b"HTTP/1.1 408 "), f"an unfinished request was answered with {response!r}"
        opened = response.startswith(b"HTTP/1.1 101 ")
        assert opened != wire.ended, "a refused connection has not ended, or an accepted one has"
        assert len(asked) <= 1, "the validators were asked twice"
        if opened:
            assert list(running.factory.hub) == [asked[0].room], "in another room than the validators saw"
        wire.hang_up()
    return response, asked[0] if asked else None


def judge_response(response: bytes, *, is_head: bool = False) -> None:
    """Check that a response is complete and well-formed; for HEAD without content."""
    head, end, body = response.partition(END)
    line, *fields = head.split(b"\r\n")
    status = int(re.fullmatch(rb"HTTP/1\.1 (\d{3}) [\x20-\x7e]+", line)[1])  # type: ignore[index]  # None is a find
    assert end and not re.search(rb"[^\t\x20-\x7e]", b"".join(fields)), response
    if status == 101:
        assert not body, response
        return
    assert status in STATUSES, f"{status} is not documented"
    values = dict(field.split(b": ", 1) for field in fields)
    assert not body if is_head else int(values[b"Content-Length"]) == len(body), response
    assert values[b"Connection"] == b"close", response


def judge_request(sent: bytes, request: Any) -> None:
    """Check that other parsers read the accepted request alike."""
    head, end, behind = sent.partition(END)
    assert end and not behind, "something was accepted that is not one request"
    lines = head.split(b"\r\n")
    assert len(sent) <= MAX_REQUEST_BYTES and len(lines) <= MAX_FIELDS + 1, "a request beyond the limits was accepted"
    # Line ends of Autobahn, Daphne and others (TRAPS 10), but for bytes above 0x7f, which are none in what we read.
    ascii_lines = [line.decode("ascii", "ignore") for line in lines]
    assert "\r\n".join(ascii_lines).splitlines() == ascii_lines, "lines end elsewhere, too"
    assert not re.search(rb"[^\t\r\n\x20-\x7e\x80-\xff]", head) and lines[0].isascii(), "octets that no request has"
    judge_fields([line.partition(b":") for line in lines[1:]], request.headers)
    assert request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers, "a body"
    judge_target(lines[0], request)


def judge_fields(lines: list[tuple[bytes, bytes, bytes]], headers: Any) -> None:
    """Check that fields are read as by other parsers: once, or joined, with the same bytes."""
    sent: dict[str, list[bytes]] = {}
    for name, _, value in lines:
        assert TOKEN.fullmatch(name), f"a name that is none: {name!r}"
        sent.setdefault(name.decode().lower(), []).append(value.strip(b" \t"))
    assert headers.keys() == sent.keys(), f"sent {sorted(sent)}, read {sorted(headers)}"
    for name, values in sent.items():
        assert len(values) == 1 or name in JOINED, f"more than once: {name}"
        read = headers[name]
        octets = bytes([ord(character) & 0xFF for character in read])
        assert octets == (b"; " if name == "cookie" else b", ").join(values), f"{values} was read as {read!r}"
        assert read.isascii() or name not in ASCII, f"not ASCII: {name}"
        pieces = [piece.encode() for piece in read.split()]
        assert b"".join(pieces) == re.sub(rb"[ \t]", b"", read.encode()), f"other spaces in {read!r}"
        assert len(read.splitlines()) <= 1, f"more lines in {read!r}"


def judge_target(line: bytes, request: Any) -> None:
    """Check that the room is the path, decoded exactly once."""
    method, target, version = line.decode().split(" ")
    assert (method in ("GET", "HEAD"), version) == (True, "HTTP/1.1"), line
    if not target.startswith("/"):
        url = urlsplit(target)
        assert url.scheme in ("http", "https", "ws", "wss") and url.username is None, target
        assert url.hostname == urlsplit(f"//{request.host}").hostname, f"{target} for {request.host}"
        target = target[target.index(url.netloc) + len(url.netloc) :]
        target = target if target.startswith("/") else f"/{target}"
    assert request.room == canonical_room(target.partition("?")[0]), target
    assert canonical_room(quote(request.path)) == request.room, f"{request.path!r} is not canonical"
    assert not re.search(r"[\x00-\x1f\x7f]", request.room), f"{request.room!r} has control characters"
    assert not {"", ".", ".."} & set(request.room.split("/")) or request.room == "/", request.room


_NAMES = st.sampled_from([*REQUEST_FIELDS, "Origin", "X-User", "Content-Length", "Transfer-Encoding", *sorted(JOINED)])
_ENDS = st.sampled_from([b"\r\n"] * 6 + [b"\n", b"\r", b"\r\n ", b"\x85", b"\x0b", b"\x1c", b""])
_LINES = st.builds(
    lambda name, colon, value, end: name.encode() + colon + value + end,
    _NAMES | st.text("aA-_ :\0", max_size=5),
    st.sampled_from([b": "] * 4 + [b":", b" :", b""]),
    st.binary(max_size=12) | st.sampled_from([b"13", b"websocket", b"0", b"chunked", b"x" * 300]),
    _ENDS,
)
_STREAMS = st.one_of(
    st.lists(_LINES, max_size=110).map(b"".join),
    st.sampled_from(sorted(seeds.REQUESTS.values())),
    st.text("/%.aZ0?&=#;: \u00e9\ud7ff", max_size=40).map(str.encode),
    st.text("/%.aZ0?&=@:", max_size=20).map(lambda rest: f"ws://relay.example{rest}".encode()),
    st.binary(max_size=60),
)

TARGET = Target(
    name="gate",
    title="handshakes get documented responses, without smuggling",
    check=check,
    inputs=inputs.strategy(_STREAMS, (seeds.WHOLE, seeds.FIELDS, seeds.TARGET, seeds.BEHIND)),
    seeds=seeds.gate(),
    words=[
        b"\r\n",
        END,
        b"GET ",
        b" HTTP/1.1",
        b"Host: ",
        b"Upgrade: websocket",
        b"Connection: ",
        b"Sec-WebSocket-Key: ",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Protocol: ",
        b"Sec-WebSocket-Extensions: permessage-deflate",
        b"Origin: ",
        b"ws://relay.example",
        b"Sec-WebSocket-Protocol: a,,\r\nSec-WebSocket-Protocol: ,b\r\n",
        b"Cookie: ",
        b"X-Forwarded-For: ",
        b"Content-Length: ",
        b"Transfer-Encoding: chunked",
        b"%2f",
        b"%00",
        b"%c3%a9",
        b"..",
        b"base64url.bearer.",
        b"\x85",
        b"\x0b",
        b"\x1c",
    ],
    max_bytes=18_000,
)
