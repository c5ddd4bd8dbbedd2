"""A validator that lets everybody in, and says on whose word."""

from typing import Any

from twisted.logger import Logger

_log = Logger(namespace="who")


def validate(request: Any, grant: Any) -> Any:
    """Say where the client is, as validators and limits see it."""
    _log.info("asked for {host}", host=request.peer.host)
    return grant
