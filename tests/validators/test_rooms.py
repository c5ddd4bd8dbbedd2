"""Only the rooms of the patterns are allowed."""

from wsrelay.grant import Grant
from wsrelay.validators.rooms import RoomsValidator

from .support import GRANT, ValidatorTestCase, request

make = RoomsValidator.from_arguments


class RoomsValidatorTests(ValidatorTestCase):
    """The ``rooms:`` validator."""

    def test_allowed(self) -> None:
        """A room in any of the patterns is allowed."""
        validator = make("news,/chat/*")

        self.assertValidator(validator)
        self.assertIs(GRANT, validator.validate(request(), GRANT))
        self.assertEqual(Grant("news"), validator.validate(request(), Grant("news")))

    def test_denied(self) -> None:
        """A room in none of them is denied."""
        for room in ("/", "chat", "chat/42/admin", "news2", "chat/42x/y"):
            self.assertDenied(403, make("news,chat/*"), request(), Grant(room))

    def test_granted_room(self) -> None:
        """What counts is the room that is granted, not the one in the path."""
        self.assertDenied(403, make("chat/*"), request(room="chat/42"), Grant("admin"))

    def test_comma(self) -> None:
        """A comma of a room is written with a backslash."""
        self.assertEqual(Grant("a,b"), make(r"a\,b").validate(request(), Grant("a,b")))

    def test_nothing(self) -> None:
        """A pattern must be given, and may not be empty."""
        self.assertWrong(make, "", "at least one pattern")
        self.assertWrong(make, "chat/*,", "empty value")

    def test_no_pattern(self) -> None:
        """What has wildcards where none may be is refused by name."""
        for value in ("**/chat", "a*b*", "chat/x**"):
            self.assertWrong(make, f"news,{value}", f"{value!r} is not a room pattern")
