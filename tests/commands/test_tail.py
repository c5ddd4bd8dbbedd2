"""Tests of wsrelay.commands.tail."""

import errno
import io
import json
import os
import sys
from typing import Any

from twisted.internet.error import ConnectionRefusedError as Refused

from tests.commands.support import ClientTestCase, command
from tests.harness.support import Answer
from wsrelay.closecodes import CLOSED_BY_OPERATOR, RESTARTING
from wsrelay.commands import tail
from wsrelay.commands.tail import Printer, follow
from wsrelay.commands.target import Target
from wsrelay.errors import Denied


class TailTestCase(ClientTestCase):
    """A pipe for what is printed."""

    def printer(self, *, as_json: bool = False) -> Printer:
        """Return a printer into a pipe."""
        reading, writing = os.pipe()
        self.reading = open(reading, "rb", buffering=0)  # noqa: SIM115 - closed by the cleanup
        stream = open(writing, "w", encoding="utf-8")  # noqa: SIM115
        self.addCleanup(self.reading.close)
        self.addCleanup(stream.close)
        os.set_blocking(reading, False)
        return Printer(stream, as_json=as_json)

    def hang_up(self) -> None:
        """Stop reading."""
        self.reading.close()

    def printed(self) -> str:
        """Return what was printed since the last time."""
        return (self.reading.read(65536) or b"").decode()

    def follow(self, query: str = "", *, printer: Printer | None = None) -> Any:
        """Begin to follow the room; waits are as long as they may be."""
        first = Target(self.room.url + query)
        self.using = printer or self.printer()
        work = follow(
            self.server.clock, first, self.room, self.using, endpoint=self.wires, uniform=lambda _, most: most
        )
        return self.begin(work)


class PrinterTests(TailTestCase):
    """What is printed."""

    def test_forms(self) -> None:
        """A text is a line, of a binary message the size is told; as JSON, both are whole."""
        printer = self.printer()
        printer("é\x1b".encode(), False)
        printer(b"\xff\xff", True)
        self.assertEqual(self.printed(), "é\x1b\n(2 bytes)\n")
        printer = self.printer(as_json=True)
        printer(b"a\nb", False)
        printer(b"\xff", True)
        read = [json.loads(line) for line in self.printed().splitlines()]
        self.assertEqual(read, [{"text": "a\nb"}, {"base64": "/w=="}])

    def test_terminal(self) -> None:
        """A message cannot control a terminal."""

        class Terminal(io.TextIOWrapper):
            """Says that it is one."""

            def isatty(self) -> bool:
                return True

        stream = Terminal(io.BytesIO())
        Printer(stream, as_json=False)(b"a\tb\x1b[2J", False)
        self.assertEqual(stream.buffer.getvalue().decode(), "a\tb\N{REPLACEMENT CHARACTER}[2J\n")  # type: ignore[attr-defined]

    def test_nobody_reads(self) -> None:
        """A closed pipe is noticed at the next message, or at the next look; and only once."""
        printer = self.printer()
        printer.check()
        self.assertNoResult(printer.broken)
        self.hang_up()
        printer(b"a", False)
        self.successResultOf(printer.broken)
        printer(b"b", False)
        printer._end()
        printer = self.printer()
        self.hang_up()
        printer.check()
        self.successResultOf(printer.broken)


class FollowTests(TailTestCase):
    """The connections."""

    def test_messages(self) -> None:
        """What others say is printed, and what was said before, if it is asked for."""
        self.start(history=("10",))
        other = self.server.client("/room")
        other.say("before")
        self.server.settle()
        done = self.follow("?last=5")
        other.say("now")
        self.server.settle()
        self.assertEqual(self.printed(), "before\nnow\n")
        self.assertNoResult(done)

    def test_reconnect(self) -> None:
        """After a close that is not final it connects again, with a back-off that doubles up to its bound."""
        self.start(history=("10",))
        self.follow("?last=5")
        waits = []
        for _ in range(8):
            next(iter(self.server.factory.connections)).close(RESTARTING)
            self.server.settle()
            waits.append(float(self.notes[-1].rpartition("; again in ")[2].partition(" s")[0]))
            self.server.wait(waits[-1] + 0.25)
        self.assertEqual(waits, [0.5, 1, 2, 4, 8, 16, 30, 30])
        self.assertEqual(self.notes[-1], "connected to ws://relay.example:8080/room")
        self.assertEqual([client.resource for client in self.wires.clients[:3]], ["/room?last=5", "/room", "/room"])

    def test_lasted(self) -> None:
        """A connection that has lasted lets the back-off begin again."""
        self.start()
        self.follow()
        for seconds in (0, 11):
            self.server.wait(seconds)
            next(iter(self.server.factory.connections)).close(RESTARTING)
            self.server.settle()
            self.assertIn("again in 0.5 s", self.notes[-1])
            self.server.wait(1)

    def test_relay_away(self) -> None:
        """A relay that was there is waited for; one that never was ends the command."""
        self.start()
        self.follow()
        self.wires.failures = [Refused()] * 3
        next(iter(self.server.factory.connections)).close(RESTARTING)
        self.server.wait(9)
        self.assertEqual(self.notes[-1], "connected to ws://relay.example:8080/room")
        self.wires.failures = [Refused()]
        self.assertEqual(self.successResultOf(self.follow()), 1)
        self.assertIn("Is the relay running?", self.notes[-1])

    def test_refused(self) -> None:
        """A final refusal ends it with 1; one with Retry-After is waited for as long as that says."""
        answer = Answer(Denied(429, "later", [("Retry-After", "7")]))
        self.start([answer])
        done = self.follow()
        self.assertIn("refused: 429 later; again in 7.5 s", self.notes[-1])
        answer.answer = Denied(403, "no")
        self.server.wait(8)
        self.assertEqual(self.successResultOf(done), 1)
        self.assertTrue(self.notes[-1].startswith("refused: 403 no"))

    def test_final(self) -> None:
        """A final close ends it with 1."""
        self.start()
        done = self.follow()
        next(iter(self.server.factory.connections)).close(CLOSED_BY_OPERATOR)
        self.server.settle()
        self.assertEqual(self.successResultOf(done), 1)
        self.assertEqual(self.notes[-1], "closed: 4403 closed by the operator")

    def test_explained(self) -> None:
        """An explained refusal ends it as well: it was never connected."""
        self.start([Answer(Denied(403, "no"))], explain_refusals=True)
        done = self.follow()
        self.server.wait(self.server.factory.settings.close_seconds + 1)  # the transport in memory has no half-close
        self.assertEqual(self.successResultOf(done), 1)
        self.assertEqual(self.notes, ["refused: 403 no; another room, --origin or --token may be allowed"])

    def test_query_is_not_shown(self) -> None:
        """What stands behind the ? may be a secret."""
        self.start()
        self.room = Target("ws://relay.example:8080/room?token=secret")
        self.follow()
        self.assertEqual(self.notes, ["connected to ws://relay.example:8080/room"])

    def test_full_disk(self) -> None:
        """What cannot be printed ends it: the connection is closed, and the error is the command's."""
        self.start()
        full = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115 - closed by the cleanup
        self.addCleanup(full.close)
        done = self.follow(printer=Printer(full, as_json=False))
        other = self.server.client("/room")
        other.say("lost")
        self.server.settle()
        self.assertEqual(self.failureResultOf(done, OSError).value.errno, errno.ENOSPC)
        self.assertEqual(len(self.server.factory.connections), 1)

    def test_nobody_reads(self) -> None:
        """When nobody reads any more it closes, and ends with 0 and without a word."""
        self.start()
        done = self.follow()
        self.hang_up()
        self.server.wait(2)
        self.assertEqual(self.successResultOf(done), 0)
        self.assertEqual(self.notes, ["connected to ws://relay.example:8080/room"])
        self.assertEqual(self.server.factory.connections, set())


class RunTests(TailTestCase):
    """The command."""

    def test_run(self) -> None:
        """Arguments become targets: history is asked for by the first connection only."""
        self.patch(sys, "argv", ["wsrelay"])
        self.patch(tail, "run_reactor", lambda work: work("reactor"))
        self.patch(tail, "follow", lambda *given: given)
        for words, first in ((["--last=3", "--json"], "ws://127.0.0.1:8080/a?last=3"), ([], "ws://127.0.0.1:8080/a")):
            reactor, at, later, _ = command("tail", "a", *words).code  # type: ignore[misc]
            self.assertEqual((reactor, at.url, later.url), ("reactor", first, "ws://127.0.0.1:8080/a"))

    def test_wrong(self) -> None:
        """A count that the relay would refuse is wrong usage."""
        for count in ("-1", "x", "1000001"):
            self.assertEqual(command("tail", "a", f"--last={count}").code, 2)
