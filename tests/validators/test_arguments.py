"""Arguments are words between commas; some of them are options."""

from hypothesis import given, settings
from hypothesis import strategies as st

from wsrelay.validators.arguments import parse

from .support import ValidatorTestCase


def escaped(word: str) -> str:
    """Write a word so that it comes out as it is."""
    return word.replace("\\", "\\\\").replace(",", "\\,")


class ParseTests(ValidatorTestCase):
    """How arguments are read."""

    def test_nothing(self) -> None:
        """No text is no arguments."""
        arguments = parse("", ("a",))

        self.assertEqual(((), {}), (arguments.values, arguments.options))

    def test_values(self) -> None:
        """Values come in order, without the spaces around them."""
        self.assertEqual(("https://b.example:8443", "*", "a b"), parse("https://b.example:8443, * ,a b").values)

    def test_options(self) -> None:
        """A word with the name of an option is one, wherever it stands; it may come twice."""
        arguments = parse("b=1,x,a=2,b=3=4", ("a", "b"))

        self.assertEqual(("x",), arguments.values)
        self.assertEqual({"b": ("1", "3=4"), "a": ("2",)}, arguments.options)

    def test_other_names(self) -> None:
        """A word with = whose name is no option is a value, for example a URL with a query."""
        arguments = parse("https://a.example/?timeout=1,c=1", ("timeout",))

        self.assertEqual((("https://a.example/?timeout=1", "c=1"), {}), (arguments.values, arguments.options))

    def test_escapes(self) -> None:
        r"""\, is a comma and \\ a backslash."""
        self.assertEqual(("a,b", "c\\", "d"), parse(r"a\,b,c\\,\d").values)
        self.assertEqual(("a\nb",), parse("a\\\nb").values)

    def test_unfinished_escape(self) -> None:
        """A backslash at the end escapes nothing, and that is said."""
        for text in ("\\", "a\\", "a,b\\", "a\\\\\\"):
            self.assertWrong(parse, text, "ends with a backslash")

    def test_empty_words(self) -> None:
        """There is nothing between two commas, and nothing behind the last: probably a slip."""
        for text in (",", "a,", ",a", "a,,b", " ", "a=", "a=1,a="):
            self.assertRaises(ValueError, parse, text, ("a",))
        self.assertWrong(parse, "a,,b", "empty value in 'a,,b'")

    @settings(deadline=None)
    @given(st.lists(st.text(min_size=1).filter(lambda word: word.strip() == word)))
    def test_any_values(self, words: list[str]) -> None:
        """Whatever is escaped comes out as it went in."""
        self.assertEqual(tuple(words), parse(",".join(map(escaped, words))).values)


class OptionTests(ValidatorTestCase):
    """How options are taken."""

    def test_one(self) -> None:
        """An option that may come once is a string, or nothing."""
        arguments = parse("a=1", ("a", "b"))

        self.assertEqual("1", arguments.one("a"))
        self.assertIsNone(arguments.one("b"))

    def test_twice(self) -> None:
        """It is refused when it comes twice."""
        arguments = parse("a=1,a=1", ("a",))

        for take in (arguments.one, arguments.required):
            self.assertWrong(take, "a", "a= may be given once")

    def test_required(self) -> None:
        """A needed option is refused when it is missing."""
        arguments = parse("a=1", ("a", "b"))

        self.assertEqual("1", arguments.required("a"))
        self.assertWrong(arguments.required, "b", "b= is needed")
