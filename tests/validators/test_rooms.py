"""Tests of wsrelay.validators.rooms."""

from wsrelay.grant import Grant
from wsrelay.validators.rooms import RoomsValidator

from .support import GRANT, ValidatorTestCase, request

make = RoomsValidator.from_arguments


class RoomsValidatorTests(ValidatorTestCase):
    """The ``rooms:`` validator."""

    def test_allowed(self) -> None:
        """A room that matches any pattern is allowed."""
        validator = make("news,/chat/*")

        self.assertValidator(validator)
        self.assertIs(GRANT, validator.validate(request(), GRANT))
        self.assertEqual(Grant("news"), validator.validate(request(), Grant("news")))

    def test_denied(self) -> None:
        """A room that matches none is denied."""
        for room in ("/", "chat", "chat/42/admin", "news2", "chat/42x/y"):
            self.assertDenied(403, make("news,chat/*"), request(), Grant(room))

    def test_granted_room(self) -> None:
        """The granted room counts, not the path's."""
        self.assertDenied(403, make("chat/*"), request(room="chat/42"), Grant("admin"))

    def test_escaped_comma(self) -> None:
        """A comma in a room is escaped with a backslash."""
        self.assertEqual(Grant("a,b"), make(r"a\,b").validate(request(), Grant("a,b")))

    def test_no_patterns(self) -> None:
        """Missing and empty patterns are refused."""
        self.assertWrong(make, "", "at least one pattern")
        self.assertWrong(make, "chat/*,", "empty value")

    def test_invalid_pattern(self) -> None:
        """A misplaced wildcard is refused by name."""
        for value in ("**/chat", "a*b*", "chat/x**"):
            self.assertWrong(make, f"news,{value}", f"{value!r} is not a room pattern")
