"""A relay in memory for one input; fails on logged failures and on leaks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from twisted.logger import LogLevel, formatEvent, globalLogBeginner, globalLogPublisher

from tests.harness.support import Relay, Wire, request_bytes

#: Longer than all deadlines except those of open connections.
OVERDUE_SECONDS = 1.5

#: Switched off: limits that close connections of correct clients, or take time.
SETTINGS = {"handshake_seconds": 1, "close_seconds": 1, "ping_seconds": 0}


class _Case:
    """A fake test case without clean-up: the process runs nothing but the fuzzer."""

    def patch(self, owner: Any, name: str, value: Any) -> None:
        setattr(owner, name, value)


#: Needed by :class:`tests.harness.support.Relay`.
CASE: Any = _Case()


def quiet() -> None:
    """Discard the log: without an observer, Twisted keeps it in memory."""
    globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)


@contextmanager
def nothing_logged() -> Iterator[None]:
    """Fail if the block logs a failure or an error."""
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(events.append)
    bad = [formatEvent(event) for event in events if event.get("log_level") in (LogLevel.error, LogLevel.critical)]
    failures = [event["log_failure"].getTraceback() for event in events if "log_failure" in event]
    assert not bad and not failures, "\n".join([*bad, *failures])


@contextmanager
def relay(validators: Sequence[Any] = (), **settings: Any) -> Iterator[Relay]:
    """Run a relay while the block runs; the block closes its connections.

    Fails on a logged failure, and on a connection, room or delayed call that is left.
    """
    with nothing_logged():
        running = Relay(CASE, validators, **{**SETTINGS, **settings})
        yield running
        running.settle()
        factory = running.factory
        assert not factory.connections, f"connections are left behind: {factory.connections}"
        assert not list(factory.hub), f"rooms are left behind: {list(factory.hub)}"
        factory.doStop()
        calls = running.clock.getDelayedCalls()
        assert not calls, f"delayed calls are left behind: {calls}"
        assert running.stats.failures == 0, "a callback failed"


def join(running: Relay, fields: dict[str, str] | None = None) -> Wire:
    """Return a connection in the room."""
    wire = running.wire()
    response = wire.send(request_bytes(fields=fields))
    assert response.startswith(b"HTTP/1.1 101 "), response
    return wire
