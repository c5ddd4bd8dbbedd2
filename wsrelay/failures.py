"""Failures: what our code or an extension's raised, logged once, under an id that the client is told, too."""

import secrets

from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = ["log_failure"]

_log = Logger(namespace="wsrelay")


def log_failure(what: str, failure: Failure) -> str:
    """Log a failure with its traceback.

    Args:
        what: what failed, in a few words; none of the client's.
        failure: what was raised.

    Returns:
        An id: 8 hexadecimal digits that say nothing, and find the line in the log.
    """
    incident = secrets.token_hex(4)
    _log.failure("{what} [{incident}]", failure, what=what, incident=incident)
    return incident
