"""Tests of wsrelay.option."""

from dataclasses import FrozenInstanceError, dataclass, fields
from typing import Annotated

from msgspec import Meta
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.option import Option, attributes, checked, one_of, setting


@dataclass(frozen=True)
class Example:
    """Settings of which each is declared in another way."""

    most: int = setting(1000, "Messages", "Most of it.", exceeded="close 1009", detail="See [there](it.md) and `x`.")
    grace: float = setting(5.0, "Timeouts", "Grace.")
    off: bool = setting(False, "Messages", "Off.")
    on: bool = setting(True, "Messages", "On.")
    places: tuple[str, ...] = setting(("a", "b"), "Listening", "Places.", choices=("a:",), value="PLACE")
    names: tuple[str, ...] = setting((), "Listening", "Names.", shown_default="none", reloadable=True)


OPTIONS = {field.name: field.metadata["option"] for field in fields(Example)}


class OptionTests(SynchronousTestCase):
    """One row."""

    def test_spelling(self) -> None:
        """The placeholder is the unit in the name, or the row's own; flags and actions have none."""
        for name, more, spelling in [
            ("max-rooms", {}, "--max-rooms=NUMBER"),
            ("max-message-bytes", {}, "--max-message-bytes=BYTES"),
            ("memory-budget", {}, "--memory-budget=BYTES"),
            ("ping-seconds", {}, "--ping-seconds=SECONDS"),
            ("max-bytes-per-second", {}, "--max-bytes-per-second=NUMBER"),
            ("config", {"value": "FILE"}, "--config=FILE"),
            ("listen", {"kind": "repeatable", "value": "ENDPOINT"}, "--listen=ENDPOINT"),
            ("echo", {"kind": "flag"}, "--echo"),
            ("version", {"kind": "action"}, "--version"),
        ]:
            self.assertEqual(Option(name, "Messages", "It is.", **more).spelling, spelling)


class SettingTests(SynchronousTestCase):
    """Declaring a setting with its row."""

    def test_fields(self) -> None:
        """The fields are those of any dataclass."""
        self.assertEqual(Example(most=7), Example(7, 5.0, False, True, ("a", "b"), ()))
        with self.assertRaises(FrozenInstanceError):
            Example().most = 1  # type: ignore[misc]

    def test_kinds(self) -> None:
        """The kind follows from the type of the default."""
        self.assertEqual(
            [option.kind for option in OPTIONS.values()], ["value", "value", "flag", "flag", "repeatable", "repeatable"]
        )

    def test_shown_defaults(self) -> None:
        """Numbers are as short as possible, flags on or off, lists words; a declaration may say something else."""
        self.assertEqual([option.default for option in OPTIONS.values()], ["1000", "5", "off", "on", "a b", "none"])

    def test_texts(self) -> None:
        """The other parts of the row are as declared."""
        self.assertEqual((OPTIONS["most"].group, OPTIONS["most"].exceeded), ("Messages", "close 1009"))
        self.assertEqual((OPTIONS["places"].choices, OPTIONS["places"].value), (("a:",), "PLACE"))

    def test_reloadable(self) -> None:
        """Fields that a reload may change take no part in the hash."""
        self.assertEqual([name for name, option in OPTIONS.items() if option.reloadable], ["names"])
        self.assertEqual(hash(Example()), hash(Example(names=("x",))))
        self.assertNotEqual(hash(Example()), hash(Example(most=2)))

    def test_attributes(self) -> None:
        """A docstring names each field with its texts: code in double backticks, links as their text."""
        first, second, *_ = attributes(OPTIONS).splitlines()[1:]

        self.assertEqual(first, "    most: Most of it. See there and ``x``. Exceeded: close 1009.")
        self.assertEqual(second, "    grace: Grace.")


class CheckedTests(SynchronousTestCase):
    """Checking one value."""

    def test_type_and_range(self) -> None:
        """A value is converted to the type, or the problem is said without Python's words."""
        number = Annotated[int, Meta(ge=1)]

        self.assertEqual(checked("7", number, None, strict=False), (7, None))
        self.assertEqual(checked("7", number, None, strict=True), (None, "expected a whole number, got '7'; write 7"))
        self.assertEqual(checked(0, number, None, strict=True), (None, "expected a whole number >= 1, got 0"))

    def test_choices(self) -> None:
        """A check of its own refuses values of the right type."""
        check = one_of(("a", "b"))

        self.assertEqual(checked("a", str, check, strict=True), ("a", None))
        self.assertEqual(checked("c", str, check, strict=True), (None, "expected one of a, b, got 'c'"))
