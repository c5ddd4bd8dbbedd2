"""Failures: what our code or an extension's raised, logged once, under an id that the client is told, too."""

import secrets
from copy import copy
from typing import Final

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.reflect import safe_str

__all__ = ["log_failure", "printable"]

#: The most characters of what an exception says.
SAID_CHARS: Final = 500

_log = Logger(namespace="wsrelay")


def printable(text: str) -> str:
    """Return a text in which what could pass for another line, or for orders to a terminal, is escaped."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def log_failure(what: str, failure: Failure) -> str:
    """Log a failure with its traceback.

    What an exception says may be a client's words: what could pass for other lines, or for orders to a terminal, is
    escaped, and what is long is cut.

    Args:
        what: what failed, in a few words.
        failure: what was raised.

    Returns:
        An id: 8 hexadecimal digits that say nothing, and find the line in the log.
    """
    incident = secrets.token_hex(4)
    said = safe_str(failure.value)
    if not said.isprintable() or len(said) > SAID_CHARS:
        failure = copy(failure)
        failure.value = _Said(said)  # type: ignore[assignment]  # its traceback prints what str() makes of it
    _log.failure("{what} [{incident}]", failure, what=printable(what), incident=incident)
    return incident


class _Said:
    """Stands for an exception in its traceback."""

    def __init__(self, said: str) -> None:
        self._said = printable(said[:SAID_CHARS])

    def __str__(self) -> str:
        return self._said
