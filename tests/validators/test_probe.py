"""Tests of wsrelay.validators.probe."""

from tests.harness.support import Answer, RelayTestCase, request_bytes
from wsrelay.errors import BadRoomName, Denied
from wsrelay.http.head import parse_request
from wsrelay.names import PROBE_ROOM, check_room
from wsrelay.validators import probe


class PassTests(RelayTestCase):
    """The credentials of the readiness probe."""

    def test_probe_granted(self) -> None:
        """A request with the secret gets the probe's room, without validators."""
        relay = self.relay([Answer(Denied(403, "nobody"))])
        client = relay.client(headers=dict(probe.FIELDS))

        self.assertTrue(client.open)
        self.assertEqual((list(relay.factory.hub), relay.client().status), ([PROBE_ROOM], 403))

    def test_probe_wrong_secret(self) -> None:
        """A request with a wrong secret is validated as any other."""
        for guess in ("", "x", probe.FIELDS["wsrelay-canary"][:-1], probe.FIELDS["wsrelay-canary"] + "x"):
            request = parse_request(request_bytes("/room", {"Wsrelay-Canary": guess})[:-4], None)
            self.assertIsNone(probe.grant(request), guess)

    def test_probe_room_unreachable(self) -> None:
        """No path and no validator can name the probe's room."""
        self.assertRaises(BadRoomName, check_room, PROBE_ROOM)
        self.assertEqual(self.relay().client(PROBE_ROOM).status, None)
        for path in ("//canary", "/%2Fcanary", "/canary/", "/%2fcanary"):
            self.assertEqual(self.relay().client(path).status, 400, path)

    def test_probe_not_logged(self) -> None:
        """The probe's connections are not logged."""
        relay = self.relay()
        relay.client(headers=dict(probe.FIELDS)).sendClose(1000)
        relay.settle()

        self.assertEqual(self.logged(), [])
