"""The log model with epochs and histories: clients that go from node to node while the broker loses entries.

The machine of :mod:`tests.backplane.test_log_model`, with the real hub, placer and epochs on each node. A client knows
what it was given, and the id of its last message; it goes to another node with that id. There it is given exactly what
that node has behind the id, or told that it is gone. In the end, each client knows all that was published since it was
told last. Nothing is ever missing in silence.

Not promised, so that nothing is checked any more once it happens (``vague``): a broker whose clock is behind its own
ids, and which then loses entries, without that another server takes over; a node that starts on a promoted server
before one that has used the old one; the end of a node while entries are lost.
"""

from collections import Counter
from math import inf
from types import SimpleNamespace
from typing import Any

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from twisted.trial.unittest import SynchronousTestCase

from tests.backplane.test_log_model import LogMachine, Node, Server, node_numbers, number_of
from wsrelay.backplane.entry import Entry, parse
from wsrelay.backplane.epochs import Epochs
from wsrelay.backplane.inbox import Verdict
from wsrelay.backplane.placer import Placer
from wsrelay.message import Run
from wsrelay.message_id import MessageId
from wsrelay.rooms.hub import Hub
from wsrelay.rooms.timeline import Timeline
from wsrelay.settings import Settings
from wsrelay.stats import Stats
from wsrelay.wanted import Wanted

#: How long a node waits for those that send again.
GRACE_SECONDS = 15.0

#: What the restart of a broker takes at least; more than a tick of its clock.
RESTART_SECONDS = 0.11

ROOM = "x"
SETTINGS = Settings(history=("100000",), history_seconds=0.0)

#: A publisher, and the number of its message.
Message = tuple[str, int]


class Client:
    """A client with what it knows.

    Attributes:
        node: where it is.
        cursor: the id of its last message, or where it started.
        since: number of the event since when it is owed all messages.
        known: what it was given.
    """

    def __init__(self, node: "HistoryNode") -> None:
        self.start(node)

    def start(self, node: "HistoryNode") -> None:
        """Fetch the state anew: everything up to now is known."""
        self.node = node
        self.cursor = node.hub.histories.at(ROOM)
        self.since = node.world.count()
        self.known: set[Message] = set()

    def take(self, identity: MessageId, message: Message) -> None:
        """Take a message."""
        assert message not in self.known or self.node.world.lossy, f"doubled: {message}"
        self.known.add(message)
        self.cursor = identity


class HistoryNode(Node):
    """A node whose room has a history.

    Attributes:
        kept: ids and messages, as the room got them since it knows all.
    """

    world: "HistoryMachine"

    def __init__(self, name: str, world: "HistoryMachine") -> None:
        super().__init__(name, world)
        self.seconds = lambda: world.now
        self.stats = Stats()
        self.hub = Hub(SETTINGS, self.stats, lambda _: None)
        self.timeline = Timeline("")
        self.hub.histories.timeline_of = lambda _: self.timeline
        self.epochs = Epochs(self.timeline, world.below)
        relay: Any = SimpleNamespace(reactor=self, hub=self.hub, stats=self.stats, settings=SETTINGS)
        #: It knows no own entries: what becomes of them is a matter of the machine.
        self.placer = Placer("", self.outbox, self.epochs, self.timeline, relay, lambda _: True)
        self.kept: list[tuple[MessageId, Message]] = []
        self.reading: Entry | None = None
        publish = self.hub.publish

        def record(room: str, run: Run) -> None:
            publish(room, run)
            assert self.reading
            assert run.id
            message = self.reading.node, number_of(run.plain)
            self.kept.append((run.id, message))
            for client in world.clients:
                if client.node is self:
                    client.take(run.id, message)

        self.hub.publish = record  # type: ignore[method-assign]
        self.where: int | None = None

    def connect(self, server: Server) -> None:
        """Also: a loss makes another epoch."""
        newest, at = self.outbox.newest_id, self.cursor
        found = [item.fields for item in server.log if item.id == newest]
        has_lost = newest is not None and not (found and self.outbox.is_newest(found[0]))
        has_lost |= at is not None and at not in server.log
        has_lost |= self.where not in (None, server.where)
        self.where = server.where
        super().connect(server)
        assert self.inbox
        if has_lost:
            last, running = self.inbox.last_of(-inf), [node.name for node in self.world.nodes]
            self.placer.lose({name: last[name] for name in running if name in last}, self.world.now + GRACE_SECONDS)

    def learn(self, server: Server) -> None:
        """Also: what the stream has goes to the room."""
        assert self.inbox
        self.world.note_start(server)
        for item in server.log:
            entry = parse(item.fields)
            verdict = self.inbox.learn(entry)
            if verdict is Verdict.LEARNED_GAP:
                self.kept.clear()
            self.place(item.id, entry, verdict, server.log[-1].id)

    def place(self, identity: Any, entry: Entry, verdict: Verdict, last: Any = None) -> None:
        """Deliver an entry."""
        self.reading = entry
        for _ in self.placer.deliver(identity, entry, verdict, last):
            pass

    def send(self, heartbeat: bool) -> None:
        """Entries carry the epoch."""
        super().send(heartbeat)
        if self.command and b"e" not in self.command[::2] and self.epochs.stamp:
            self.command += [b"e", self.epochs.stamp.encode()]

    def accept(self, entry: Entry, verdict: Verdict, delay: float) -> None:
        """Also: deliver it to the room; after a gap, clients fetch the state anew."""
        assert self.cursor
        if verdict is Verdict.GAP:
            self.placer.miss(self.cursor.id)
            self.hub.miss(lambda _: True)
        if verdict in (Verdict.GAP, Verdict.LEARNED_GAP):
            self.kept.clear()
        self.place(self.cursor.id, entry, verdict)
        super().accept(entry, verdict, delay)
        was_private = bool(self.epochs._owed)
        self.epochs.tick(self.world.now)
        self.world.vague |= was_private and not bool(self.epochs._owed)  # it does not wait any longer
        if verdict in (Verdict.GAP, Verdict.LEARNED_GAP):
            for client in self.world.clients:
                if client.node is self:
                    client.start(self)


def largest_epoch(server: Server) -> str:
    """Return the largest epoch in a log."""
    return max([parse(item.fields).epoch for item in server.log], default="")


class HistoryMachine(LogMachine):
    """Clients; see the module."""

    nodes: list[HistoryNode]  # type: ignore[assignment]

    def __init__(self) -> None:
        self.vague = False
        self.numbers = 0
        self.outcomes: Counter[str] = Counter()
        self.clients: list[Client] = []
        #: By publisher, the number of the event of each message.
        self.published: dict[str, list[int]] = {}
        #: Addresses of servers that took over → the largest epoch in their log then.
        self.promoted: dict[int, str] = {}
        super().__init__()

    def below(self, bound: int) -> int:
        """Return another number each time."""
        self.numbers += 1
        return self.numbers * 7919 % bound

    def node(self) -> HistoryNode:
        """Make a node."""
        self.names += 1
        return HistoryNode(f"n{self.names}", self)

    def note_start(self, server: Server) -> None:
        """A new node reads."""
        self.vague |= self.promoted.get(server.where) == largest_epoch(server)

    @invariant()
    def note_published(self) -> None:
        """Note when messages were published."""
        for node in self.nodes:
            events = self.published.setdefault(node.name, [])
            while len(events) < len(node.published):
                events.append(self.count())

    @rule(number=node_numbers)
    def catch_up(self, number: int) -> None:
        """A node sends all that it has, and reads all that there is."""
        node = self.nodes[number]
        if node.server is None:
            node.connect(self.master)
        self.drain(node, heartbeat=True)
        node.read(len(self.master.log))

    @rule(number=node_numbers)
    def join(self, number: int) -> None:
        """A client comes, once a node is up."""
        node = self.nodes[number]
        if not node.timeline.epoch:
            self.catch_up(number)
        if node.timeline.epoch and len(self.clients) < 4:
            self.clients.append(Client(node))

    @precondition(lambda self: self.clients)
    @rule(number=node_numbers, which=st.integers(0, 3), catches_up=st.booleans())
    def move(self, number: int, which: int, catches_up: bool) -> None:
        """A client goes to another node, or comes back to its own."""
        if catches_up:
            self.catch_up(number)
        if self.nodes[number].timeline.epoch:
            self.go(self.clients[which % len(self.clients)], self.nodes[number])

    def go(self, client: Client, node: HistoryNode) -> None:
        """A client goes to a node."""
        cursor = MessageId.parse(str(client.cursor))
        reading = node.hub.read(ROOM, Wanted(str(cursor), cursor))
        self.outcomes["gone" if reading is None else "resumed"] += 1
        if reading is None:
            client.start(node)
            return
        behind = [(identity, message) for identity, message in node.kept if identity > cursor]
        found = [(run.id, number_of(run.plain)) for run in reading.messages]
        assert found == [(identity, number) for identity, (_, number) in behind]
        client.node = node
        for identity, message in behind:
            client.take(identity, message)
        client.cursor = reading.at

    @rule(number=node_numbers)
    def restart(self, number: int) -> None:
        """A node is killed; its clients go on with what they know."""
        node = self.nodes[number]
        self.vague |= self.lossy and not self.has_all(self.master, node)
        super().restart(number)

    def has_all(self, server: Server, node: Node) -> bool:
        """Return whether a server has the last entry that a node has sent, or the node has sent none."""
        entries = [parse(item.fields) for item in server.log]
        return not node.outbox._seq or (node.name, node.outbox._seq) in [(entry.node, entry.seq) for entry in entries]

    def fail(self, server: Server, splits: bool) -> None:
        """Replace the master. Entries that it lacks do not come again where their node is gone."""
        lost = self.master
        self.vague |= any(self.has_all(lost, node) and not self.has_all(server, node) for node in self.stopped)
        if server.where != lost.where:
            self.promoted[server.where] = largest_epoch(server)
        else:
            self.lose_ids()
        self.now += RESTART_SECONDS
        super().fail(server, splits)

    def lose_ids(self) -> None:
        """Ids of the master may be given again, if its clock is behind them."""
        self.vague |= self.master.last.milliseconds > int(self.now * 1000) + self.master.skew

    @precondition(lambda self: not self.heals)
    @rule()
    def flush(self) -> None:
        """FLUSHALL: no connection is lost."""
        self.lose_ids()
        self.now += RESTART_SECONDS
        super().flush()

    def teardown(self) -> None:
        """In the end, each client knows all that was published since it was told last."""
        self.note_published()
        super().teardown()
        for client in self.clients:
            if client.node not in self.nodes:
                self.go(client, self.nodes[0])
            for node in self.nodes:
                events = self.published[node.name]
                owed = {(node.name, number) for number, at in enumerate(events) if at > client.since}
                assert self.vague or owed <= client.known, f"{client.node.name} has not told: {owed - client.known}"


TestHistory = HistoryMachine.TestCase
TestHistory.settings = hypothesis_settings(max_examples=60, stateful_step_count=60, deadline=None)


class OrderTests(SynchronousTestCase):
    """Losses after which nodes have messages in different orders; too long for random examples."""

    def setUp(self) -> None:
        """Start three nodes, with a client on the third."""
        self.machine = machine = HistoryMachine()
        for number in (0, 1, 2, 0, 1, 2):
            machine.catch_up(number=number)
        machine.join(number=2)
        [self.client] = machine.clients

    def lose(self) -> None:
        """The first node publishes; the second one reads that before the broker loses it, the third one does not."""
        machine = self.machine
        machine.post(number=0, count=1)
        machine.note_published()
        machine.nodes[1].read(10)
        machine.crash(entries=1)
        machine.catch_up(number=2)
        machine.catch_up(number=1)

    def step(self) -> None:
        """The client gets a message."""
        self.machine.post(number=2, count=1)
        self.machine.note_published()
        self.machine.nodes[2].read(10)

    def test_lost_and_not_sent_again(self) -> None:
        """What the second node has, and the client has not, comes later on its own node: it cannot go on there."""
        self.lose()
        self.step()
        self.machine.move(number=1, which=0, catches_up=True)
        self.assertGreater(self.client.since, self.machine.published["n1"][0])
        self.machine.teardown()

    def test_sent_again(self) -> None:
        """Once it has come again, clients go on everywhere."""
        self.lose()
        for number in (0, 1, 2, 0, 1, 2):
            self.machine.catch_up(number=number)
        self.step()
        for number in (0, 1, 2, 1):
            self.machine.move(number=number, which=0, catches_up=True)
            self.step()
        self.assertLess(self.client.since, self.machine.published["n1"][0])
        self.assertFalse(self.machine.vague)
        self.machine.teardown()
