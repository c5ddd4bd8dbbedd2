"""The index in README.md is complete, and the harness detects the harm that it should detect."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.faults.accounts import Account, Report, audit, complete
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


class AccountsTests(SynchronousTestCase):
    """Faults in the accounts of messages are counted."""

    def accounts(self, *receipts: str, echo: bool = False, **fields: Any) -> Report:
        """Audit two publishers of two messages each, and listeners that received what is given.

        A receipt such as "a1" is the first message of publisher "a".
        """
        publishers = [Account("a", 2), Account("b", 2)]
        for one, other in (publishers, publishers[::-1]):
            for number in (1, 2):
                one.receive(other.name, number)
        listeners = [Account(f"listener {number}", **fields) for number in range(len(receipts))]
        for listener, received in zip(listeners, receipts, strict=True):
            for name, number in received.split():
                listener.receive(name, int(number))
        return audit([*publishers, *listeners], echo=echo)

    def test_accounts_clean(self) -> None:
        """No fault is counted where there is none, in any order of two publishers."""
        for order in ("a1 a2 b1 b2", "b1 a1 b2 a2"):
            self.assertEqual(self.accounts(order, order), Report())

    def test_accounts_faults(self) -> None:
        """Each kind of fault is counted."""
        for received, fault in (
            ("a1 a2 b1", {"lost": 1}),
            ("a1 b1", {"lost": 2}),
            ("a2 b1 b2", {"lost": 1}),
            ("a1 a2 a2 b1 b2", {"doubled": 1}),
            ("a1 a2 a1 b1 b2", {"doubled": 1}),
            ("a2 a1 b1 b2", {"out_of_order": 1, "other_order": 1}),
            ("a1 a2 b1 b2 c1", {"strange": 1}),
        ):
            report = self.accounts("a1 a2 b1 b2", received)
            self.assertEqual({name: value for name, value in vars(report).items() if value}, fault, received)

    def test_accounts_order(self) -> None:
        """Different orders of one room's messages at two clients are counted."""
        self.assertEqual(self.accounts("a1 b1 a2 b2", "a1 a2 b1 b2"), Report(other_order=1))

    def test_accounts_echo(self) -> None:
        """A message at its publisher is counted, and where it must be, its loss."""
        own = Account("a", 1)
        self.assertEqual(audit([own], echo=True), Report(lost=1))
        own.receive("a", 1)
        self.assertEqual((audit([own], echo=True), audit([own])), (Report(), Report(echoed=1)))

    def test_accounts_closed(self) -> None:
        """A closed client may lack the end, and nothing before it; all agree on what a closed publisher sent."""
        received = {"a1 a2 b1": 0, "a2 b1 b2": 1}
        for one, lost in received.items():
            self.assertEqual(self.accounts(one, close=(1013, "")).lost, lost, one)
        publisher, first, second = Account("a", 5, close=(1013, "")), Account("b"), Account("c")
        first.receive("a", 1)
        self.assertEqual((audit([publisher, first, second]).lost, complete([publisher, first, second])), (1, False))
        second.receive("a", 1)
        self.assertEqual((audit([publisher, first, second]).lost, complete([publisher, first, second])), (0, True))

    def test_accounts_late(self) -> None:
        """A late client may lack the beginning, and nothing behind it."""
        for received, lost in {"a2 b1 b2": 0, "a1 b1 b2": 1}.items():
            self.assertEqual(self.accounts(received, late=True).lost, lost, received)
