"""Nodes that share a broker's log, against all that brokers and networks do to it.

The nodes are what :mod:`wsrelay.backplane.redis` makes of an outbox and an inbox, without connections and timers. The
brokers lose any suffix or everything, are replaced by a replica that is behind and has another clock, go on as a second
master, execute the command of a connection after its node has a new one, refuse commands, trim what is unread. Nodes
start, stop, freeze (another rule is chosen) and lose connections at any time.

The model knows what each reader is owed: the messages published after it started. They are delivered once and in the
order of their node, or a gap is reported before the next entry of that node is delivered. A gap is reported only if
the publisher is gone, its window too short, or the loss one that no connection shows (FLUSHALL, trimmed unread).

For many more examples than here, raise the two numbers at the end.
"""

from collections import deque
from dataclasses import dataclass, field
from math import inf

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wsrelay.backplane.entry import Entry, Id, parse, unpack
from wsrelay.backplane.inbox import Inbox, Verdict
from wsrelay.backplane.outbox import WINDOW_SECONDS, Batch, Outbox
from wsrelay.message import Run

#: Nodes at a time.
NODES = 3
#: The time at first.
START = 1000.0
#: The resolution of the brokers' clocks: so coarse that an id that was lost is often given again.
TICK_MS = 100
#: How long the log keeps entries.
KEPT_SECONDS = 60.0

#: Ages are rounded down to ms; time goes on by 2 ms.
ROUNDING_SECONDS = 0.003

node_numbers = st.integers(0, NODES - 1)


def number_of(plain: bytes) -> int:
    """Return the number in a message's frame."""
    return int(plain[2:])


@dataclass(frozen=True)
class Item:
    """An entry in a stream: id, fields, and when the command was executed."""

    id: Id
    fields: list[bytes]
    at: float = field(compare=False)


class Server:
    """A broker's process with its stream.

    Attributes:
        log: the stream.
        last: the newest id that it gave.
        skew: of its clock, in ms.
        where: its address; a promoted one has another.
        late: commands of connections that their nodes have given up.
        alive: ``False``: all connections to it are gone.
    """

    def __init__(self, log: list[Item], skew: int = 0, where: int = 0) -> None:
        self.log = list(log)
        self.last = log[-1].id if log else Id(0, 0)
        self.skew = skew
        self.where = where
        self.late: list[list[bytes]] = []
        self.alive = True

    def add(self, fields: list[bytes], now: float) -> Id:
        """XADD."""
        milliseconds = int(now * 1000 / TICK_MS) * TICK_MS + self.skew
        last = self.last
        self.last = Id(milliseconds, 0) if milliseconds > last.milliseconds else Id(last[0], last[1] + 1)
        self.log.append(Item(self.last, fields, now))
        return self.last

    def lose(self, entries: int) -> None:
        """Lose the newest entries."""
        del self.log[max(0, len(self.log) - entries) :]
        self.last = self.log[-1].id if self.log else Id(0, 0)


@dataclass
class Sent:
    """An entry as the model knows it.

    Attributes:
        first: number of its node's first message that is in no entry before it.
        messages: numbers of its messages.
        sent_at: when it was sent first.
        acknowledged: the number of the event of its first acknowledgement.
    """

    first: int
    messages: list[int]
    sent_at: float
    acknowledged: float = inf


class Node:
    """A node: outbox, inbox, cursor, and the connections to one server.

    Attributes:
        server: ``None``: not connected.
        command: sent and not executed.
        reply: the id of the executed command, on its way.
        started: the number of the event of its start to read.
        owed: by publisher, the numbers of messages that it must deliver, or tell of.
        delivered: publisher and number of messages.
    """

    def __init__(self, name: str, world: "LogMachine") -> None:
        self.name = name
        self.world = world
        self.outbox = Outbox(name)
        self.inbox: Inbox | None = None
        self.cursor: Item | None = None
        self.server: Server | None = None
        self.command: list[bytes] | None = None
        self.reply: tuple[Id, Sent] | None = None
        self.flying: Sent | None = None
        self.published: list[Run] = []
        self.packed = 0
        self.started = inf
        self.started_at = inf
        self.owed: dict[str, deque[int]] = {}
        self.delivered: list[tuple[str, int]] = []

    def connect(self, server: Server) -> None:
        """Open the pair of connections, check both ends of what is known, and start to read on the first time."""
        self.server = server
        if self.inbox is None:
            self.inbox = Inbox(self.world.now)
            self.started, self.started_at = self.world.count(), self.world.now
            self.learn(server)
            self.cursor = server.log[-1] if server.log else None
        elif self.cursor not in server.log:
            self.cursor = None
        newest = self.outbox.newest_id
        if newest is not None:
            found = [item.fields for item in server.log if item.id == newest]
            if not found or not self.outbox.is_newest(found[0]):
                self.outbox.rewind()

    def learn(self, server: Server) -> None:
        """Note what the stream has at the start."""
        assert self.inbox
        for item in server.log:
            self.inbox.learn(parse(item.fields))

    def cut(self, late: bool) -> None:
        """Lose the connections; a command that was not executed may still be."""
        if self.server and self.command and late:
            self.server.late.append(self.command)
        self.server = self.command = self.reply = self.flying = None
        self.outbox.lost()

    def publish(self) -> None:
        """Publish a message."""
        number = len(self.published)
        run = Run.text(str(number), object())
        self.published.append(run)
        self.outbox.add("x", run)
        for node in self.world.running():
            if node.inbox:
                node.owed.setdefault(self.name, deque()).append(number)

    def send(self, heartbeat: bool) -> None:
        """Send the next entry."""
        assert self.server
        entry = self.outbox.next(self.world.now, heartbeat=heartbeat)
        if entry is None:
            return
        key = entry.node, entry.seq
        if key not in self.world.sent:
            numbers = [number_of(record.plain) for record in unpack(entry.blob)]
            self.world.sent[key] = Sent(self.packed, numbers, self.world.now)
            self.packed += len(numbers)
        self.flying = self.world.sent[key]
        self.command = [item if isinstance(item, bytes) else str(item).encode() for item in entry.fields()]

    def serve(self) -> None:
        """Execute the command."""
        assert self.server
        assert self.command
        assert self.flying
        self.reply = self.server.add(self.command, self.world.now), self.flying
        self.command = self.flying = None

    def answer(self) -> None:
        """Receive the reply."""
        assert self.reply
        entry_id, sent = self.reply
        if sent.acknowledged == inf:
            sent.acknowledged = self.world.count()
        self.outbox.acknowledged(entry_id, self.world.now)
        self.reply = None

    def read(self, count: int) -> None:
        """Read some entries behind the cursor."""
        assert self.server
        assert self.inbox
        after = self.cursor.id if self.cursor else Id(0, 0)
        for item in [item for item in self.server.log if item.id > after][:count]:
            self.cursor = item
            entry = parse(item.fields)
            self.accept(entry, self.inbox.accept(entry, self.world.now), self.world.now - item.at)

    def accept(self, entry: Entry, verdict: Verdict, delay: float) -> None:
        """Compare a verdict with what this reader is owed; the entry was in the log for ``delay`` seconds."""
        sent = self.world.sent[entry.node, entry.seq]
        owed = self.owed.setdefault(entry.node, deque())
        if verdict in (Verdict.DUPLICATE, Verdict.LEARNED, Verdict.LEARNED_GAP):
            assert not owed or owed[0] > max(sent.messages, default=sent.first - 1), f"lost in silence: {entry}"
            return
        if verdict is Verdict.GAP:
            assert self.world.may_have_gaps(entry.node), f"not healed, or no gap: {entry}"
        while owed and owed[0] < sent.first:
            assert verdict is Verdict.GAP, f"lost in silence: {owed[0]} before {entry}"
            owed.popleft()
        if entry.node == self.name:
            batch = self.outbox.take(entry.seq)
            assert batch is not None, f"own messages are gone: {entry}"
            self.check_own(batch, sent.messages)
        told = verdict is Verdict.GAP or sent.sent_at + delay + ROUNDING_SECONDS > self.started_at
        for number in sent.messages:
            self.deliver(entry, number, told or sent.acknowledged > self.started)

    def check_own(self, batch: Batch, numbers: list[int]) -> None:
        """Own runs are the same objects as those that were published."""
        assert [id(run) for _, run in batch] == [id(self.published[number]) for number in numbers]

    def deliver(self, entry: Entry, number: int, may_be_old: bool) -> None:
        """Deliver a message."""
        before = [old for node, old in self.delivered if node == entry.node]
        assert not before or before[-1] < number, f"doubled or out of order: {entry}"
        owed = self.owed[entry.node]
        if owed and owed[0] == number:
            owed.popleft()
        else:
            assert may_be_old, f"from before the start: {entry}"
        self.delivered.append((entry.node, number))


class LogMachine(RuleBasedStateMachine):
    """Nodes and brokers; see the module."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.events = 0
        self.names = 0
        self.lossy = self.unhealable = self.heals = False
        self.sent: dict[tuple[str, int], Sent] = {}
        self.master = Server([])
        self.others: list[Server] = []
        self.replica: list[Item] = []
        self.nodes = [self.node() for _ in range(NODES)]
        self.stopped: list[Node] = []

    @initialize(heals=st.booleans())
    def choose(self, heals: bool) -> None:
        """Choose whether all that happens can be healed, so that no gap hides a fault."""
        self.heals = heals

    def node(self) -> Node:
        """Make a node."""
        self.names += 1
        return Node(f"n{self.names}", self)

    def running(self) -> list[Node]:
        """Return the nodes that run."""
        return self.nodes

    def may_have_gaps(self, publisher: str) -> bool:
        """Return whether a gap of this node may be reported: it is gone, or more happened than its window heals."""
        is_gone = publisher not in [node.name for node in self.nodes]
        return is_gone or self.unhealable or self.now > START + WINDOW_SECONDS

    def servers(self) -> list[Server]:
        """Return the brokers that are alive."""
        return [self.master, *self.others]

    @invariant()
    def go_on(self) -> None:
        """Time goes on."""
        self.now += 0.002

    def count(self) -> int:
        """Number what happens."""
        self.events += 1
        return self.events

    @rule(number=node_numbers)
    def connect(self, number: int) -> None:
        """A node connects to the master."""
        if self.nodes[number].server is None:
            self.nodes[number].connect(self.master)

    @rule(number=node_numbers, late=st.booleans())
    def cut(self, number: int, late: bool) -> None:
        """A node loses its connections, or gives them up; also after an error reply."""
        self.nodes[number].cut(late)

    @rule(number=node_numbers)
    def publish(self, number: int) -> None:
        """A client of a node publishes."""
        self.nodes[number].publish()

    @rule(number=node_numbers, heartbeat=st.booleans())
    def send(self, number: int, heartbeat: bool) -> None:
        """A node sends an entry, if it has one and none is in flight."""
        if self.nodes[number].server:
            self.nodes[number].send(heartbeat)

    @rule(number=node_numbers)
    def serve(self, number: int) -> None:
        """The broker executes a command."""
        if self.nodes[number].command:
            self.nodes[number].serve()

    @rule(number=node_numbers)
    def answer(self, number: int) -> None:
        """A node receives the reply."""
        if self.nodes[number].reply:
            self.nodes[number].answer()

    @rule(number=node_numbers, count=st.integers(1, 3))
    def post(self, number: int, count: int) -> None:
        """A node publishes, and gets its acknowledgements."""
        node = self.nodes[number]
        if node.server is None:
            node.connect(self.master)
        for _ in range(count):
            node.publish()
            self.drain(node, heartbeat=False)

    def drain(self, node: Node, heartbeat: bool) -> None:
        """Send, execute and acknowledge all that a node has."""
        while True:
            if not (node.command or node.reply):
                node.send(heartbeat)
                heartbeat = False
            if node.command:
                node.serve()
            if not node.reply:
                return
            node.answer()

    @rule(number=node_numbers, count=st.integers(1, 20))
    def read(self, number: int, count: int) -> None:
        """A node reads."""
        if self.nodes[number].server:
            self.nodes[number].read(count)

    @rule(number=node_numbers)
    def restart(self, number: int) -> None:
        """A node is killed; another takes its place."""
        self.nodes[number].cut(late=True)
        self.stopped.append(self.nodes[number])
        self.nodes[number] = self.node()

    @precondition(lambda self: not self.heals)
    @rule(seconds=st.sampled_from([0.001, 0.5, 3.0, 12.0, 70.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule(data=st.data())
    def execute_late(self, data: st.DataObject) -> None:
        """A broker executes a command of an old connection."""
        server = data.draw(st.sampled_from(self.servers()))
        if server.late:
            server.add(server.late.pop(0), self.now)

    @rule()
    def replicate(self) -> None:
        """The replica catches up with the master."""
        self.replica = list(self.master.log)

    def fail(self, server: Server, splits: bool) -> None:
        """Replace the master; the old one dies, or goes on with the nodes that it has."""
        self.lossy = True
        if splits:
            self.others.append(self.master)
        else:
            self.kill(self.master)
        self.master = server

    def kill(self, server: Server) -> None:
        """End a broker's process, with its connections and their commands."""
        for node in self.nodes:
            if node.server is server:
                node.cut(late=False)

    @rule(skew=st.sampled_from([-30000, -3000, -100, 0, 100, 3000]), splits=st.booleans())
    def fail_over(self, skew: int, splits: bool) -> None:
        """The replica is promoted."""
        self.fail(Server(self.replica, skew, self.master.where + 1), splits)

    @precondition(lambda self: self.others)
    @rule()
    def end_split(self) -> None:
        """The old masters end."""
        for server in self.others:
            self.kill(server)
        self.others.clear()

    @rule(entries=st.integers(0, 8))
    def crash(self, entries: int) -> None:
        """The master restarts without its newest entries."""
        server = Server(self.master.log, self.master.skew, self.master.where)
        server.lose(entries)
        self.fail(server, splits=False)

    @rule()
    def lose_all(self) -> None:
        """The master restarts without anything."""
        self.fail(Server([], self.master.skew, self.master.where), splits=False)

    @precondition(lambda self: not self.heals)
    @rule()
    def flush(self) -> None:
        """FLUSHALL: no connection is lost."""
        self.lossy = self.unhealable = True
        self.master.lose(len(self.master.log))

    @precondition(lambda self: not self.heals)
    @rule()
    def trim(self) -> None:
        """Old entries are dropped."""
        log = self.master.log
        kept = [item for item in log if item.id >= log[-1].id.earlier(KEPT_SECONDS)]
        self.unhealable |= kept != log
        self.master.log = kept

    @precondition(lambda self: not self.heals)
    @rule(entries=st.integers(1, 5))
    def trim_bytes(self, entries: int) -> None:
        """The log is too long."""
        self.unhealable = True
        del self.master.log[:entries]

    def teardown(self) -> None:
        """Everything works again: then nothing is owed."""
        self.end_split()
        while self.master.late:
            self.master.add(self.master.late.pop(0), self.now)
        for node in self.nodes:
            node.cut(late=False)
            node.connect(self.master)
        for node in self.nodes * 2:
            self.drain(node, heartbeat=True)
        for node in self.nodes:
            node.read(len(self.master.log))
        for node in self.nodes:
            for publisher in self.nodes:
                assert not node.owed.get(publisher.name), f"{node.name} is owed by {publisher.name}"
            assert node.outbox.pending_bytes == 0
            assert node.outbox.unread_since is None
        if not (self.lossy or self.unhealable):
            self.check_order()

    def check_order(self) -> None:
        """Without losses, all readers have one order."""
        for one in self.nodes:
            for other in self.nodes:
                common = set(one.delivered) & set(other.delivered)
                assert [item for item in one.delivered if item in common] == [
                    item for item in other.delivered if item in common
                ]


TestLog = LogMachine.TestCase
TestLog.settings = hypothesis_settings(max_examples=60, stateful_step_count=60, deadline=None)
