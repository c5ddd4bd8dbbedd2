"""Failures: unexpected exceptions, logged once, under an incident id that the client is told, too.

Must not live here: deciding what the client sees (the callers).
"""

import secrets
from copy import copy
from typing import Final

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.reflect import safe_str

from wsrelay.errors import OperatorError

__all__ = ["log_failure", "printable"]

#: The maximum length of an exception's text, in characters.
SAID_CHARS: Final = 500

_log = Logger(namespace="wsrelay")


def printable(text: str) -> str:
    """Escape line breaks and control characters: they could forge log lines or control a terminal."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def log_failure(what: str, failure: Failure) -> str:
    """Log a failure with its traceback; an :class:`~wsrelay.errors.OperatorError` as one line.

    The exception's text may quote a client: it is escaped (:func:`printable`) and cut to :data:`SAID_CHARS`.

    Args:
        what: the failed operation, in a few words.
        failure: the exception.

    Returns:
        The incident id: 8 random hexadecimal digits, for finding the line in the log.
    """
    incident = secrets.token_hex(4)
    said = safe_str(failure.value)
    if isinstance(failure.value, OperatorError):
        _log.critical("{what} [{incident}]: {said}", what=printable(what), incident=incident, said=printable(said))
        return incident
    if not said.isprintable() or len(said) > SAID_CHARS:
        failure = copy(failure)
        failure.value = _Said(said)  # type: ignore[assignment]  # only str() of it is used, in the traceback
    _log.failure("{what} [{incident}]", failure, what=printable(what), incident=incident)
    return incident


class _Said:
    """Replaces an exception in its traceback: the text, cut and escaped."""

    def __init__(self, said: str) -> None:
        self._said = printable(said[:SAID_CHARS])

    def __str__(self) -> str:
        return self._said
