"""Cases, one after the other."""

from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError as Refusing
from twisted.internet.error import DNSLookupError

from tests.harness.selftest import Change, SelftestCase, finish
from tests.harness.support import Answer
from wsrelay.errors import Denied
from wsrelay.selftest.cases import CASES, chosen
from wsrelay.selftest.frames import masked
from wsrelay.selftest.lab import Lab
from wsrelay.selftest.outcome import Refused, Verdict
from wsrelay.selftest.runner import Result, Unreachable, _advice, probe, try_all
from wsrelay.selftest.target import Target


class RunnerTests(SelftestCase):
    """Results and errors."""

    def test_probe(self) -> None:
        """A server that lets the client in can be tried; nothing is left of the probe."""
        relay = self.relay()
        finish(relay, probe(self.lab(relay)))
        self.assertEqual(len(relay.factory.connections), 0)

    def test_unreachable(self) -> None:
        """No connection, no way in, no WebSocket server: each says what to do."""
        for status, seen in (
            (401, "got 401 no; give a token with --token, or in WSRELAY_TOKEN"),
            (403, "got 403 no; give a token with --token, an origin with --origin, or another room with --room"),
            (404, "got 404 no; is this the path of the rooms"),
            (500, "got 500 no$"),
        ):
            relay = self.relay((Answer(Denied(status, "no")),))
            with self.assertRaisesRegex(Unreachable, seen):
                finish(relay, probe(self.lab(relay)))
        relay = self.relay()
        for changes, seen in (
            ({"error": Refusing()}, "no connection: .* Is the relay running"),
            ({"error": DNSLookupError("a")}, "no connection: "),
            ({"down": lambda _data: b"SSH"}, "no WebSocket server: "),
            ({"down": lambda data: b"" if b" 101 " in data else data}, "no WebSocket server: nothing came"),
            ({"up": lambda _data: b""}, "no WebSocket server: nothing came"),
        ):
            with self.assertRaisesRegex(Unreachable, seen):
                finish(relay, probe(self.lab(relay, **changes)))

    def test_no_response(self) -> None:
        """A server that ends TCP: perhaps it is TLS on one side only."""
        for url, seen in (
            ("ws://a/", "if that port has TLS, write wss://"),
            ("wss://a/", "--ca FILE trusts a certificate"),
        ):
            relay = self.relay((Answer(Denied(400, "no")),))
            with self.assertRaisesRegex(Unreachable, f"got no HTTP response; {seen}"):
                finish(relay, probe(self.lab(relay, Target.from_url(url), down=lambda _data: b"")))

    def test_no_tls(self) -> None:
        """A port without TLS is told from a certificate that is not trusted."""
        refused = Refused("client", None, "wrong version number")
        self.assertEqual(_advice(refused, Target.from_url("wss://a/")), "; that port has no TLS: ws://")

    def test_explained(self) -> None:
        """A refusal that is explained (--explain-refusals) has the same advice."""
        relay = self.relay((Answer(Denied(401, "no")),), explain_refusals=True)
        with self.assertRaisesRegex(Unreachable, "the handshake of the client got 401 no; give a token with --token"):
            finish(relay, probe(self.lab(relay)))

    def test_closed(self) -> None:
        """A client that is closed at once has no way in."""
        relay = self.relay()
        with self.assertRaisesRegex(Unreachable, "no WebSocket server: the client was closed with 1002"):
            finish(relay, probe(self.lab(relay, up=lambda data: masked(0x83) if data[:1] == b"\x89" else data)))

    def test_too_few_members(self) -> None:
        """A room that has no place for three is told once, before all cases."""
        for is_explained in (False, True):
            relay = self.relay(max_room_members=2, explain_refusals=is_explained)
            seen = (
                "most cases need 3 clients in one room, but the handshake of the third client got 503 .*full: .*; allow"
            )
            with self.assertRaisesRegex(Unreachable, seen):
                finish(relay, probe(self.lab(relay)))

    def test_no_text(self) -> None:
        """A room that takes no text, or only very short ones, is told once; other servers are tried."""
        for settings, code in (({"message_type": ("binary",)}, 1003), ({"max_message_bytes": 10}, 1009)):
            relay = self.relay(**settings)
            with self.assertRaisesRegex(Unreachable, f"need text messages of 64 bytes, but the client was .* {code}"):
                finish(relay, probe(self.lab(relay)))
        for instead in (b"", masked(0x83)):
            relay = self.relay()
            asked = self.lab(relay, up=_after_text(instead))
            finish(relay, probe(asked))

    def test_a_room_in_use(self) -> None:
        """Somebody who speaks in a named room is noticed; what it greets new members with is not taken for that."""
        relay = self.relay(history=("9",), greet=("9",))
        lab = self.lab(relay, Target.from_url("ws://relay.example/", room="used"))
        (other,) = finish(relay, lab.anew().joined("other"))
        other.say("old")
        relay.settle()
        relay.clock.callLater(0.5, other.say, "late")  # as a greeting may be that a pong overtakes
        finish(relay, probe(lab))
        relay.clock.callLater(1.5, other.say, "noise")
        with self.assertRaisesRegex(Unreachable, "/used: somebody else uses this room: .*b'noise'; name a room"):
            finish(relay, probe(lab.anew()))

    def test_perhaps_in_use(self) -> None:
        """In a named room, each failure may be somebody else's."""
        for room, is_named in (("used", True), (None, False)):
            result = self.attempt("others-only", target=Target.from_url("ws://relay.example/", room=room), echo=True)
            self.assertEqual("or somebody else uses the room /used" in result.means, is_named)

    def test_no_connection_in_time(self) -> None:
        """A server that does not take the connection."""
        relay = self.relay()
        lab = self.lab(relay)
        lab.endpoint = _Nowhere()  # type: ignore[assignment]
        with self.assertRaisesRegex(Unreachable, "no connection: "):
            finish(relay, probe(lab))

    def test_told(self) -> None:
        """Each result is told at once, and all are returned."""
        relay = self.relay()
        told: list[Result] = []
        results = finish(relay, try_all(self.lab(relay), chosen(["ping", "pong", "unasked-pong"][::2]), told.append))
        self.assertEqual((told, [result.case.name for result in results]), (results, ["ping", "unasked-pong"]))

    def test_time(self) -> None:
        """A case that is not done in its time fails."""
        result = self.result(_for_ever)
        self.assertEqual((result.verdict, result.seen, result.seconds), (Verdict.FAILS, "not done after 30 s", 30))

    def test_no_further_connection(self) -> None:
        """A connection that is refused in the middle of a case fails it."""
        result = self.result(CASES[4].attempt, error=Refusing(), good=2)
        self.assertIn("no further connection: ", result.seen)

    def test_why_nothing_came(self) -> None:
        """Where nothing came because the server has closed another member, that is what was seen."""
        result = self.attempt("everyone-else", up=lambda data: masked(0x83) if data[:2] == b"\x81\x85" else data)
        self.assert_result(result, "fails", "the publisher was closed with 1002")

    def test_one_line(self) -> None:
        """What a server says is shown in one line."""
        self.assertEqual(self.result(_lines).seen, "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}[31m")

    def result(self, attempt: Any, **changes: Any) -> Result:
        """Return the result of a case with another attempt."""
        relay = self.relay()
        case = replace(CASES[0], attempt=attempt)
        (result,) = finish(relay, try_all(self.lab(relay, **changes), [case], lambda _result: None))
        return result


def _after_text(instead: bytes) -> Change:
    """Return a change that replaces the text of the probe, and all that follows."""
    texts: list[bytes] = []

    def change(data: bytes) -> bytes:
        if data[:1] == b"\x81":
            texts.append(data)
            return instead
        return data if not texts or data[:1] == b"\x88" else b""

    return change


class _Nowhere:
    def connect(self, _factory: object) -> "Deferred[None]":
        return Deferred()


async def _for_ever(_lab: Lab) -> str:
    return await Deferred()


async def _lines(_lab: Lab) -> str:
    return "a\nb\x1b[31m"
