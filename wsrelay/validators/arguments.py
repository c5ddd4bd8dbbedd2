r"""The syntax of the built-in validators' arguments: ``value,name=value,…``.

Comma-separated, because URLs and origins contain colons. A literal comma or backslash is written ``\,`` or ``\\``.
``name=value`` is an option only for the names that the validator declares. Must not live here: what options mean.
"""

import re
from collections.abc import Collection
from typing import Final

__all__ = ["Arguments", "parse"]

_WORD: Final = re.compile(r"(?:[^,\\]|\\.)*", re.DOTALL)


class Arguments:
    """Parsed arguments.

    Attributes:
        values: the words that are not options, in order; none is empty.
        options: option → its values in order; an option may be repeated.
    """

    def __init__(self, values: tuple[str, ...], options: dict[str, tuple[str, ...]]) -> None:
        self.values = values
        self.options = options

    def one(self, name: str) -> str | None:
        """Return an option's value; ``None`` if absent.

        Raises:
            ValueError: the option is repeated.
        """
        values = self.options.get(name, ())
        if len(values) > 1:
            raise ValueError(f"{name}= may be given once")
        return values[0] if values else None

    def required(self, name: str) -> str:
        """Return an option's value.

        Raises:
            ValueError: the option is missing or repeated.
        """
        value = self.one(name)
        if value is None:
            raise ValueError(f"{name}= is needed")
        return value


def parse(text: str, options: Collection[str] = ()) -> Arguments:
    """Parse the text behind ``NAME:``.

    Args:
        text: the arguments; may be empty.
        options: the validator's option names.

    Raises:
        ValueError: an empty word, an option without a value, or a backslash at the end.
    """
    values: list[str] = []
    given: dict[str, tuple[str, ...]] = {}
    for word in _split(text):
        name, equals, value = word.partition("=")
        if not word or (name in options and not value):
            raise ValueError(f"there is an empty value in {text!r}")
        if equals and name in options:
            given[name] = (*given.get(name, ()), value)
        else:
            values.append(word)
    return Arguments(tuple(values), given)


def _split(text: str) -> list[str]:
    if not text:
        return []
    words = []
    position = -1
    while position < len(text):
        match = _WORD.match(text, position + 1)
        if match is None or (match.end() < len(text) and text[match.end()] != ","):
            raise ValueError(rf"{text!r} ends with a backslash; write \\ for one")
        words.append(re.sub(r"\\(.)", r"\1", match[0], flags=re.DOTALL).strip())
        position = match.end()
    return words
