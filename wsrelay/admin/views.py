"""Views of the admin endpoint: health, readiness, metrics, rooms, connections; close a connection, drain the relay.

Views keep no state between requests. Must not live here: paths to views and answers to bytes
(:mod:`wsrelay.admin.routes`).
"""

from collections.abc import Callable, Sequence
from heapq import nlargest
from operator import attrgetter
from typing import Final

from twisted.internet.defer import Deferred, succeed

from wsrelay import __version__, closecodes
from wsrelay.admin.metrics import Metrics
from wsrelay.admin.probe import Outcome, Probe
from wsrelay.admin.routes import Answer, Asked, Route, as_json
from wsrelay.connection.protocol import RelayProtocol
from wsrelay.errors import Denied
from wsrelay.factory import RelayFactory
from wsrelay.http.page import Page
from wsrelay.names import PROBE_ROOM
from wsrelay.stats import NodeStatus

__all__ = ["Views"]

#: The default and the highest ``limit``: rooms or connections in one list.
USUAL_LIMIT: Final = 100
MAX_LIMIT: Final = 10**3

#: Rooms on the status page, the largest first.
PAGE_ROOMS: Final = 25

#: The counters that the status page shows as rates.
_RATES: Final = ("messages_in", "bytes_in", "deliveries", "bytes_out", "messages_missed", "connections_opened")

#: The check that is shown only: without new rooms, a relay serves its old ones, and a load balancer that took it out
#: would keep all newcomers from these.
_ROOMS: Final = "rooms"


class Views:
    """The views.

    Args:
        relay: the relay.
        probe: the readiness probe; ``None`` for readiness without one.
        drain: stops the relay as SIGTERM does; ``None``: refuse ``POST /drain`` with 501.
    """

    def __init__(self, relay: RelayFactory, probe: Probe | None, drain: Callable[[], object] | None) -> None:
        self._relay = relay
        self._probe = probe
        self._drain = drain
        self._metrics = Metrics(relay)
        page = Page("wsrelay.admin", "status.html", connect="'self'", images="data:")
        self._page = Answer(page.body, page.content_type, policy=page.policy)

    @property
    def routes(self) -> Sequence[Route]:
        """Path, as a regular expression → method → view."""
        return [
            ("/", {"GET": self.page}),
            ("/healthz", {"GET": self.health}),
            ("/readyz", {"GET": self.readiness}),
            ("/metrics", {"GET": self.metrics}),
            ("/status.json", {"GET": self.status}),
            ("/rooms", {"GET": self.rooms}),
            ("/connections", {"GET": self.connections}),
            (r"/connections/(\d{1,20})", {"GET": self.connection, "DELETE": self.close}),
            ("/nodes", {"GET": self.nodes}),
            ("/drain", {"POST": self.drain}),
        ]

    # --- for machines -----------------------------------------------------------------------------

    def health(self, asked: Asked) -> Answer:
        """Liveness: an answer shows that the reactor turns."""
        return Answer(b"ok\n")

    def readiness(self, asked: Asked) -> "Deferred[Answer]":
        """Readiness: 200 or 503, and the result of each check."""
        relay = self._relay
        is_closing = relay.draining or relay.admission.is_closed
        full_by = relay.admission.full_by
        checks = {
            "listening": "ok" if relay.numPorts else "the relay does not listen",
            "draining": "the relay is closing its connections" if is_closing else "ok",
            "capacity": f"full: {', '.join(full_by)}" if full_by else "ok",
            _ROOMS: "full: max_rooms" if relay.hub.is_full else "ok",
            "backplane": relay.backplane.status().problem or "ok",
        }
        if self._probe is None or not relay.numPorts or is_closing or checks["backplane"] != "ok":
            return succeed(_readiness({**checks, "canary": "not asked"}))
        return self._probe.ask().addCallback(_with_probe, checks)

    def metrics(self, asked: Asked) -> Answer:
        """The metrics, for Prometheus."""
        return Answer(*self._metrics.text(asked.accept))

    # --- for people -------------------------------------------------------------------------------

    def page(self, asked: Asked) -> Answer:
        """The status page."""
        return self._page

    def status(self, asked: Asked) -> Answer:
        """The numbers on the status page."""
        relay, hub, stats = self._relay, self._relay.hub, self._relay.stats
        names = [name for name in hub if name != PROBE_ROOM]
        denied = [
            {"status": status, "reason": cause, "count": count}
            for (status, cause), count in stats.handshakes_denied.most_common(10)
        ]
        shown = {
            "version": __version__,
            "seconds": relay.reactor.seconds(),
            "counters": {name: getattr(stats, name) for name in _RATES},
            "connections": relay.admission.connections,
            "max_connections": relay.max_connections,
            "handshakes": relay.admission.handshakes,
            "memory_used_bytes": relay.memory.used_bytes,
            "memory_budget_bytes": relay.settings.memory_budget,
            "slow_subscribers": hub.slow_subscribers,
            "lag_messages": hub.lag_messages,
            "lag_bytes": hub.lag_bytes,
            "evictions": sum(stats.evictions.values()),
            "failures": stats.failures,
            "denied": sum(stats.handshakes_denied.values()),
            "refusals": denied,
            "draining": relay.draining,
            "backplane": relay.backplane.status(),
            "rooms": len(names),
            "largest_rooms": [hub.status(name) for name in nlargest(PAGE_ROOMS, names, hub.member_count)],
        }
        return as_json(shown)

    def rooms(self, asked: Asked) -> Answer:
        """One page of rooms, by name."""
        limit, after = _paging(asked)
        names = sorted(name for name in self._relay.hub if name != PROBE_ROOM)
        rest = [name for name in names if after is None or name > after]
        shown = rest[:limit]
        items = [self._relay.hub.status(name) for name in shown]
        return as_json({"items": items, "next": shown[-1] if len(rest) > limit else None, "total": len(names)})

    def connections(self, asked: Asked) -> Answer:
        """One page of connections, by number."""
        limit, after = _paging(asked)
        if after is not None and not (after.isascii() and after.isdigit() and len(after) <= 20):
            raise Denied(400, "after: must be the number of a connection")
        known = sorted(self._known(), key=attrgetter("number"))
        rest = [connection for connection in known if after is None or connection.number > int(after)]
        shown = rest[:limit]
        items = [connection.status() for connection in shown]
        return as_json({"items": items, "next": shown[-1].number if len(rest) > limit else None, "total": len(known)})

    def connection(self, asked: Asked, number: str) -> Answer:
        """One connection."""
        return as_json(self._find(number).status())

    def nodes(self, asked: Asked) -> "Deferred[Answer]":
        """The nodes that share rooms, this one included, by name."""
        return Deferred.fromCoroutine(self._relay.backplane.nodes()).addCallback(self._list_nodes)

    def _list_nodes(self, nodes: Sequence[NodeStatus]) -> Answer:
        items = sorted(nodes, key=attrgetter("name", "id"))
        return as_json({"items": items, "node": self._relay.node_id, "state": self._relay.backplane.status().state})

    # --- that change something --------------------------------------------------------------------

    def close(self, asked: Asked, number: str) -> Answer:
        """Close a connection."""
        self._find(number).close(closecodes.CLOSED_BY_OPERATOR)
        return Answer(status=204)

    def drain(self, asked: Asked) -> Answer:
        """Stop the relay politely."""
        if self._drain is None:
            raise Denied(501, "this relay is a part of another program: stop that")
        self._drain()
        return as_json({"draining": True, "connections": self._relay.admission.connections}, 202)

    def _known(self) -> list[RelayProtocol]:
        """Return all connections but those of the readiness probe."""
        return [
            connection
            for connection in self._relay.connections
            if isinstance(connection, RelayProtocol) and connection.grant.room != PROBE_ROOM
        ]

    def _find(self, number: str) -> RelayProtocol:
        for connection in self._known():
            if connection.number == int(number):
                return connection
        raise Denied(404, "there is no such connection, or not any more")


def _paging(asked: Asked) -> tuple[int, str | None]:
    """Return the limit, and the item behind which the page begins."""
    parameters = asked.parameters()
    if unknown := sorted(set(parameters) - {"limit", "after"}):
        raise Denied(400, f"{unknown[0][:40]}: there is no such parameter; there are limit and after")
    limit = parameters.get("limit", str(USUAL_LIMIT))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 4 and 1 <= int(limit) <= MAX_LIMIT):
        raise Denied(400, f"limit: must be a whole number from 1 to {MAX_LIMIT}")
    return int(limit), parameters.get("after")


def _with_probe(outcome: Outcome, checks: dict[str, str]) -> Answer:
    return _readiness({**checks, "canary": outcome.problem or "ok"}, round(outcome.seconds, 6))


def _readiness(checks: dict[str, str], canary_seconds: float | None = None) -> Answer:
    ready = {result for name, result in checks.items() if name != _ROOMS} <= {"ok", "not asked"}
    shown = {"ready": ready, "checks": checks, "canary_seconds": canary_seconds}
    return as_json(shown, 200 if ready else 503)
