"""wsrelay.rooms.idle: rooms without members that stay open for their history."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import EPOCH, RecordingSubscriber
from wsrelay.errors import TooManyRooms
from wsrelay.message import Run
from wsrelay.message_id import MessageId
from wsrelay.rooms.hub import Hub
from wsrelay.rooms.idle import ROOM_BYTES
from wsrelay.settings import Settings
from wsrelay.stats import Stats
from wsrelay.wanted import Start, Wanted


def at(*place: int) -> MessageId:
    """Return an id."""
    return MessageId(EPOCH, place)


def since(*place: int) -> Wanted:
    """Return the wish for what is behind an id."""
    return Wanted("since", at(*place))


def rooms(hub: Hub) -> list[str]:
    """Return the names of all rooms, those with members first."""
    return [*hub, *hub._idle.rooms]


class IdleTests(SynchronousTestCase):
    """Idle rooms of a hub."""

    def hub(self, **settings: Any) -> Hub:
        """Return a hub in which all rooms have a history of ten minutes, at 1000 s."""
        self.stats = Stats()
        hub = Hub(Settings(history=("9",), history_seconds=600, **settings), self.stats, lambda call: None, epoch=EPOCH)
        hub.tick(1000)
        return hub

    def publish(self, hub: Hub, *rooms: str) -> None:
        """Publish a message to each room."""
        for room in rooms:
            hub.publish(room, Run.text("x"))
            hub.check()

    def test_publish_opens(self) -> None:
        """A message opens a room; it is there for the first member."""
        hub = self.hub()
        self.publish(hub, "room", "room")
        self.assertEqual((rooms(hub), self.stats.history_rooms), (["room"], 1))
        member = RecordingSubscriber()
        self.assertEqual(hub.join("room", member, wanted=since(1)), Start(at(1)))
        hub.flush()
        self.assertEqual((member.data, hub.replaying), (Run.text("x").plain, 0))
        self.assertEqual((self.stats.history_rooms, self.stats.history_bytes, self.stats.replayed_messages), (0, 0, 1))
        hub.check()

    def test_too_old(self) -> None:
        """An idle room is closed when its messages are too old; a new message prolongs that."""
        hub = self.hub()
        self.publish(hub, "one", "other")
        hub.tick(1500)
        self.publish(hub, "one")
        hub.tick(1601)
        self.assertEqual(rooms(hub), ["one"])
        hub.tick(2101)
        self.assertEqual((rooms(hub), self.stats.history_bytes, self.stats.log_bytes), ([], 0, 0))

    def test_no_limit(self) -> None:
        """Without a limit on age a room stays."""
        hub = Hub(Settings(history=("9",), history_seconds=0), Stats(), lambda call: None)
        self.publish(hub, "one")
        hub.tick(1e9)
        self.assertEqual(rooms(hub), ["one"])

    def test_nothing_left(self) -> None:
        """A room whose last member leaves is closed at once if there is no message left."""
        hub = self.hub()
        for name, seconds in (("empty", 0), ("old", 601)):
            hub.join(name, member := RecordingSubscriber())
            if seconds:
                self.publish(hub, name)
                hub.flush()
            hub.tick(1000 + seconds)
            hub.leave(member)
            hub.check()
            self.assertEqual(rooms(hub), [])

    def test_opened_again(self) -> None:
        """A room that was closed knows nothing of before: ids from then are gone, and new ones are larger."""
        hub = self.hub()
        self.publish(hub, "one", "one")
        hub.tick(5000)
        self.assertEqual(hub.join("one", RecordingSubscriber(), wanted=since(1)), Start(at(2), True))
        self.assertEqual(hub.join("one", RecordingSubscriber(), wanted=since(2)), Start(at(2)))
        self.publish(hub, "one")
        self.assertEqual(hub.histories.at("one"), at(3))

    def test_fresh_position(self) -> None:
        """The position of a room that is not open stays good when other rooms are closed."""
        hub = self.hub()
        self.publish(hub, "busy", "busy", "busy")
        position = hub.histories.at("fresh")
        hub.tick(5000)
        self.assertEqual(rooms(hub), [])
        self.publish(hub, "fresh")
        self.assertEqual(hub.join("fresh", RecordingSubscriber(), wanted=Wanted("it", position)), Start(position))

    def test_total_bytes(self) -> None:
        """All idle rooms are bounded together; the one that is idle for longest goes first."""
        hub = self.hub(history_total_bytes=3 * (ROOM_BYTES + Run.text("x").size_bytes))
        self.publish(hub, "a", "b", "c", "a", "d")
        self.assertEqual(rooms(hub), ["a", "d"])  # two messages, and one

    def test_total_bytes_without_budget(self) -> None:
        """The bound is a share of the memory budget, and not none without one."""
        for budget, most in ((16 * (ROOM_BYTES + Run.text("x").size_bytes), 4), (0, 10)):
            hub = self.hub(memory_budget=budget, max_message_bytes=1000)
            self.publish(hub, *map(str, range(10)))
            self.assertEqual(len(rooms(hub)), most)

    def test_max_rooms(self) -> None:
        """Idle rooms give their places to others, and refuse nobody."""
        hub = self.hub(max_rooms=2)
        self.publish(hub, "a", "b", "c")
        self.assertEqual(rooms(hub), ["b", "c"])
        hub.join("d", RecordingSubscriber())
        hub.join("e", RecordingSubscriber())
        self.assertEqual((rooms(hub), hub.is_full), (["d", "e"], True))
        hub.check()
        self.assertRaises(TooManyRooms, hub.check_publish, "f")
        hub.check_publish("d")

    def test_no_place(self) -> None:
        """Where rooms with members have all places, a message of another node is missing, and that is known."""
        hub = self.hub(max_rooms=1)
        hub.join("a", member := RecordingSubscriber())
        for run in (Run.text("x"), Run.text("y")):
            hub.publish("b", run)
            self.assertEqual(rooms(hub), ["a"])
            run.id = at(6)
            hub.publish("b", run)
        hub.leave(member)
        self.assertEqual(hub.join("b", RecordingSubscriber(), wanted=since(5)), Start(at(6), True))

    def test_free(self) -> None:
        """When memory is short, idle rooms are closed, the oldest first, then living ones forget their history."""
        hub = self.hub()
        hub.join("living", RecordingSubscriber())
        self.publish(hub, "living")
        hub.flush()
        self.publish(hub, "a", "b", "c")
        one = ROOM_BYTES + Run.text("x").size_bytes
        self.assertEqual((hub.free(one + 1), rooms(hub)), (2 * one, ["living", "c"]))
        self.assertEqual((hub.free(0), rooms(hub)), (0, ["living", "c"]))
        self.assertEqual((hub.free(1e9), rooms(hub)), (one + Run.text("x").size_bytes, ["living"]))
        hub.check()

    def test_drop(self) -> None:
        """Rooms that are filled again are closed, and what is read then counts: the floor stays."""
        hub = self.hub()
        hub.join("living", RecordingSubscriber())
        self.publish(hub, "a", "b")
        hub.drop_idle(lambda name: name != "b")
        self.assertEqual((rooms(hub), hub.histories.at("a")), (["living", "b"], at(2)))
        self.assertEqual(hub.read("a", since(0)), (at(2), [], True))
        hub.check()

    def test_shed(self) -> None:
        """A room whose only member is evicted, and with it the messages that it needed, is closed."""
        hub = self.hub()
        hub.join("room", slow := RecordingSubscriber())
        hub.pause(slow)
        self.publish(hub, "room")
        hub.flush()
        slow.evict = lambda reason: hub.leave(slow)  # type: ignore[assignment]  # as a connection does
        hub.shed(slow)
        hub.check()
        self.assertEqual((rooms(hub), self.stats.history_bytes), ([], 0))

    def test_stalled(self) -> None:
        """A room without members keeps its history when slow ones are looked for."""
        hub = self.hub()
        hub.join("room", slow := RecordingSubscriber())
        self.publish(hub, "room")
        hub.pause(slow)
        hub.flush()
        hub.leave(slow)
        self.assertEqual([room.stalled() for room in hub.lagging], [[]])
        hub.check()
        self.assertEqual(rooms(hub), ["room"])
