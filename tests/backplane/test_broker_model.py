"""Any order of faults of the broker.

Within the bounds of the promise (less than ten seconds in all, so that what the broker loses is still in the window of
its publisher, and less than the grace) each message reaches each other member once, in its publisher's order. Beyond
them messages may be lost, but members never see a hole: they are closed before.
"""

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.backplane import BrokerTestCase
from wsrelay.backplane.state import State

#: The longest sequence in seconds: 16 steps with half a second at most.
STEPS = 16

says = st.tuples(st.just("say"), st.integers(0, 3), st.integers(1, 3))
waits = st.tuples(st.just("wait"), st.sampled_from([0.0, 0.05, 0.25, 0.5]))
faults = st.sampled_from(
    [
        ("cut",),
        ("cut one", 0),
        ("cut one", 1),
        ("cut one", 2),
        ("cut one", 3),
        ("restart", 0),
        ("restart", 1),
        ("restart", 5),
        ("restart", None),
        ("pause",),
        ("resume", 1),
        ("resume", -1),
        ("lose answers",),
        ("blind",),
        ("refuse",),
        ("mend",),
        ("down",),
        ("clock", -30_000),
        ("clock", 30_000),
    ]
)
steps = st.lists(says | waits | faults, max_size=STEPS)
long_waits = st.tuples(st.just("wait"), st.sampled_from([0.0, 0.25, 1.0, 3.0, 6.0]))
long_steps = st.lists(says | long_waits | faults, max_size=STEPS)


class ModelTestCase(BrokerTestCase):
    """Two nodes with two members each.

    Attributes:
        all_nodes: the nodes.
        clients: the members that publish now.
        said: what each has published.
    """

    def act(self, what: str, *values: Any) -> None:
        """Take a step."""
        broker = self.broker
        methods: dict[str, Callable[..., None]] = {
            "say": self.say,
            "wait": self.wait,
            "cut one": self.cut_one,
            "resume": self.resume,
            "lose answers": lambda: broker.swallow("XADD"),
            "refuse": lambda: broker.refusals.update(XADD="OOM full"),
            "mend": self.mend,
            "down": lambda: setattr(broker, "is_down", True),
            "clock": self.fail_over,
        }
        methods.get(what, getattr(broker, what, None))(*values)

    def say(self, who: int, count: int) -> None:
        """Publish messages of a client."""
        for _ in range(count):
            self.said[who].append(f"{who}:{len(self.said[who])}")
            self.clients[who].say(self.said[who][-1])

    def wait(self, seconds: float) -> None:
        """Let what is published be sent, then let time pass."""
        self.all_nodes[0].settle()
        self.all_nodes[0].wait(seconds)

    def cut_one(self, number: int) -> None:
        """End one connection."""
        for connection in self.broker.connections[number : number + 1]:
            connection.transport.loseConnection()

    def resume(self, order: int) -> None:
        """Execute what waits, that of ended connections first or last."""
        self.broker.connections = self.broker.connections[::order]
        self.broker.resume()

    def mend(self) -> None:
        """End all faults but silence."""
        self.broker.answers.clear()
        self.broker.refusals.clear()
        self.broker.is_down = False

    def fail_over(self, ahead_ms: int) -> None:
        """Let a replica take over, with a clock of its own and without the last entries."""
        self.broker.ahead_ms = ahead_ms
        self.broker.restart(lose=2)

    def run_plan(self, plan: list[Any], **settings: Any) -> None:
        """Take all steps, then end all faults and wait."""
        BrokerTestCase.setUp(self)
        self.all_nodes = self.nodes(2, **settings)
        self.clients = [node.client() for node in self.all_nodes for _ in range(2)]
        self.said: list[list[str]] = [[] for _ in self.clients]
        for step in (*plan, ("wait", 0.0), ("mend",), ("resume", 1), ("wait", 12.0)):
            self.act(*step)
        self.assertEqual([self.state(node) for node in self.all_nodes], [State.UP] * 2)
        self.assertEqual(self.broker.open, 4)


class FaultModelTests(ModelTestCase):
    """Within the window and the grace."""

    @given(steps)
    @settings(max_examples=60)
    def test_each_message_once(self, plan: list[Any]) -> None:
        """Nothing is lost, doubled, echoed or out of order, and no client is closed."""
        self.run_plan(plan, backplane_grace_seconds=60.0)
        for number, client in enumerate(self.clients):
            for other, messages in enumerate(self.said):
                got = [message for message in client.messages if message.startswith(f"{other}:")]
                self.assertEqual(got, messages if other != number else [])
            self.assertTrue(client.open)
        self.assertEqual([node.stats.backplane.gaps for node in self.all_nodes], [0, 0])


class LossModelTests(ModelTestCase):
    """Beyond them."""

    def say(self, who: int, count: int) -> None:
        """Publish, if the client is not closed."""
        if self.clients[who].open:
            super().say(who, count)

    @given(long_steps)
    @settings(max_examples=60)
    def test_no_holes(self, plan: list[Any]) -> None:
        """What a member gets of a publisher begins with the first message and has no hole, nor one twice.

        One that is still open has all of those that are still open.
        """
        self.run_plan(plan, backplane_grace_seconds=2.0, drain_seconds=1.0)
        for number, client in enumerate(self.clients):
            for other, messages in enumerate(self.said):
                got = [message for message in client.messages if message.startswith(f"{other}:")]
                expected = messages if other != number else []
                self.assertEqual(got, expected[: len(got)])
                if client.open and self.clients[other].open:
                    self.assertEqual(got, expected)
