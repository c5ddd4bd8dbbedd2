"""The fuzzers: all seeds pass, each target detects a broken relay, and finds are saved."""

import importlib
import re
import sys
import tempfile
import unittest
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import live
from tests.harness.framing import deflated, fragmented, wire_frame
from tests.harness.native import compiled
from tests.harness.support import request_bytes
from wsrelay import closecodes
from wsrelay.connection.protocol import RelayProtocol
from wsrelay.connection.websocket import OpenWebSocket
from wsrelay.errors import Denied
from wsrelay.wire import pure

FUZZ = Path(__file__).resolve().parents[2] / "fuzz"


def load(name: str) -> Any:
    """Import a module of the fuzz folder, which is not a package but only on the path of ``fuzz/run``."""
    with mock.patch.object(sys, "path", [str(FUZZ), *sys.path]):
        return importlib.import_module(name)


engines: Any = load("engines")
inputs: Any = load("inputs")
memory: Any = load("memory")
reference: Any = load("reference")
seeds: Any = load("seeds")
targets: Any = load("targets")
gate_target: Any = load("gate_target")
native_target: Any = load("native_target")


class InputTests(unittest.TestCase):
    """The format of inputs."""

    @given(st.integers(0, 255), st.binary(max_size=600), st.lists(st.integers(0, 255), max_size=inputs.CUTS))
    def test_encode_decode(self, flags: int, stream: bytes, cuts: list[int]) -> None:
        """Decoding reverses encoding; the chunks are the whole stream, and none is empty."""
        case = inputs.decode(inputs.encode(flags, stream, cuts))
        self.assertEqual((case.flags, case.stream), (flags, stream))
        self.assertEqual(b"".join(case.chunks()), stream)
        self.assertNotIn(b"", case.chunks())
        self.assertLessEqual(len(case.chunks()), inputs.CUTS + 1)

    @given(st.binary(max_size=8))
    def test_decode_short_input(self, octets: bytes) -> None:
        """Any octets are an input."""
        self.assertEqual(inputs.decode(octets).stream, octets[inputs.HEADER_BYTES :])

    def test_cuts(self) -> None:
        """Cuts are offsets in a short stream and fractions of a long one."""
        self.assertEqual(inputs.Input(0, b"abcdef", (2, 0, 4)).chunks(), [b"ab", b"cd", b"ef"])
        self.assertEqual([len(chunk) for chunk in inputs.Input(0, bytes(2550), (51,)).chunks()], [510, 2040])


class SeedTests(unittest.TestCase):
    """Each seed passes on its target."""

    def test_gate(self) -> None:
        """No request breaks an invariant of the gate."""
        self.check("gate")

    def test_frames(self) -> None:
        """The fast path and Autobahn's parser agree on all streams."""
        self.check("frames")

    def test_native(self) -> None:
        """All parsers agree on all streams; the compiled one is among them."""
        compiled()
        self.check("native")

    def test_connection(self) -> None:
        """No stream breaks an invariant of open connections."""
        self.check("connection")

    def check(self, name: str) -> None:
        """Run all seeds of a target."""
        target = targets.TARGETS[name]
        for seed, octets in target.seeds.items():
            with self.subTest(seed):
                target.check(octets)

    def test_gate_seed_statuses(self) -> None:
        """Some seeds of the gate are accepted and some refused, including all that smuggle."""
        answers = {
            name: gate_target.send([gate_target.request_of(inputs.decode(octets))])[0][9:12]
            for name, octets in seeds.gate().items()
        }
        self.assertEqual({answers[name] for name in ("least", "chromium", "firefox", "nginx")}, {b"101"})
        opaque = ("nel", "latin-1", "cookie-in-utf-8", "two-cookies", "lists-in-lines", "forwarded")
        self.assertEqual({answers[f"field-{name}"] for name in opaque}, {b"101"})
        smuggled = (
            "vertical-tab",
            "file-separator",
            "bare-cr",
            "bare-lf",
            "folded",
            "space-before-colon",
            "body",
        )
        self.assertEqual({answers[f"field-{name}"] for name in smuggled}, {b"400"})
        self.assertLessEqual({b"101", b"400", b"405", b"408", b"426", b"431"}, set(answers.values()))


class CanFailTests(unittest.TestCase):
    """Each target detects a relay that is broken on purpose."""

    def assert_found(self, name: str, *octets: bytes, patches: Any) -> None:
        """Check that inputs pass, and fail with patches."""
        check = targets.TARGETS[name].check
        for each in octets:
            check(each)
            with ExitStack() as broken, self.assertRaises(AssertionError):
                for patch in patches:
                    broken.enter_context(patch)
                check(each)

    def test_frames(self) -> None:
        """Invalid UTF-8 accepted by the fast path is found."""
        octets = inputs.encode(seeds.PLAIN, wire_frame(0x81, b"\xff"))
        accepting = [
            mock.patch("wsrelay.wire.pure.is_utf8", return_value=True),
            mock.patch("wsrelay.wire.native.parse", pure.parse),
        ]
        self.assert_found("frames", octets, patches=accepting)

    def test_native_python(self) -> None:
        """Invalid UTF-8 accepted in Python is found, by the compiled parser and by Autobahn alone."""
        compiled()
        octets = inputs.encode(3, wire_frame(0x81, b"\xff"))
        broken = mock.patch("wsrelay.wire.pure.is_utf8", return_value=True)
        self.assert_found("native", octets, patches=[broken])
        self.assert_found("native", octets, patches=[broken, mock.patch.object(native_target, "compiled", None)])

    def test_native_compiled(self) -> None:
        """A compiled parser with another result is found."""
        other = mock.Mock(**{"parse.return_value": (b"", 0, 0)})
        octets = inputs.encode(3, wire_frame(0x81, b"x"))
        self.assert_found("native", octets, patches=[mock.patch.object(native_target, "compiled", other)])

    def test_connection_messages(self) -> None:
        """Lost and surplus messages are found, also where both parsers agree."""
        lost = mock.patch.object(OpenWebSocket, "_publish")
        self.assert_found("connection", inputs.encode(seeds.PLAIN, wire_frame(0x81, b"hello")), patches=[lost])
        nothing_is_too_many = mock.patch.dict("tests.harness.framing.LIMITS", max_fragments=9)
        with nothing_is_too_many:
            targets.TARGETS["connection"].check(inputs.encode(seeds.PLAIN, fragmented(2, [b"a"] * 4)))

    def test_connection_closes(self) -> None:
        """An undocumented close code and a missing close are found."""
        octets = inputs.encode(seeds.PLAIN, wire_frame(0x83, b""))
        other = closecodes.CloseReason(1006, "never on the wire", False, "")
        wrong = mock.patch("wsrelay.closecodes.for_code", return_value=other)
        silent = mock.patch.object(RelayProtocol, "_fail_connection")
        for patch in (wrong, silent):
            self.assert_found("connection", octets, patches=[patch])

    def test_connection_bugs(self) -> None:
        """An exception in the relay is found, although only its peer is closed, with 1011."""

        def fail(*_: object) -> None:
            raise ZeroDivisionError

        octets = inputs.encode(seeds.PLAIN, wire_frame(0x89, b"ping"))
        self.assert_found("connection", octets, patches=[mock.patch.object(RelayProtocol, "onPing", fail)])

    def test_connection_leak(self) -> None:
        """A closed connection that stays in its room is found."""
        octets = inputs.encode(seeds.PLAIN, wire_frame(0x81, b"hello"))
        stays = mock.patch("wsrelay.factory.RelayFactory.disconnected")
        self.assert_found("connection", octets, patches=[stays])

    def test_gate_smuggling(self) -> None:
        """A gate that accepts line ends of other parsers is found."""
        octets = inputs.encode(seeds.FIELDS, b"X-A: 1\x0bX-User: admin\r\n")
        loose = re.compile(rb"(?:\r\n[!-9;-~]+:[^\r\n]*)*")
        self.assert_found("gate", octets, patches=[mock.patch("wsrelay.http.fields._LINES", loose)])

    def test_gate_repeated_field(self) -> None:
        """A gate that joins fields allowed only once is found."""
        octets = inputs.encode(seeds.FIELDS, b"Origin: a\r\nOrigin: b\r\n")
        joins = mock.patch("wsrelay.http.fields.JOINED", {"origin": ", "})
        self.assert_found("gate", octets, patches=[joins])

    def test_gate_other_spaces(self) -> None:
        """A gate whose values have other spaces than were sent is found."""
        octets = inputs.encode(seeds.FIELDS, b"X-A: 1\x85X-User: admin\r\n")
        latin = mock.patch("wsrelay.http.fields._CHARACTERS", "".join(map(chr, range(256))))
        self.assert_found("gate", octets, patches=[latin])

    def test_gate_statuses(self) -> None:
        """An undocumented status is found."""
        teapot = mock.patch("wsrelay.connection.opening.split_head", side_effect=Denied(418, "short and stout"))
        self.assert_found("gate", inputs.encode(seeds.WHOLE, b"GET / HTTP/1.1\r\n\r\n"), patches=[teapot])

    def test_gate_cuts(self) -> None:
        """A gate with another response to a request in several reads is found."""
        octets = inputs.encode(seeds.WHOLE, request_bytes(), [40])

        def impatient(buffer: bytes) -> tuple[bytes, bytes]:
            if not buffer.endswith(b"\r\n\r\n"):
                raise Denied(400, "not all at once")
            return buffer[:-4], b""

        self.assert_found("gate", octets, patches=[mock.patch("wsrelay.connection.opening.split_head", impatient)])

    def test_documented_statuses(self) -> None:
        """The statuses are the documented ones, without 500."""
        self.assertLessEqual({400, 401, 403, 405, 408, 421, 426, 431, 503, 504}, gate_target.STATUSES)
        self.assertNotIn(500, gate_target.STATUSES)


class ReferenceTests(unittest.TestCase):
    """The reference reader."""

    def read(self, *stream: bytes, deflate: bool = False) -> Any:
        """Read a stream, with small limits."""
        return reference.Reader(deflate, 100, 3).read(b"".join(stream))

    def test_messages(self) -> None:
        """Messages are read whole, fragmented and deflated, with pings between their frames."""
        read = self.read(
            wire_frame(0x01, b"a"), wire_frame(0x89, b"p"), wire_frame(0x80, b"b"), wire_frame(0xC2, deflated(b"cc")),
            deflate=True,
        )  # fmt: skip
        self.assertEqual((read.messages, read.pings, read.end), ([(1, b"ab"), (2, b"cc")], [b"p"], reference.OPEN))

    def test_ends(self) -> None:
        """Each kind of end is detected."""
        for stream, end in (
            (b"", reference.OPEN),
            (wire_frame(0x81, b"x")[:5], reference.OPEN),
            (wire_frame(0x88, b"\x03\xe8"), reference.CLOSED),
            (wire_frame(0x88, b""), reference.CLOSED),
            (wire_frame(0x88, b"\x03\xed"), reference.BROKEN),
            (wire_frame(0x88, b"\x03\xe8\xff"), reference.BROKEN),
            (wire_frame(0x88, b"\x03\xf6"), reference.UNKNOWN),
            (wire_frame(0x81, b"x", None), reference.BROKEN),
            (wire_frame(0xC1, deflated(b"x")), reference.BROKEN),
            (wire_frame(0x81, b"x", length_bits=16), reference.BROKEN),
            (wire_frame(0x81, b"\xff"), reference.BROKEN),
            (wire_frame(0x01, b"\xff"), reference.UNKNOWN),
            (wire_frame(0x81, b"x" * 101), reference.BROKEN),
            (wire_frame(0x81, b"x" * 101)[:50], reference.UNKNOWN),
            (fragmented(2, [b""] * 4), reference.BROKEN),
            (wire_frame(0x80, b""), reference.BROKEN),
        ):
            self.assertEqual(self.read(stream).end, end, stream)

    def test_deflate_ends(self) -> None:
        """What does not inflate, or inflates to too much, is broken; what does not end as it should, uncertain."""
        for payload, end in (
            (deflated(b"x" * 100), reference.OPEN),
            (deflated(b"x" * 101), reference.BROKEN),
            (b"\xff", reference.BROKEN),
            (deflated(b"x", final=True), reference.UNKNOWN),
        ):
            self.assertEqual(self.read(wire_frame(0xC2, payload), deflate=True).end, end, payload)


class EngineTests(unittest.TestCase):
    """What both engines have in common."""

    def test_words(self) -> None:
        """Words are written as libFuzzer reads them."""
        self.assertEqual(engines.escaped(b"a\r\xff"), "\\x61\\x0d\\xff")

    def test_finds_are_kept(self) -> None:
        """Hypothesis finds what is broken, makes it smaller, and keeps it."""
        broken = mock.patch("wsrelay.wire.frames.is_utf8", return_value=True)
        with tempfile.TemporaryDirectory() as folder, broken, mock.patch.object(engines, "quiet_targets") as known:
            known.return_value = {"frames": targets.TARGETS["frames"]}
            printed = ExitStack()
            with printed:
                printed.enter_context(mock.patch("builtins.print"))
                printed.enter_context(mock.patch("traceback.print_exc"))
                code = engines.hypothesis("frames", 1, Path(folder), Path(folder))
            [kept] = Path(folder).iterdir()
            octets = kept.read_bytes()

            self.assertEqual(code, 1)
            self.assertRaises(AssertionError, targets.TARGETS["frames"].check, octets)
        targets.TARGETS["frames"].check(octets)


@pytest.mark.interop
class ProcessTests(unittest.TestCase):
    """The command."""

    def fuzz(self, *arguments: str) -> Any:
        """Run the command."""
        return live.run(sys.executable, FUZZ / "run", *arguments, timeout=100)

    def test_short_run(self) -> None:
        """A short run with Hypothesis passes on all targets, and prints the number of inputs."""
        done = self.fuzz("--engine", "hypothesis", "--seconds", "3")

        self.assertEqual(done.returncode, 0, done.stdout)
        tried = re.findall(r"^(\w+) +hypothesis: (\d+) inputs", done.stdout, re.MULTILINE)
        self.assertEqual([name for name, _ in tried], list(targets.TARGETS))
        self.assertTrue(all(int(count) > 40 for _, count in tried))

    def test_reproduce(self) -> None:
        """--reproduce runs and prints an input; a missing file is an error."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "input"
            file.write_bytes(inputs.encode(seeds.PLAIN, wire_frame(0x81, b"hello"), [2]))
            done = self.fuzz("--reproduce", str(file), "connection")
            gone = self.fuzz("--reproduce", str(file) + "-gone", "connection")

        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("11 bytes in 2 reads", done.stdout)
        self.assertEqual(gone.returncode, 2, gone.stdout)

    def test_unknown_target(self) -> None:
        """An unknown target is an error that lists the known ones."""
        done = self.fuzz("gates")

        self.assertEqual(done.returncode, 2)
        self.assertIn("gate, frames, native, connection", done.stdout)
