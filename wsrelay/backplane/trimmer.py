"""Trimmer: lets the broker forget old entries of a stream. Every node does it, once a second.

Must not live here: up to where (:mod:`wsrelay.backplane.trim`).
"""

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred

from wsrelay.backplane.context import Relay
from wsrelay.backplane.redis_errors import RedisError
from wsrelay.backplane.redis_protocol import Reply
from wsrelay.backplane.tail import Tail

__all__ = ["KEPT_SECONDS", "UNTRIMMED_SECONDS", "Trimmer"]

#: How long entries are kept beyond the grace, so that a node that was cut off finds them.
KEPT_SECONDS: Final = 45.0

#: Longer than any stream: none is trimmed by age.
_FOREVER_SECONDS: Final = 1e12

#: Seconds between two trims.
_TRIM_SECONDS: Final = 1.0

#: Seconds from the return of the broker to the first trim: the other nodes look for their newest entries first, which
#: may be as old as the outage. One that does not find them takes them for lost, and all histories are gone.
UNTRIMMED_SECONDS: Final = 5.0


class Trimmer:
    """Trims one stream.

    Args:
        key: of the stream.
        tail: its reader.
        relay: this process.
        ask: sends a command, and returns its reply.
        failed: called with an error reply.
    """

    def __init__(
        self,
        key: str,
        tail: Tail,
        relay: Relay,
        ask: Callable[[str, str, str, str, str], Deferred[Reply]],
        failed: Callable[[RedisError], None],
    ) -> None:
        self._key = key
        self._tail = tail
        self._relay = relay
        self._ask = ask
        self._failed = failed
        self._trimmed_at = 0.0

    def tick(self, now: float, up_since: float) -> None:
        """Trim, and forget silent nodes, if it is time; call this while the broker works.

        Args:
            now: the time.
            up_since: since when it works.
        """
        if now - self._trimmed_at >= _TRIM_SECONDS and now - up_since >= UNTRIMMED_SECONDS:
            self._trimmed_at = now
            self._trim()
            self._tail.inbox.forget(now)

    def _trim(self) -> None:
        tail, most_bytes = self._tail, self._relay.settings.backplane_log_bytes
        kept = tail.marks.oldest_kept(tail.newest, self._kept_seconds, most_bytes)
        self._ask("XTRIM", self._key, "MINID", "~", str(kept)).addCallback(self._trimmed)

    @property
    def _kept_seconds(self) -> float:
        """For how long entries are kept: for nodes that were cut off, and for the histories of new ones."""
        settings = self._relay.settings
        seconds = settings.backplane_grace_seconds + KEPT_SECONDS
        if self._relay.hub.histories.exist:
            seconds = max(seconds, settings.history_seconds or _FOREVER_SECONDS)
        return seconds

    def _trimmed(self, reply: Reply) -> None:
        if isinstance(reply, RedisError):
            self._failed(reply)
