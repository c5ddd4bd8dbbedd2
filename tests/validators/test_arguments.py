"""Tests of wsrelay.validators.arguments."""

from hypothesis import given
from hypothesis import strategies as st

from wsrelay.validators.arguments import parse

from .support import ValidatorTestCase


def escaped(word: str) -> str:
    """Escape a word."""
    return word.replace("\\", "\\\\").replace(",", "\\,")


class ParseTests(ValidatorTestCase):
    """Parsing."""

    def test_empty(self) -> None:
        """An empty text has no arguments."""
        arguments = parse("", ("a",))

        self.assertEqual(((), {}), (arguments.values, arguments.options))

    def test_values(self) -> None:
        """Values come in order, stripped of spaces."""
        self.assertEqual(("https://b.example:8443", "*", "a b"), parse("https://b.example:8443, * ,a b").values)

    def test_options(self) -> None:
        """A word with a declared name is an option, in any place, and may be repeated."""
        arguments = parse("b=1,x,a=2,b=3=4", ("a", "b"))

        self.assertEqual(("x",), arguments.values)
        self.assertEqual({"b": ("1", "3=4"), "a": ("2",)}, arguments.options)

    def test_undeclared_options(self) -> None:
        """A word with = and an undeclared name is a value, for example a URL with a query."""
        arguments = parse("https://a.example/?timeout=1,c=1", ("timeout",))

        self.assertEqual((("https://a.example/?timeout=1", "c=1"), {}), (arguments.values, arguments.options))

    def test_escapes(self) -> None:
        r"""\, is a comma and \\ a backslash."""
        self.assertEqual(("a,b", "c\\", "d"), parse(r"a\,b,c\\,\d").values)
        self.assertEqual(("a\nb",), parse("a\\\nb").values)

    def test_trailing_backslash(self) -> None:
        """A backslash at the end is refused."""
        for text in ("\\", "a\\", "a,b\\", "a\\\\\\"):
            self.assertWrong(parse, text, "ends with a backslash")

    def test_empty_words(self) -> None:
        """Empty words are refused."""
        for text in (",", "a,", ",a", "a,,b", " ", "a=", "a=1,a="):
            self.assertRaises(ValueError, parse, text, ("a",))
        self.assertWrong(parse, "a,,b", "empty value in 'a,,b'")

    @given(st.lists(st.text(min_size=1).filter(lambda word: word.strip() == word)))
    def test_escape_round_trip(self, words: list[str]) -> None:
        """Escaped words are parsed to themselves."""
        self.assertEqual(tuple(words), parse(",".join(map(escaped, words))).values)


class OptionTests(ValidatorTestCase):
    """Access to options."""

    def test_optional(self) -> None:
        """An optional option is a string, or None."""
        arguments = parse("a=1", ("a", "b"))

        self.assertEqual("1", arguments.one("a"))
        self.assertIsNone(arguments.one("b"))

    def test_repeated(self) -> None:
        """A repeated option is refused."""
        arguments = parse("a=1,a=1", ("a",))

        for take in (arguments.one, arguments.required):
            self.assertWrong(take, "a", "a= may be given once")

    def test_required(self) -> None:
        """A missing required option is refused."""
        arguments = parse("a=1", ("a", "b"))

        self.assertEqual("1", arguments.required("a"))
        self.assertWrong(arguments.required, "b", "b= is needed")
