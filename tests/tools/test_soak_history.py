"""Crowds that return and idle rooms with history: exact readers pass, all others and broken bounds are told."""

import json
import socket
import sys
import threading
import unittest
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.harness import live
from tests.tools.test_bench import BENCH
from tests.tools.test_soak import SOAK, load
from wsrelay.wire import frames

admin_socket: Any = load("admin_socket")
client: Any = load("client")
exchanges: Any = load("exchanges")
onlookers: Any = load("onlookers")
readers: Any = load("readers")
returning: Any = load("returning")

SIZE = 130
WEBSOCKET_HEAD = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


def load_script(name: str) -> Any:
    """Import a script, which has no suffix."""
    loader = SourceFileLoader(f"soak_{name}", str(SOAK / name))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    with mock.patch.object(sys, "path", [str(SOAK), str(BENCH), *sys.path]):
        loader.exec_module(module)
    return module


crowd: Any = load_script("crowd")
idle_rooms: Any = load_script("idle_rooms")


def room(messages: int) -> Any:
    """Return a room in which so many messages were published."""
    made = readers.Room("crowd/1", SIZE)
    for number in range(messages):
        made.add()
        made.ids[number] = f"epoch-{number + 1}"
    made.answered = messages
    return made


def chunk(text: str) -> bytes:
    """Return a chunk of an event stream."""
    return f"{len(text):x}\r\n{text}\r\n".encode()


def event(of: Any, number: int, identity: str = "") -> bytes:
    """Return the event of a message."""
    return chunk(f"id: {identity or of.ids[number]}\ndata: {of.payloads[number].decode()}\n\n")


class WebSocketTests(unittest.TestCase):
    """A plain WebSocket that reads on."""

    def setUp(self) -> None:
        """Make a reader that knows the first two of five messages."""
        self.room = room(5)
        self.reader = readers.WebSocket(self.room)
        self.reader.next = 2

    def frame(self, number: int) -> bytes:
        """Return the frame of a message."""
        return frames.encode(frames.TEXT, self.room.payloads[number])

    def test_frames(self) -> None:
        """Frames are as the relay makes them."""
        self.assertEqual(b"".join(map(self.frame, range(5))), bytes(self.room.frames))
        self.assertEqual(len(self.frame(0)), self.room.frame_bytes)

    def test_since(self) -> None:
        """It returns with the id of its last message; the first time without."""
        self.assertIn(b"GET /crowd/1?since=epoch-2 HTTP/1.1\r\n", self.reader.request())
        self.assertIn(b"GET /crowd/1 HTTP/1.1\r\n", readers.WebSocket(self.room).request())

    def test_exact(self) -> None:
        """It is live with the last answered message, and exact with all, however bytes are cut."""
        data = WEBSOCKET_HEAD + b"".join(map(self.frame, (2, 3, 4)))
        for at in range(len(data)):
            reader = readers.WebSocket(self.room)
            reader.next = 2
            reader.receive(data[:at]) if at else None
            self.assertFalse(reader.live_at)
            self.assertFalse(reader.is_exact())
            reader.receive(data[at:])
            self.assertTrue(reader.live_at)
            self.assertTrue(reader.is_exact())

    def test_first(self) -> None:
        """A reader that comes for the first time begins with any message."""
        reader = readers.WebSocket(self.room)
        reader.receive(WEBSOCKET_HEAD + self.frame(3) + self.frame(4))
        self.assertTrue(reader.is_exact())

    def test_inexact(self) -> None:
        """A lost, repeated or changed message, and one out of order, is a fault."""
        changed = self.frame(2).replace(b"crowd", b"crown")
        for data in (
            self.frame(3) + self.frame(4),
            self.frame(1) + self.frame(2),
            self.frame(3) + self.frame(2) + self.frame(4),
            changed + self.frame(3) + self.frame(4),
        ):
            reader = readers.WebSocket(self.room)
            reader.next = 2
            reader.receive(WEBSOCKET_HEAD + data)
            self.assertFalse(reader.is_exact())
            self.assertIn("came where 2 should have", reader.faults[0])

    def test_gone(self) -> None:
        """A close frame is a fault with code and reason."""
        self.reader.receive(WEBSOCKET_HEAD + b"\x88\x06" + (4410).to_bytes(2, "big") + b"gone")
        self.assertEqual(self.reader.faults, ["WebSocket in crowd/1: closed with 4410: gone"])

    def test_refused(self) -> None:
        """A refusal, and an end, is a fault."""
        self.reader.receive(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
        self.reader.receive(b"")
        self.assertIn("refused: b'HTTP/1.1 503", self.reader.faults[0])
        self.assertIn("the relay ended the connection", self.reader.faults[1])


class EventStreamTests(unittest.TestCase):
    """A stream of events that reads on."""

    def setUp(self) -> None:
        """Make a reader that knows the first two of four messages."""
        self.room = room(4)
        self.reader = readers.EventStream(self.room)
        self.reader.receive(STREAM_HEAD + chunk("retry: 2000\n\n") + chunk("id: epoch-0\n\n"))
        self.reader.receive(event(self.room, 0) + event(self.room, 1))

    def test_last_event_id(self) -> None:
        """It returns with the last id that it was told."""
        self.assertIn(b"Last-Event-ID: epoch-2\r\n", self.reader.request())
        self.assertNotIn(b"Last-Event-ID", readers.EventStream(self.room).request())

    def test_exact(self) -> None:
        """Comments are no messages, and with the last message it is exact, however bytes are cut."""
        data = chunk(":\n\n") + event(self.room, 2) + event(self.room, 3)
        for at in range(1, len(data)):
            self.setUp()
            self.reader.receive(data[:at])
            self.assertFalse(self.reader.is_exact())
            self.reader.receive(data[at:])
            self.assertTrue(self.reader.is_exact())
            self.assertTrue(self.reader.live_at)

    def test_inexact(self) -> None:
        """A lost message, another id than the answer to its POST, and a gap are faults."""
        for data, fault in (
            (event(self.room, 3), "message 3 came where 2 should have"),
            (event(self.room, 2, "epoch-9"), "message 2 has the id epoch-9; its POST was answered epoch-3"),
            (chunk('id: epoch-4\nevent: gap\ndata: {"why": "gone"}\n\n'), 'event gap: {"why": "gone"}'),
        ):
            self.setUp()
            self.reader.receive(data)
            self.assertEqual(
                self.reader.faults, [f"EventStream in crowd/1: {fault}{', or was changed' * (fault[-4:] == 'have')}"]
            )


class PublisherTests(unittest.TestCase):
    """The publisher of a room."""

    def test_one_after_the_other(self) -> None:
        """A message is posted at its time, once the one before is answered; its id is kept, a refusal is a fault."""
        posted: list[Any] = []
        at = readers.Room("crowd/1", SIZE)
        publisher = returning.Publisher(at, lambda *words: posted.append(words), rate=10)
        began = publisher._due
        publisher.tick(began + 0.25)
        self.assertEqual(len(posted), 1)
        self.assertFalse(publisher.is_done())
        posted[0][2](202, b'{"id": "epoch-1"}')
        publisher.tick(began + 0.25)
        posted[1][2](503, b"full")

        self.assertTrue(publisher.is_done())
        self.assertEqual(({0: "epoch-1"}, 2, 2), (at.ids, at.answered, len(publisher.waits)))
        self.assertEqual(publisher.faults, ["a POST was answered with 503: b'full'"])


class OnlookersTests(unittest.TestCase):
    """The bystanders of a return."""

    def test_percentiles(self) -> None:
        """Only messages sent in the time count, in ms; none is infinite."""
        told = {
            "at": [0.0, *(1 + number / 200 for number in range(101)), 5.0],
            "lags": [9.0, *(n / 1000 for n in range(101)), 9.0],
        }
        found = onlookers.percentiles(told, 1.0, 2.0)
        self.assertEqual({"heard": 101, "p50_ms": 50.0, "p95_ms": 95.0, "max_ms": 100.0}, found)
        self.assertEqual(float("inf"), onlookers.percentiles(told, 3.0, 4.0)["p95_ms"])

    def test_report(self) -> None:
        """Each lag has the time of its message, and a lost message is a fault."""
        ears = [onlookers.Ear(), onlookers.Ear()]
        ears[0].hear(onlookers.bystanders._STAMP.pack(0, 7.0) + onlookers.bystanders.FILLING, 7.5)
        found = onlookers.report(ears, [[2], [1]], ["ended"])
        self.assertEqual(([7.0], [0.5]), (found["at"], found["lags"]))
        self.assertEqual(["2 messages of a bystander are lost", "ended"], found["faults"])


class ExchangesTests(unittest.TestCase):
    """Connections over epoll."""

    def serve(self, answer: bytes) -> int:
        """Answer one request in a thread, end the connection, and return the port."""
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)

        def run() -> None:
            accepted, _ = server.accept()
            with accepted:
                self.asked = accepted.recv(4096)
                accepted.sendall(answer)

        thread = threading.Thread(target=run)
        thread.start()
        self.addCleanup(thread.join)
        return int(server.getsockname()[1])

    def exchange(self, answer: bytes) -> tuple[int, bytes]:
        """Post something, and return status and body of the answer."""
        found: list[tuple[int, bytes]] = []
        loop = exchanges.Loop()
        exchanges.Exchange(loop, self.serve(answer), exchanges.post("a/b", b"text"), lambda *words: found.append(words))
        for _ in range(1000):
            if not loop:
                break
            loop.turn(0.01)
        loop.close()
        return found[0]

    def test_answer(self) -> None:
        """Status and body are passed on when the relay has ended; without a response the status is 0."""
        self.assertEqual((202, b"{}"), self.exchange(b"HTTP/1.1 202 Accepted\r\n\r\n{}"))
        self.assertEqual(b"POST /a/b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\n\r\ntext", self.asked)
        self.assertEqual((0, b""), self.exchange(b""))

    def test_no_server(self) -> None:
        """A refused connection is an end without a response."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        ended: list[bytes] = []
        loop = exchanges.Loop()
        exchanges.Connection(loop, port, b"request", ended.append)
        while loop:
            loop.turn(1)
        loop.close()
        self.assertEqual([b""], ended)

    def test_get(self) -> None:
        """A request for a stream has its fields."""
        request = exchanges.get("a?last=1", "text/event-stream", "Last-Event-ID: x")
        self.assertTrue(request.startswith(b"GET /a?last=1 HTTP/1.1\r\nHost: "))
        self.assertTrue(request.endswith(b"\r\nAccept: text/event-stream\r\nLast-Event-ID: x\r\n\r\n"))


class AdminSocketTests(unittest.TestCase):
    """Metrics of the admin endpoint."""

    def test_metrics(self) -> None:
        """Metrics are numbers by name and labels; an endpoint that does not answer has none."""
        text = '# HELP a b\nwsrelay_rooms 3\nwsrelay_resumes_total{outcome="gone"} 1e2\n'
        with mock.patch.object(admin_socket, "fetch", return_value=(200, text)):
            found = admin_socket.metrics(Path("admin.sock"))
        self.assertEqual({"wsrelay_rooms": 3.0, 'wsrelay_resumes_total{outcome="gone"}': 100.0}, found)
        self.assertEqual({}, admin_socket.metrics(Path("/nowhere")))


class CrowdReportTests(unittest.TestCase):
    """Verdict and table of a returning crowd."""

    RUN = {figure: 1.0 for _, figure, _ in crowd.COLUMNS} | {"clients": 4, "live": 4, "exact": 4, "faults": []}

    def report(self, **changes: Any) -> tuple[list[str], str]:
        """Return faults and report of a run with changes, and of one without."""
        runs = [{**self.RUN, **changes}, self.RUN]
        found: list[str] = crowd.faults(runs)
        return found, crowd.markdown(runs, crowd.parse_arguments(["--clients", "4", "--", "--no-compress"]))

    def test_passed(self) -> None:
        """A run in which all are exact passes, and the table ends with the medians."""
        found, text = self.report(all_seconds=2.0)
        self.assertEqual([], found)
        self.assertIn("options `--history 1000 --no-compress`: **PASSED**", text)
        self.assertRegex(text.splitlines()[-1], r"^\| \*\*median\*\* \| 1 \| 4 \| 1\.00 \| 1\.00 \| 1\.50 \|")

    def test_faults(self) -> None:
        """A client that is not live or not exact, late bystanders, and faults of clients fail."""
        for changes, words in (
            ({"live": 3}, "run 1: 1 clients were not live"),
            ({"exact": 2}, "run 1: 2 clients did not get exactly"),
            ({"p95_ms": 50.0}, "run 1: the bystanders' p95 is 50 ms"),
            ({"faults": ["closed with 4410"]}, "run 1: closed with 4410"),
        ):
            found, text = self.report(**changes)
            self.assertIn(words, found[0])
            self.assertIn("**FAILED**", text)

    def test_lags(self) -> None:
        """The bystanders' lags count while the crowd returns, and before the cut on their own."""
        told = {"at": [0.0, 1.0, 3.0, 5.0, 9.0], "lags": [0.009, 0.001, 0.008, 0.002, 0.003]}
        found = crowd.lags(told, {"steady": 0.5, "cut": 2.0, "began": 4.0, "ended": 6.0})
        self.assertEqual((2.0, 1.0, 1), (found["p95_ms"], found["before_p95_ms"], found["heard"]))


class IdleRoomsTests(unittest.TestCase):
    """Verdict and table of idle rooms."""

    CASE = {figure: 1.0 for _, figure, _ in idle_rooms.COLUMNS} | {
        "title": "case",
        "refused": 0,
        "is_all_kept": False,
        "faults": [],
    }

    def test_passed(self) -> None:
        """A case within its bounds passes."""
        self.assertEqual([], idle_rooms.faults([self.CASE]))
        text = idle_rooms.markdown([self.CASE], idle_rooms.parse_arguments([]))
        self.assertIn("**PASSED**", text)
        self.assertTrue(text.splitlines()[-1].startswith("| case | 1 | 0 | 1 |"))

    def test_faults(self) -> None:
        """A refused request, too many rooms or bytes, no room, and a lost message fail."""
        for changes, words in (
            ({"refused": 2, "statuses": {202: 1, 503: 2}}, "2 POSTs were refused: {202: 1, 503: 2}"),
            ({"history_rooms": 2}, "2 rooms are more than 1"),
            ({"history_mib": 1.1}, "histories have 1.1 of 1.0 MiB"),
            ({"history_rooms": 0}, "0 rooms were kept"),
            ({"history_rooms": 1, "posts": 2, "is_all_kept": True}, "1 rooms were kept"),
            ({"faults": ["idle/000001 has not kept"]}, "idle/000001 has not kept"),
        ):
            found = idle_rooms.faults([{**self.CASE, **changes}])
            self.assertIn(words, found[0])
            self.assertIn("**FAILED**", idle_rooms.markdown([{**self.CASE, **changes}], idle_rooms.parse_arguments([])))

    def test_unread(self) -> None:
        """Messages of kept rooms are compared, from the oldest kept room to the newest one."""
        requests = mock.Mock()
        options = idle_rooms.parse_arguments(["--rooms", "10", "--size", "9"])

        def answers(asked: list[bytes]) -> list[tuple[int, bytes]]:
            numbers = [int(request.split()[1].partition(b"/idle/")[2][:6]) for request in asked]
            self.assertEqual([7, 8, 9, 9], numbers)
            texts = [idle_rooms.text(number, 9).decode() for number in numbers]
            return [(200, json.dumps({"messages": [{"id": "e-1", "text": text}]}).encode()) for text in texts]

        requests.do = answers
        self.assertEqual([], idle_rooms.unread(requests, 3, options))
        requests.do = lambda asked: [(200, b'{"messages": []}')] * len(asked)
        self.assertIn("idle/000007 has not kept its message", idle_rooms.unread(requests, 3, options)[0])


def test_usage() -> None:
    """Messages that a reader cannot compare, and cases that are not there, are wrong usage."""
    for script, arguments in ((crowd, ["--size", "100"]), (idle_rooms, ["--only", "nothing"])):
        with mock.patch("sys.stderr"), pytest.raises(SystemExit) as raised:
            script.parse_arguments(arguments)
        assert raised.value.code == 2


def run(script: str, folder: Path, words: str) -> Any:
    """Run a script with words of a command line."""
    return live.run(sys.executable, str(SOAK / script), "--results", str(folder), *words.split(), timeout=100)


@pytest.mark.interop
def test_crowd(tmp_path: Path) -> None:
    """A small crowd returns, and each client gets exactly what it missed."""
    words = "--clients 40 --rooms 2 --rate 20 --steady-seconds 0.5 --away-seconds 0.5 --runs 1"
    done = run("crowd", tmp_path, words)
    (found,) = json.loads((tmp_path / "crowd.json").read_text("utf-8"))

    assert done.returncode in (0, 1), done.stdout  # lags are not asserted here
    assert (found["exact"], found["live"], found["faults"]) == (40, 40, [])
    assert found["missed"] > 40
    assert "**median**" in done.stdout


@pytest.mark.interop
def test_crowd_gone(tmp_path: Path) -> None:
    """A crowd whose rooms keep too little is told, and the script says so."""
    words = "--clients 8 --rooms 1 --rate 20 --steady-seconds 0.3 --away-seconds 0.5 --runs 1 --history 1"
    done = run("crowd", tmp_path, words)

    assert done.returncode == 1
    assert "closed with 4410" in done.stdout
    assert "event gap" in done.stdout


@pytest.mark.interop
def test_idle_rooms(tmp_path: Path) -> None:
    """Rooms keep their message, and no request is refused where there is room for fewer."""
    done = run("idle_rooms", tmp_path, "--rooms 300 --only default --only bounded -- --max-rooms 200")
    found = json.loads((tmp_path / "idle_rooms.json").read_text("utf-8"))

    assert done.returncode == 0, done.stdout
    assert [(case["refused"], case["faults"]) for case in found] == [(0, [])] * 2
    assert [0 < case["history_rooms"] <= 200 for case in found] == [True] * 2
