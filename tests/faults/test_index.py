"""The index in README.md is complete, and the harness detects the harm that it should detect."""

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
    """The index names exactly the tests of this folder, each once, and existing tests elsewhere."""
    named = set(re.findall(r"`([./\w]+\.py)::(\w+)`", (HERE / "README.md").read_text("utf-8")))
    here = [(file.name, name) for file in HERE.glob("test_*.py") if file != Path(__file__) for name in names_in(file)]
    elsewhere = {(file, name) for file, name in named if "/" in file}
    assert sorted(named - elsewhere) == sorted(here)
    assert {(file, name) for file, name in elsewhere if name not in names_in(HERE / file)} == set()


class HarnessTests(FaultTestCase):
    """Harm fails its test."""

    def assert_noticed(self, harm: Callable[[AttackedRelay], object], **options: Any) -> None:
        """Assert that harm fails a test."""
        with pytest.raises(AssertionError), self.attacked(**options) as relay:
            harm(relay)
        self.flushLoggedErrors()
        self.events.clear()

    def test_harness_harmless(self) -> None:
        """A harmless attack passes."""
        with self.attacked() as relay:
            relay.open_wire().send(masked(0x83))

    def test_harness_messages(self) -> None:
        """A lost, repeated or late message is detected."""

        def published(relay: AttackedRelay, *copies: int) -> None:
            backplane, publish = relay.factory.backplane, relay.factory.backplane.publish
            kept: list[Any] = []

            def again(room: str, messages: list[Any]) -> None:
                kept.extend(messages)
                publish(room, [kept[copy] for copy in copies if len(kept) >= abs(copy)])

            backplane.publish = again

        for copies in ((), (-1, -1), (-2,), (-2, -1)):
            self.assert_noticed(lambda relay, copies=copies: published(relay, *copies))

    def test_harness_closed(self) -> None:
        """A closed bystander is detected, in either room."""
        for room in (ATTACKED, ELSEWHERE):
            self.assert_noticed(
                lambda relay, room=room: next(one for one in relay.guests if one.grant.room == room).dropConnection()
            )

    def test_harness_leaks(self) -> None:
        """A leaked connection, room, member, timer, TCP connection or count is detected."""
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

    def test_harness_tracebacks(self) -> None:
        """An unexpected traceback is detected, and a missing one."""

        def fail(relay: AttackedRelay) -> None:
            relay.open_wire().transport.protocol.fail(RuntimeError("a bug"))

        self.assert_noticed(fail)
        self.assert_noticed(fail, tracebacks=2)
        self.assert_noticed(lambda _: None, tracebacks=1)
