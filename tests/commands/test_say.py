"""Tests of wsrelay.commands.say."""

import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError as Refused

from tests.commands.support import ClientTestCase, command
from wsrelay.closecodes import RESTARTING
from wsrelay.commands import say as module
from wsrelay.commands.say import say, send_lines


class SayTests(ClientTestCase):
    """Sending."""

    def say(self, send_all: Any) -> Any:
        """Begin to say something."""
        return self.begin(say(self.server.clock, self.room, send_all, self.wires))

    def test_taken(self) -> None:
        """It ends with 0 when the relay has taken everything, and the others have it."""
        self.start()
        other = self.server.client("/room")
        done = self.say(lambda _, client: client.send("hello"))
        self.assertEqual(self.successResultOf(done), 0)
        self.assertEqual((other.messages, self.notes), (["hello"], []))

    def test_not_taken(self) -> None:
        """While the relay does not read, it does not end."""
        self.start()
        done = self.say(lambda _, client: setattr(client.ours, "stalled", True) or client.send("hello"))
        self.assertNoResult(done)
        self.wires.clients[0].ours.stalled = False
        self.server.settle()
        self.assertEqual(self.successResultOf(done), 0)

    def test_closed(self) -> None:
        """An end before all is sent, or a refused message, is exit code 1."""
        self.start(max_message_bytes=10)
        sending: Deferred[None] = Deferred()
        done = self.say(lambda *_: sending)
        next(iter(self.server.factory.connections)).close(RESTARTING)
        self.server.settle()
        self.assertEqual(self.successResultOf(done), 1)
        self.assertRegex(self.notes[-1], "^closed: 1012 .*; the last messages may not have arrived$")
        sending.callback(None)
        done = self.say(lambda _, client: client.send("more than ten"))
        self.assertEqual(self.successResultOf(done), 1)
        self.assertRegex(self.notes[-1], "^closed: 1009 message too big")

    def test_refused(self) -> None:
        """Without a connection, the reason is told; exit code 1."""
        self.start()
        self.wires.failures.append(Refused())
        self.assertEqual(self.successResultOf(self.say(lambda *_: succeed(None))), 1)
        self.assertIn("Is the relay running?", self.notes[-1])

    def test_broken_input(self) -> None:
        """An input that cannot be read is an error."""
        self.start()
        self.failureResultOf(self.say(lambda *_: fail(IsADirectoryError())), IsADirectoryError)


class LinesTests(ClientTestCase):
    """Standard input."""

    def setUp(self) -> None:
        super().setUp()
        self.reactor = mock.Mock()
        self.reactor.callFromThread.side_effect = lambda call, *given: call(*given)
        self.sent: list[str] = []
        self.sleeps: list[float] = []
        self.patch(module.time, "sleep", self.sleeps.append)
        self.patch(module.time, "monotonic", lambda: sum(self.sleeps))

    def send(self, text: str) -> "Deferred[None]":
        """Note a text."""
        self.sent.append(text)
        return succeed(None)

    def test_lines(self) -> None:
        """Each line is a message, at most so many per second; what is not UTF-8 is replaced."""
        lines = [b"a\n", b"\xff\r\n", b"\n", b"end"]
        send_lines(self.reactor, mock.Mock(send=self.send), lines, 2)
        self.assertEqual(self.sent, ["a", "\N{REPLACEMENT CHARACTER}", "", "end"])
        self.assertEqual(self.sleeps, [0, 0.5, 0.5, 0.5])

    def test_unreadable(self) -> None:
        """An error of the input names it."""

        def broken() -> Iterator[bytes]:
            yield b"a"
            raise OSError(5, "Input/output error")

        error = self.assertRaises(OSError, send_lines, self.reactor, mock.Mock(send=self.send), broken(), 2)
        self.assertEqual((error.strerror, error.filename, self.sent), ("Input/output error", "standard input", ["a"]))

    def test_thread(self) -> None:
        """The thread tells its end, and its failure; it does not hold up the exit."""
        threads: list[Any] = []
        self.patch(module.threading, "Thread", lambda **given: threads.append(given) or mock.Mock())
        done, failed = module._in_thread(self.reactor, lambda: None), module._in_thread(self.reactor, lambda: 1 / 0)
        for thread in threads:
            self.assertTrue(thread["daemon"])
            thread["target"]()
        self.successResultOf(done)
        self.failureResultOf(failed, ZeroDivisionError)


class RunTests(ClientTestCase):
    """The command."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(sys, "argv", ["wsrelay"])
        self.patch(module, "run_reactor", lambda work: work("reactor"))
        self.patch(module, "say", lambda _, where, send_all: (where.url, send_all))

    def test_words(self) -> None:
        """The words are one message; options may stand between them."""
        client = mock.Mock()
        url, send_all = command("say", "a", "--rate=5", "hello", "world").code  # type: ignore[misc]
        send_all("reactor", client)
        self.assertEqual((url, client.send.call_args.args), ("ws://127.0.0.1:8080/a", ("hello world",)))

    def test_input(self) -> None:
        """Without words, the lines of standard input are sent by a thread."""
        given: list[Any] = []
        self.patch(module, "_in_thread", lambda _, work: work())
        self.patch(module, "send_lines", lambda *all_of_them: given.append(all_of_them))
        _, send_all = command("say", "a", "--rate=5").code  # type: ignore[misc]
        send_all("reactor", "client")
        [(reactor, client, stream, rate)] = given
        stream.close()
        self.assertEqual((reactor, client, stream.mode, rate), ("reactor", "client", "rb", 5))

    def test_wrong(self) -> None:
        """A rate must be a number above 0, and a text UTF-8."""
        said = command("say", "a", "b", "\udcff")
        self.assertEqual((said.code, said.stdout), (2, ""))
        self.assertIn(r"'\udcff' is not UTF-8", said.stderr)
        for rate in ("0", "x", "-1"):
            self.assertEqual(command("say", "a", f"--rate={rate}").code, 2)
