r"""The form of a built-in validator's arguments: ``value,name=value,…``.

Comma-separated, because URLs and origins are full of colons. A comma or backslash that belongs to a value
is written ``\,`` or ``\\``. A word is an option only if its name is one that the validator has.
"""

import re
from collections.abc import Collection
from typing import Final

__all__ = ["Arguments", "parse"]

_WORD: Final = re.compile(r"(?:[^,\\]|\\.)*", re.DOTALL)


class Arguments:
    """Parsed arguments.

    Attributes:
        values: the words that are no options, in order; none of them is empty.
        options: option → its values in order; an option may be given more than once.
    """

    def __init__(self, values: tuple[str, ...], options: dict[str, tuple[str, ...]]) -> None:
        self.values = values
        self.options = options

    def one(self, name: str) -> str | None:
        """Return an option's only value, or ``None`` where it is not given.

        Raises:
            ValueError: it is given more than once.
        """
        values = self.options.get(name, ())
        if len(values) > 1:
            raise ValueError(f"{name}= may be given once")
        return values[0] if values else None

    def required(self, name: str) -> str:
        """Return an option's only value.

        Raises:
            ValueError: it is missing, or given more than once.
        """
        value = self.one(name)
        if value is None:
            raise ValueError(f"{name}= is needed")
        return value


def parse(text: str, options: Collection[str] = ()) -> Arguments:
    """Parse what stands behind ``NAME:``.

    Args:
        text: the arguments; empty is none.
        options: the options that the validator has.

    Raises:
        ValueError: an empty word, or an option without a value.
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
