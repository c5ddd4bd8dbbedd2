"""The index in README.md names what is there, and all of it; and the harness sees what it is there to see."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.support import ATTACKED, ELSEWHERE, AttackedRelay, FaultTestCase, masked
from tests.harness.support import RecordingSubscriber

HERE = Path(__file__).resolve().parent


def names_in(file: Path) -> list[str]:
    """Return the names of the tests in a module."""
    nodes = ast.walk(ast.parse(file.read_text("utf-8")))
    return [node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def test_index() -> None:
    """Every test that the index names exists, and every test of this folder is in it, under a name of its own."""
    named = set(re.findall(r"`([./\w]+\.py)::(\w+)`", (HERE / "README.md").read_text("utf-8")))
    here = [(file.name, name) for file in HERE.glob("test_*.py") if file != Path(__file__) for name in names_in(file)]
    elsewhere = {(file, name) for file, name in named if "/" in file}
    assert sorted(named - elsewhere) == sorted(here)
    assert {(file, name) for file, name in elsewhere if name not in names_in(HERE / file)} == set()


class HarnessTests(FaultTestCase):
    """A fault that does harm fails its test."""

    def assert_noticed(self, harm: Callable[[AttackedRelay], object], **options: Any) -> None:
        """Assert that a test fails that does harm."""
        with pytest.raises(AssertionError), self.attacked(**options) as relay:
            harm(relay)
        self.flushLoggedErrors()
        self.events.clear()

    def test_harmless(self) -> None:
        """An attack that does no harm passes."""
        with self.attacked() as relay:
            relay.open_wire().send(masked(0x83))

    def test_messages(self) -> None:
        """A message that does not come is noticed, and one that comes twice or late."""

        def published(relay: AttackedRelay, *copies: int) -> None:
            backplane, publish = relay.factory.backplane, relay.factory.backplane.publish
            kept: list[Any] = []

            def again(room: str, messages: list[Any]) -> None:
                kept.extend(messages)
                publish(room, [kept[copy] for copy in copies if len(kept) >= abs(copy)])

            backplane.publish = again

        for copies in ((), (-1, -1), (-2,), (-2, -1)):
            self.assert_noticed(lambda relay, copies=copies: published(relay, *copies))

    def test_closed(self) -> None:
        """A bystander that is closed is noticed, in either room."""
        for room in (ATTACKED, ELSEWHERE):
            self.assert_noticed(
                lambda relay, room=room: next(one for one in relay.guests if one.grant.room == room).dropConnection()
            )

    def test_left_behind(self) -> None:
        """A connection, a room, a member, a timer, a TCP that nobody ends, or what was counted, is noticed."""
        for harm in (
            lambda relay: setattr(relay.factory, "disconnected", lambda _: None),
            lambda relay: relay.factory.hub.join("zombies", RecordingSubscriber()),
            lambda relay: relay.factory.hub._room_of.update({RecordingSubscriber(): "zombies"}),
            lambda relay: relay.clock.callLater(1000, int),
            lambda relay: relay.open_wire().transport.loseConnection(),
            lambda relay: relay.factory.admission.arrive(0),
            lambda relay: relay.factory.admission.arrive(0).identify("192.0.2.1", 0),
        ):
            self.assert_noticed(harm)

    def test_tracebacks(self) -> None:
        """A traceback that was not asked for is noticed, and one that was and did not come."""

        def fail(relay: AttackedRelay) -> None:
            relay.open_wire().transport.protocol.fail(RuntimeError("a bug"))

        self.assert_noticed(fail)
        self.assert_noticed(fail, tracebacks=2)
        self.assert_noticed(lambda _: None, tracebacks=1)
