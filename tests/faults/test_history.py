"""Faults of clients that want old messages: crowds that return, unread replays, forged ids, endless readers."""

import json
import tracemalloc
from collections.abc import Callable
from typing import Any, Final

from tests.faults.support import ATTACKED, AttackedRelay, FaultTestCase, closed_with
from tests.harness.http import Response, http_bytes
from tests.harness.streams import Event, chunks, events
from tests.harness.support import RecordingSubscriber, Wire, request_bytes
from tests.wire.test_frames import parse
from wsrelay.message import Run
from wsrelay.rooms.hub import Hub
from wsrelay.settings import Settings
from wsrelay.stats import Stats
from wsrelay.wanted import Wanted

#: History in the attacked room; short, so that nothing is left soon after the end.
HISTORY: Final[dict[str, Any]] = {"http": True, "history": ("attacked=1000",), "history_seconds": 30, "ping_seconds": 0}

#: No limits on the rates of one address: all clients in memory have the same.
UNLIMITED: Final[dict[str, Any]] = {
    "max_connects_per_second_per_address": 0,
    "max_connections_per_address": 0,
    "max_messages_per_second": 0,
    "max_bytes_per_second": 0,
}


def get(query: str, accept: str = "application/json", **fields: str) -> bytes:
    """Return a GET of the attacked room."""
    return http_bytes(f"GET /{ATTACKED}{query}", None, {"Accept": accept, **fields})


class HistoryTestCase(FaultTestCase):
    """Attackers of a room with history."""

    def position(self, relay: AttackedRelay) -> str:
        """Return the position of the attacked room."""
        return str(self.ask(relay, "")["at"])

    def ask(self, relay: AttackedRelay, query: str) -> Any:
        """GET the attacked room."""
        wire = relay.wire()
        wire.send(get(query))
        self.assertEqual(wire.status, 200, wire.received)
        body = json.loads(Response(wire.received).body)
        wire.hang_up()
        return body

    def stream(self, relay: AttackedRelay, query: str, **fields: str) -> tuple[Wire, list[Event]]:
        """Open an event stream; return it, and its first events."""
        wire = relay.wire()
        head, _, body = wire.send(get(query, "text/event-stream", **fields)).partition(b"\r\n\r\n")
        self.assertIn(b" 200 ", head)
        return wire, events(chunks(body)[0])


class ReturnTests(HistoryTestCase):
    """Clients that return at once."""

    def test_history_crowd_returns(self) -> None:
        """A crowd that returns at once gets exactly what it missed, while others talk on."""
        with self.attacked(**HISTORY, **UNLIMITED) as relay:
            publisher = relay.client()
            at = self.position(relay)
            texts = [f"{number} {'x' * 500}" for number in range(100)]
            for number, text in enumerate(texts):
                publisher.say(text)
                if number % 10 == 0:
                    relay.settle()
                    relay.bystanders.exchange()
            relay.settle()
            deflate = {"Sec-WebSocket-Extensions": "permessage-deflate"}
            wires = []
            for number in range(60):
                wires.append(relay.wire())
                fields = deflate if number % 3 == 2 else None
                request = request_bytes(f"/{ATTACKED}?since={at}", fields)
                wires[-1].transport.bufferReceived(request if number % 3 else get(f"?since={at}", "text/event-stream"))
            relay.settle()
            relay.bystanders.exchange()
            live = [f"live {number}" for number in range(3)]
            for text in live:
                publisher.say(text)
            relay.settle()
            for number, wire in enumerate(wires):
                _, _, body = wire.send(b"").partition(b"\r\n\r\n")
                if number % 3 == 0:
                    found = [event.data.decode() for event in events(chunks(body)[0]) if event.kind == "message"]
                elif number % 3 == 1:
                    found = [frame.data.decode() for frame in parse(body)]
                else:
                    self.assertGreater(len(body), 1000)
                    wire.hang_up()
                    continue
                self.assertEqual([text for text in found if not text.startswith("bystander")], texts + live)
                wire.hang_up()
            self.assertEqual(relay.stats.resumes, {"resumed": 60})
            self.assertEqual(relay.factory.hub.replaying, 0)

    def test_history_never_readers(self) -> None:
        """Replays that are not read hold no publisher, cost a log and no queue, and end at slow-seconds."""
        limits = {
            "slow_policy": ("pause-publishers",),
            "slow_seconds": 10,
            "close_seconds": 2,
            "max_message_bytes": 20_000,
            "room_log_bytes": 400_000,
            "history_bytes": 200_000,
        }
        with self.attacked(**HISTORY, **UNLIMITED, **limits) as relay:
            publisher = relay.client()
            at = self.position(relay)
            for _ in range(18):
                publisher.say(b"x" * 10_000)
                relay.settle()
            relay.wait(8)
            wires = [relay.wire() for _ in range(20)]
            for number, wire in enumerate(wires):
                wire.transport.stalled = True
                query = f"?since={at}"
                wire.send(get(query, "text/event-stream") if number % 2 else request_bytes(f"/{ATTACKED}{query}"))
            self.assertEqual(relay.factory.hub.member_count(ATTACKED), 23)
            for second in range(9):
                relay.wait(1)
                publisher.say(b"y" * 10_000)
                relay.settle()
                relay.bystanders.exchange()  # would not arrive from a publisher that is held
                self.assertFalse(relay.factory.hub.status(ATTACKED).held, second)
                self.assertLess(relay.factory.hub.log_bytes, 420_000)
                self.assertEqual(relay.factory.hub.member_count(ATTACKED), 23, second)
            waiting = max(sum(map(len, wire.transport.stream)) for wire in wires)
            self.assertLess(waiting, 200_000)
            relay.wait(8)
            self.assertEqual(relay.factory.hub.member_count(ATTACKED), 3)
            self.assertEqual(relay.stats.evictions, {"pause-publishers": 20})
            relay.wait(25)
            self.assertTrue(all(wire.transport.aborted for wire in wires))


class ForgedTests(HistoryTestCase):
    """Ids and numbers that no relay gave."""

    def test_history_forged_ids(self) -> None:
        """An id that is not one, of another epoch, or of the future is gone: 4410, a gap event, 410."""
        with self.attacked(**HISTORY, **UNLIMITED) as relay:
            at = self.position(relay)
            epoch, _, place = at.rpartition("-")
            for since in (
                "0",
                "-",
                epoch,
                f"{epoch}-",
                f"{epoch}--1",
                f"{epoch}-{'9' * 20}",
                f"{epoch}-{'9' * 5000}",
                f"{epoch}-{int(place) + 1}",
                f"{epoch}-{place}-0-0-0",
                f"{epoch}-0-99",
                f"{epoch.upper()}-x",
                f"zzzzzzzz-{place}",
                "00000000-0",
                f"%20{at}",
                f"{at}%00",
                f"{at}%0a",
                "%F0%9F%98%80",
                "%D9%A3",
                "'; DROP TABLE rooms; --".replace(" ", "%20"),
            ):
                wire = relay.wire()
                answer = wire.send(request_bytes(f"/{ATTACKED}?since={since}"))
                self.assertEqual(wire.status, 101, since)
                self.assertEqual(closed_with(answer.partition(b"\r\n\r\n")[2])[0], 4410, since)
                wire.hang_up()
                wire, found = self.stream(relay, f"?since={since}")
                [gap] = [event for event in found if event.kind == "gap"]
                self.assertEqual(json.loads(gap.data)["why"], "gone", since)
                wire.hang_up()
                wire = relay.wire()
                wire.send(get(f"?since={since}"))
                self.assertEqual(wire.status, 410, since)
                wire.hang_up()
            relay.bystanders.exchange()

    def test_history_invalid_parameters(self) -> None:
        """Numbers that are none, too large, or given twice: H 400, whatever is asked for."""
        with self.attacked(**HISTORY, **UNLIMITED) as relay:
            for query in (
                "last=-1",
                "last=+1",
                "last=1.0",
                "last=1e3",
                "last=1000001",
                "last=" + "9" * 5000,
                "last=x",
                "last=%D9%A3",
                "last=%201",
                "last=1_0",
                "last=1&last=1",
                "since=a&since=a",
                "last=1&since=a&last=2",
                "last=%FF",
                "&".join(f"a{number}=1" for number in range(300)),
            ):
                for request in (
                    request_bytes(f"/{ATTACKED}?{query}"),
                    get(f"?{query}", "text/event-stream"),
                    get(f"?{query}"),
                ):
                    wire = relay.wire()
                    wire.send(request)
                    self.assertEqual(wire.status, 400, query)
            self.assertEqual(self.ask(relay, "?last=0&since=")["messages"], [])

    def test_history_last_event_id(self) -> None:
        """Any bytes in Last-Event-ID: exactly what is missing, or a gap."""
        with self.attacked(**HISTORY, **UNLIMITED) as relay:
            at = self.position(relay)
            relay.bystanders.exchange()
            for value, kinds in (
                (at, ["message", "message"]),
                ("\xff\xfe", ["gap"]),
                (f"{at}, {at}", ["gap"]),
                ("x" * 8000, ["gap"]),
                ("", []),
            ):
                wire, found = self.stream(relay, "", **{"Last-Event-ID": value})
                self.assertEqual([event.kind for event in found if event.kind], kinds, value)
                self.assertTrue(all(event.last_id for event in found))
                wire.hang_up()


class ReaderTests(HistoryTestCase):
    """Clients that read the history over and over."""

    def test_history_read_loop(self) -> None:
        """Reads of the whole history in a loop delay no message, and nothing of them is left."""
        with self.attacked(**HISTORY, **UNLIMITED) as relay:
            publisher = relay.client()
            for number in range(50):
                publisher.say(f"{number} {'x' * 5000}")
            relay.settle()
            for _ in range(100):
                body = self.ask(relay, "?last=1000")
                self.assertEqual([one["text"][:2] for one in body["messages"] if len(one["text"]) > 99][-1], "49")
                relay.bystanders.exchange()
            self.assertEqual(len(relay.factory.connections), 5)
            self.assertLess(relay.factory.hub.log_bytes, 2**20)

    def test_history_read_loop_limited(self) -> None:
        """The limits of an address hold for readers: H 429."""
        with self.attacked(**HISTORY, max_connects_per_second_per_address=10) as relay:
            statuses = set()
            for _ in range(100):
                wire = relay.wire()
                wire.send(get("?last=1000"))
                statuses.add(wire.status if wire.received else 0)
                wire.hang_up()
            self.assertIn(429, statuses)
            relay.bystanders.exchange()
            relay.wait(20)
            relay.bystanders.welcome()

    def test_history_unread_answers(self) -> None:
        """Answers that are not read end after close-seconds, and what they held is free."""
        with self.attacked(**HISTORY, **UNLIMITED, close_seconds=3) as relay:
            publisher = relay.client()
            for _ in range(9):
                publisher.say(b"x" * 90_000)
            relay.settle()
            wires = [relay.wire() for _ in range(40)]
            for wire in wires:
                wire.transport.stalled = True
                wire.send(get("?last=1000"))
            relay.bystanders.exchange()
            relay.wait(5)
            self.assertEqual({wire.transport.aborted for wire in wires}, {True})
            self.assertEqual(sum(len(data) for wire in wires for data in wire.transport.stream), 0)


class IdleRoomTests(FaultTestCase):
    """Rooms with a message, and without members."""

    def test_history_idle_rooms(self) -> None:
        """100 000 idle rooms with one message each: bounded in number and bytes, and no client is refused."""
        stats = Stats()
        calls: list[Callable[[], None]] = []
        hub = Hub(Settings(history=("**=1",), max_rooms=5000), stats, calls.append)
        for number in range(100_000):
            hub.publish(f"room/{number}", Run.text("x" * 100))
            if number % 1000 == 0:
                hub.join(f"member/{number}", RecordingSubscriber())
        self.assertEqual((len(hub), stats.history_rooms), (100, 4900))
        late = RecordingSubscriber()
        hub.join("room/99999", late, wanted=Wanted(last=1))
        for call in calls:
            call()
        self.assertEqual(len(late.writes), 1)
        self.assertEqual(hub.join("room/0", RecordingSubscriber(), wanted=Wanted(last=1)).is_gone, False)
        hub.check()
        hub.tick(1)
        for second in range(310):
            hub.tick(second + 2)
        self.assertEqual((len(hub), stats.history_bytes), (102, 0))

    def test_history_idle_rooms_memory(self) -> None:
        """The bound on all idle histories holds for the memory that they take, not for their messages only."""
        stats = Stats()
        most = 8 * 2**20
        hub = Hub(Settings(history=("**=1",), max_rooms=200_000, history_total_bytes=most), stats, list[Any]().append)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for number in range(20_000):
            hub.publish(f"room/{number}", Run.text("x"))
        used = tracemalloc.get_traced_memory()[0]
        self.assertLessEqual(used, 1.25 * most)
        self.assertGreater(stats.history_rooms, 1000)
        self.assertLess(stats.history_bytes, most + 1)

    def test_history_one_room_never_again(self) -> None:
        """A room that gave way to others is gone for those who return: no hole in silence."""
        hub = Hub(Settings(history=("**=10",), max_rooms=10), Stats(), list[Any]().append)
        hub.publish("mine", Run.text("1"))
        known = hub.histories.at("mine")
        hub.publish("mine", Run.text("2"))
        for number in range(10):
            hub.publish(f"room/{number}", Run.text("x"))
        start = hub.join("mine", RecordingSubscriber(), wanted=Wanted(str(known), known))
        self.assertTrue(start.is_gone)
        assert start.at is not None
        self.assertGreater(start.at, known)
