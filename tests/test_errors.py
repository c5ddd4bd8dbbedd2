"""Tests of wsrelay.errors."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay import errors
from wsrelay.errors import Denied, RelayError, RoomFull, SettingsError, TooManyRooms


class ErrorsTests(SynchronousTestCase):
    """The exception tree."""

    def test_one_root(self) -> None:
        """Whatever wsrelay raises on purpose can be caught as RelayError."""
        for name in errors.__all__:
            self.assertTrue(issubclass(getattr(errors, name), RelayError), name)

    def test_settings_error_names_every_problem(self) -> None:
        """A SettingsError's text has one line per problem."""
        error = SettingsError(["a: wrong", "b: wrong"])

        self.assertEqual(error.problems, ("a: wrong", "b: wrong"))
        self.assertEqual(str(error), "a: wrong\nb: wrong")

    def test_denied_carries_its_response(self) -> None:
        """Denied keeps status, reason and headers."""
        denied = Denied(403, "no", [("X-Why", "because")])

        self.assertEqual((denied.status, denied.reason, denied.headers), (403, "no", (("X-Why", "because"),)))

    def test_statuses(self) -> None:
        """What refuses nothing becomes 500, so that the response, the log and the counts agree."""
        for status in (200, 302, 399, 600, "403", None):
            self.assertEqual(Denied(status, "x").status, 500)  # type: ignore[arg-type]

    def test_capacity_is_503_with_retry_after(self) -> None:
        """A full room or relay is denied with 503, and the client is told when to come back."""
        for denied in (RoomFull(), TooManyRooms()):
            self.assertIsInstance(denied, Denied)
            self.assertEqual(denied.status, 503)
            self.assertEqual(denied.headers, (("Retry-After", "10"),))
