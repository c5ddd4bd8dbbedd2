"""Tests of wsrelay.errors."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay import errors
from wsrelay.errors import BackplaneDown, Denied, RelayError, RoomFull, SettingsError, TooManyRooms


class ErrorsTests(SynchronousTestCase):
    """The exception tree."""

    def test_root(self) -> None:
        """Every deliberate exception is a RelayError."""
        for name in errors.__all__:
            self.assertTrue(issubclass(getattr(errors, name), RelayError), name)

    def test_settings_error_problems(self) -> None:
        """The text of a SettingsError has one line per problem."""
        error = SettingsError(["a: wrong", "b: wrong"])

        self.assertEqual(error.problems, ("a: wrong", "b: wrong"))
        self.assertEqual(str(error), "a: wrong\nb: wrong")

    def test_denied_response(self) -> None:
        """Denied keeps status, reason and headers."""
        denied = Denied(403, "no", [("X-Why", "because")])

        self.assertEqual((denied.status, denied.reason, denied.headers), (403, "no", (("X-Why", "because"),)))

    def test_denied_status_range(self) -> None:
        """A status outside of 400 to 599 becomes 500, so that response, log and counters agree."""
        for status in (200, 302, 399, 600, "403", None):
            self.assertEqual(Denied(status, "x").status, 500)  # type: ignore[arg-type]

    def test_capacity_denials(self) -> None:
        """A full room and a full relay deny with 503 and Retry-After."""
        for denied in (RoomFull(), TooManyRooms()):
            self.assertIsInstance(denied, Denied)
            self.assertEqual(denied.status, 503)
            self.assertEqual(denied.headers, (("Retry-After", "10"),))

    def test_backplane_down(self) -> None:
        """Without a broker clients are denied with 503, and told when to try again."""
        for denied, retry in ((BackplaneDown(), "10"), (BackplaneDown("it does not keep up", 1), "1")):
            self.assertEqual((denied.status, denied.cause), (503, "backplane"))
            self.assertEqual(denied.headers, (("Retry-After", retry),))
