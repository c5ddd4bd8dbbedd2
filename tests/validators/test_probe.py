"""Tests of wsrelay.validators.probe: the pass of the relay's own connections."""

from tests.harness.support import Answer, RelayTestCase, request_bytes
from wsrelay.errors import BadRoomName, Denied
from wsrelay.http.head import parse_request
from wsrelay.names import PROBE_ROOM, check_room
from wsrelay.validators import probe


class PassTests(RelayTestCase):
    """Who gets past the validators."""

    def test_shown(self) -> None:
        """Who shows the secret is granted the canary's room, and no validator is asked."""
        relay = self.relay([Answer(Denied(403, "nobody"))])
        client = relay.client(headers=dict(probe.FIELDS))

        self.assertTrue(client.open)
        self.assertEqual((list(relay.factory.hub), relay.client().status), ([PROBE_ROOM], 403))

    def test_guessed(self) -> None:
        """Another secret is none: the validators decide, as for anybody."""
        for guess in ("", "x", probe.FIELDS["wsrelay-canary"][:-1], probe.FIELDS["wsrelay-canary"] + "x"):
            request = parse_request(request_bytes("/room", {"Wsrelay-Canary": guess})[:-4], None)
            self.assertIsNone(probe.grant(request), guess)

    def test_nobody_else_comes_there(self) -> None:
        """Its room has no name that a path or a validator could give."""
        self.assertRaises(BadRoomName, check_room, PROBE_ROOM)
        self.assertEqual(self.relay().client(PROBE_ROOM).status, None)
        for path in ("//canary", "/%2Fcanary", "/canary/", "/%2fcanary"):
            self.assertEqual(self.relay().client(path).status, 400, path)

    def test_not_in_the_log(self) -> None:
        """It comes every few seconds, and fills no log."""
        relay = self.relay()
        relay.client(headers=dict(probe.FIELDS)).sendClose(1000)
        relay.settle()

        self.assertEqual(self.logged(), [])
