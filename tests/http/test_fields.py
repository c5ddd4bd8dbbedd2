"""Tests of wsrelay.http.fields: one value for each field, with the same pieces as in every other parser."""

import json
import re
import unicodedata

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.strategies import field_values
from wsrelay.errors import Denied
from wsrelay.http.fields import JOINED, MAX_FIELDS, parse_fields
from wsrelay.request import field_bytes, members


def block(*lines: bytes) -> bytes:
    """Return lines as they stand behind a request line."""
    return b"".join([b"\r\n" + line for line in lines])


class FieldsTestCase(SynchronousTestCase):
    """A test case with refusals."""

    def refused(self, *lines: bytes) -> tuple[int, str]:
        """Return the status and reason of the refusal of some lines."""
        denied = self.assertRaises(Denied, parse_fields, block(*lines), 0)
        return denied.status, denied.reason


class ParseFieldsTests(FieldsTestCase):
    """From lines to values."""

    def test_start(self) -> None:
        """Parsing begins behind the request line; a request without fields has none."""
        self.assertEqual(parse_fields(b"line\r\nA: b", 4), {"a": "b"})
        self.assertEqual(parse_fields(b"line", 4), {})

    def test_malformed(self) -> None:
        """A line that parsers may read differently is refused, beside bytes above 0x7f, too."""
        for line in (
            b" folded",
            b"\tfolded",
            b"A : b",
            b"A",
            b": b",
            b"A\xe9: b",
            b"A: \x01",
            b"A: \x7f",
            b"A: b\rB: c",
        ):
            for others in ((), (b"X-B: \xe9",)):
                self.assertEqual(self.refused(*others, line), (400, "a header line is malformed"), line)

    def test_most_fields(self) -> None:
        """The limit of fields is exact, equal or different."""
        different = [b"X-%d: a" % number for number in range(MAX_FIELDS + 1)]
        self.assertEqual(len(parse_fields(block(*different[:-1]), 0)), MAX_FIELDS)
        self.assertEqual(parse_fields(block(*[b"Via: a"] * MAX_FIELDS), 0)["via"].count("a"), MAX_FIELDS)
        for lines in (different, [b"Via: a"] * (MAX_FIELDS + 1)):
            self.assertEqual(self.refused(*lines), (431, f"the request has more than {MAX_FIELDS} header fields"))


class RepeatedFieldTests(FieldsTestCase):
    """A field in several lines."""

    def test_joined(self) -> None:
        """Each field of the table is joined in the order of its lines, in any case, beside bytes above 0x7f, too."""
        for name, joiner in JOINED.items():
            lines = [f"{name}: a".encode(), f"{name.upper()}: b".encode(), f"{name}: c".encode()]
            joined = joiner.join("abc")
            self.assertEqual(parse_fields(block(lines[0], b"X-A: a", *lines[1:]), 0), {name: joined, "x-a": "a"})
            self.assertEqual(parse_fields(block(*lines, b"X-A: \xe9"), 0)[name], joined)

    def test_joined_is_one_line(self) -> None:
        """Several lines of a list have the members of one line, also if some are empty."""
        for values in (("", "a"), ("a", ""), (",", " a ,"), ("a,b", "", "c")):
            several = parse_fields(block(*[f"Sec-WebSocket-Protocol: {value}".encode() for value in values]), 0)
            one = parse_fields(block(f"Sec-WebSocket-Protocol: {','.join(values)}".encode()), 0)
            self.assertEqual(*[members(fields["sec-websocket-protocol"]) for fields in (several, one)])

    def test_known_lists(self) -> None:
        """Fields that clients, HTTP/2, tracing and proxies repeat are in the table; cookies are joined by "; "."""
        for name in (
            *("sec-websocket-protocol", "sec-websocket-extensions", "upgrade", "connection", "cookie", "tracestate"),
            *("baggage", "forwarded", "cdn-loop", "via", "x-request-id", "x-forwarded-proto", "x-forwarded-for"),
            *("accept", "accept-encoding", "accept-language", "cache-control", "pragma", "te", "if-none-match"),
        ):
            self.assertEqual(JOINED[name], "; " if name == "cookie" else ", ", name)

    def test_not_repeatable(self) -> None:
        """Any other field is refused when it is repeated, equal or not; the reason names it as it was written."""
        for name in (
            *("Host", "Origin", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Authorization", "Proxy-Authorization"),
            *("Content-Length", "Transfer-Encoding", "Content-Type", "Content-Encoding", "Date", "User-Agent"),
            *("X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Host", "X-Forwarded-Client-Cert", "X-User"),
            *("X-Auth-Request-User", "Remote-User", "X-Real-IP", "CF-Connecting-IP", "True-Client-IP", "Client-Cert"),
            *(
                "Signature",
                "traceparent",
                "Sec-Fetch-Site",
                "Wsrelay-Except",
                "Access-Control-Request-Method",
                "unknown",
            ),
        ):
            for first, second in (("a", "b"), ("a", "a"), ("", "a"), ("a", "")):
                lines = f"{name.swapcase()}: {first}".encode(), f"{name}: {second}".encode()
                self.assertEqual(self.refused(*lines), (400, f"the field {name} comes more than once"))

    def test_long_name(self) -> None:
        """A long name is cut in the reason."""
        line = b"x" * 1000 + b": a"
        self.assertEqual(self.refused(line, line)[1], f"the field {'x' * 32} comes more than once")


class OpaqueBytesTests(FieldsTestCase):
    """Bytes above 0x7f in values (obs-text of RFC 9110 section 5.5)."""

    def test_accepted(self) -> None:
        """Cookies of browsers, fields of CDNs and of auth proxies pass in any character set; the bytes can be read."""
        for name in ("Cookie", "cf-ipcity", "X-Auth-User", "User-Agent", "Referer", "X-Auth-Request-Groups"):
            for value in (
                "name=José".encode(),
                "São Paulo".encode("latin-1"),
                "東京".encode("euc-jp"),
                b"\x85\xa0\xff",
            ):
                parsed = parse_fields(block(b"%s: \t%s " % (name.encode(), value)), 0)[name.lower()]
                self.assertEqual(field_bytes(parsed), value)

    def test_ascii_only(self) -> None:
        """Fields that decide access, addresses or framing take ASCII only; the reason names the field and the fault."""
        for name in (
            *("Host", "Origin", "Authorization", "Proxy-Authorization", "Upgrade", "Connection", "Content-Length"),
            *("Content-Encoding", "Content-Type", "Transfer-Encoding", "TE", "Trailer", "Expect", "Forwarded"),
            *("Sec-WebSocket-Key", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Sec-WebSocket-Version"),
            *("Sec-Fetch-Site", "SEC-OWN", "X-Forwarded-For", "X-Forwarded-User", "X-FORWARDED-Own", "X-Real-IP"),
            *("Wsrelay-Except", "Wsrelay-Canary", "Access-Control-Request-Headers"),
        ):
            for value in (b"\xe9", b"a\x85", b"\xa0a", "é".encode()):
                reason = f"the field {name} has a byte above 0x7f: write ASCII"
                self.assertEqual(self.refused(b"%s: %s" % (name.encode(), value)), (400, reason))

    def test_ascii_beside(self) -> None:
        """A strict field in ASCII passes beside another field with such bytes; similar names are not strict."""
        fields = parse_fields(block(b"Host: a", b"Cookie: \xe9", b"Hosts: \xe9", b"X-Sec-A: \xe9", b"Secret: \xe9"), 0)
        self.assertEqual(
            fields, {"host": "a", "cookie": "\uf7e9", "hosts": "\uf7e9", "x-sec-a": "\uf7e9", "secret": "\uf7e9"}
        )

    @given(field_values)
    def test_reversible(self, value: bytes) -> None:
        """The bytes of a value can be read, and two different values differ."""
        parsed = parse_fields(block(b"X-A: " + value), 0)["x-a"]
        self.assertEqual(field_bytes(parsed), value.strip(b" \t"))
        self.assertEqual(bytes([ord(character) & 0xFF for character in parsed]), value.strip(b" \t"))

    @given(field_values)
    def test_same_pieces(self, value: bytes) -> None:
        """However a validator splits or strips a value, the pieces are those of the bytes at ASCII separators."""
        value = value.strip(b" \t")
        text = parse_fields(block(b"X-A: " + value), 0)["x-a"]
        for pieces, expected in (
            (text.split(), value.split()),
            (text.splitlines(), [value] if value else []),
            (text.strip().split("\0"), [value]),
            (re.split(r"\s+", text), re.split(rb"[ \t]+", value)),
            (re.findall(r"\w+", text), re.findall(rb"[0-9A-Za-z_]+", value)),
            *[(text.split(by), value.split(by.encode())) for by in (",", ";", "=", " ", "\t", "/", ".")],
            *[(list(text.partition(by)), list(value.partition(by.encode()))) for by in (",", "=", " ")],
            (members(text), [each.strip(b" \t") for each in value.split(b",") if each.strip(b" \t")]),
        ):
            self.assertEqual([field_bytes(piece) for piece in pieces], expected)

    @given(field_values)
    def test_no_other_meaning(self, value: bytes) -> None:
        """Such a byte has no case and no normal form, is no letter or digit, and can be encoded as UTF-8 and JSON."""
        text = parse_fields(block(b"X-A: " + value), 0)["x-a"]
        opaque = re.sub(r"[\0-\x7f]", "", text)
        self.assertEqual((opaque.lower(), opaque.upper(), opaque.casefold()), (opaque, opaque, opaque))
        self.assertEqual(unicodedata.normalize("NFKC", text), text)
        self.assertFalse(any(map(str.isalnum, opaque)) or any(map(str.isprintable, opaque)))
        self.assertEqual(json.loads(json.dumps(text).encode()), text)
        self.assertEqual(text.encode().decode(), text)

    def test_other_characters(self) -> None:
        """Other decodings have other pieces than the bytes, or cannot be encoded (TRAPS 93)."""
        value = b"admin\x85\xa0"
        self.assertEqual(value.decode("latin-1").split(), ["admin"])
        self.assertEqual("a\u2028b".encode().decode().splitlines(), ["a", "b"])
        escaped = value.decode("ascii", "surrogateescape")
        self.assertEqual(escaped.split(), [escaped])
        self.assertRaises(UnicodeEncodeError, msgspec.json.encode, escaped)

    @given(st.lists(field_values, min_size=1, max_size=5))
    def test_joined_bytes(self, values: list[bytes]) -> None:
        """Lines of a list are joined by bytes, too."""
        parsed = parse_fields(block(*[b"Via: " + value for value in values]), 0)["via"]
        self.assertEqual(field_bytes(parsed), b", ".join([value.strip(b" \t") for value in values]))
