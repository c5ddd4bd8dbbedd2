"""Tests of wsrelay.canary: the pass of the relay's own connections."""

from tests.harness.support import Answer, RelayTestCase, request_bytes
from wsrelay import canary
from wsrelay.errors import BadRoomName, Denied
from wsrelay.names import check_room
from wsrelay.request import parse_request


class PassTests(RelayTestCase):
    """Who gets past the validators."""

    def test_shown(self) -> None:
        """Who shows the secret is granted the canary's room, and no validator is asked."""
        relay = self.relay([Answer(Denied(403, "nobody"))])
        client = relay.client(headers=dict(canary.FIELDS))

        self.assertTrue(client.open)
        self.assertEqual((list(relay.factory.hub), relay.client().status), ([canary.ROOM], 403))

    def test_guessed(self) -> None:
        """Another secret is none: the validators decide, as for anybody."""
        for guess in ("", "x", canary.FIELDS["wsrelay-canary"][:-1], canary.FIELDS["wsrelay-canary"] + "x"):
            request = parse_request(request_bytes("/room", {"Wsrelay-Canary": guess})[:-4], None)
            self.assertIsNone(canary.grant(request), guess)

    def test_nobody_else_comes_there(self) -> None:
        """Its room has no name that a path or a validator could give."""
        self.assertRaises(BadRoomName, check_room, canary.ROOM)
        self.assertEqual(self.relay().client(canary.ROOM).status, None)
        for path in ("//canary", "/%2Fcanary", "/canary/", "/%2fcanary"):
            self.assertEqual(self.relay().client(path).status, 400, path)

    def test_not_in_the_log(self) -> None:
        """It comes every few seconds, and fills no log."""
        relay = self.relay()
        relay.client(headers=dict(canary.FIELDS)).sendClose(1000)
        relay.settle()

        self.assertEqual(self.logged(), [])
