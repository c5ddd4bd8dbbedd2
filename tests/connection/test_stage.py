"""Tests of wsrelay.connection.stage: the table, and the stages of connections."""

import re
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.http import http_bytes
from tests.harness.support import RelayTestCase, request_bytes
from wsrelay.connection.protocol import RelayProtocol
from wsrelay.connection.stage import CLOSING_STAGES, OPEN_STAGES, OPENING_STAGES, TRANSITIONS, Stage


class TableTests(SynchronousTestCase):
    """The table."""

    def test_stage_rows(self) -> None:
        """Each stage has its row, also in the docstring; LOST may follow every other stage."""
        self.assertEqual(list(TRANSITIONS), list(Stage))
        documented = re.findall(r"^ *([A-Z]+) .*?  ([A-Z ]+)$", Stage.__doc__ or "", re.MULTILINE)
        rows = {name: set(followers.split()) for name, followers in documented}
        for stage in list(Stage)[:-1]:
            self.assertIn(Stage.LOST, TRANSITIONS[stage])
            named = {other.name for other in TRANSITIONS[stage]}
            self.assertEqual(rows[stage.name] | {"LOST"}, named, stage)

    def test_stage_groups(self) -> None:
        """Each stage is in exactly one group: opening, open or closing."""
        groups = (OPENING_STAGES, OPEN_STAGES, CLOSING_STAGES)
        self.assertEqual(sorted(map(len, groups)), [2, 3, 3])
        self.assertEqual(frozenset().union(*groups), frozenset(Stage))


class StagesTests(RelayTestCase):
    """Stages of connections."""

    def setUp(self) -> None:
        super().setUp()
        self.taken: list[Stage] = []
        become = RelayProtocol.become

        def noting(connection: Any, stage: Stage) -> None:
            self.taken.append(stage)
            become(connection, stage)

        self.patch(RelayProtocol, "become", noting)

    def test_stages_websocket(self) -> None:
        """A WebSocket connection opens, closes, ends, and is lost."""
        relay = self.relay()
        client = relay.client()
        client.sendClose(1000)
        relay.settle()

        self.assertEqual(self.taken, [Stage.OPEN, Stage.CLOSING, Stage.ENDING, Stage.LOST])

    def test_stages_exchange(self) -> None:
        """A plain HTTP request is answered, then ends."""
        wire = self.relay(http=True).wire()
        wire.send(http_bytes("POST /room", b"x"))
        wire.hang_up()

        self.assertEqual(self.taken, [Stage.EXCHANGE, Stage.ENDING, Stage.LOST])

    def test_stages_event_stream(self) -> None:
        """An event stream begins as an exchange."""
        wire = self.relay(http=True).wire()
        wire.send(http_bytes("GET /room", fields={"Accept": "text/event-stream"}))
        wire.hang_up()

        self.assertEqual(self.taken, [Stage.EXCHANGE, Stage.STREAM, Stage.LOST])

    def test_stages_refused(self) -> None:
        """A refused request ends."""
        wire = self.relay().wire()
        wire.send(request_bytes("//"))
        wire.hang_up()

        self.assertEqual(self.taken, [Stage.ENDING, Stage.LOST])

    def test_stage_not_in_table(self) -> None:
        """A stage that may not follow raises."""
        connection = RelayProtocol()
        error = self.assertRaises(ValueError, connection.become, Stage.CLOSING)

        self.assertEqual(str(error), "Stage.REQUEST is not followed by Stage.CLOSING")
