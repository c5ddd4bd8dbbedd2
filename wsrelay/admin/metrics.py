"""Metrics in the formats of Prometheus. No label value comes from a client: rooms and connections are no labels.

A scrape reads the counters of :mod:`wsrelay.stats`, so metrics add no cost to a delivery. Must not live here: counting.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from wsrelay import __version__
from wsrelay.factory import RelayFactory
from wsrelay.names import PROBE_ROOM
from wsrelay.stats import Histogram
from wsrelay.wire.native import IS_COMPILED

__all__ = ["Metrics"]

#: Label values, one or several → count.
_Counts = Mapping[str, float] | Mapping[tuple[str | int, ...], float]

#: Counters: metric → help text, attribute of :class:`wsrelay.stats.Stats`.
_COUNTERS: Final = {
    "connections_dropped": ("Over-limit connections ended without a response.", "connections_dropped"),
    "messages_received": ("Messages accepted from publishers.", "messages_in"),
    "received_bytes": ("Bytes of messages accepted from publishers, as plain frames.", "bytes_in"),
    "deliveries": ("Messages written to subscribers, counted once per subscriber.", "deliveries"),
    "sent_bytes": ("Bytes of frames written to subscribers.", "bytes_out"),
    "messages_dropped": ("Messages received on a closing connection.", "messages_dropped"),
    "messages_missed": (
        "Messages in the log that a slow subscriber skipped, or left behind at its end.",
        "messages_missed",
    ),
    "replayed_messages": ("Old messages written to subscribers that joined or returned.", "replayed_messages"),
    "publisher_pauses": ("Times that a room held its publishers.", "pauses"),
    "slowdowns": ("Times that a connection was held by its rate limit.", "slowdowns"),
    "failures": ("Callbacks that raised: bugs of the relay or of an extension.", "failures"),
}

#: The same with labels, in the order of the attribute's keys.
_LABELLED: Final = {
    "connections_closed": ("Connections that were open and ended.", "connections_closed", ("by", "code")),
    "evictions": ("Times that a slow policy acted on a subscriber.", "evictions", ("policy",)),
    "resumes": ("Clients that asked for the messages after an id, by outcome.", "resumes", ("outcome",)),
    "http_requests": ("HTTP requests on the relay's own ports.", "http_requests", ("method", "status")),
}

#: The states of a backplane with a broker.
_STATES: Final = ("connecting", "up", "interrupted", "down", "closed")

#: Gauges of a backplane: attribute of :class:`wsrelay.stats.BackplaneStatus` → help text.
_BACKPLANE_GAUGES: Final = {
    "pending_bytes": "Bytes of messages that the broker has not acknowledged.",
    "lag_seconds": "Time for which the oldest own entry has not come back.",
    "nodes": "Nodes heard within ten seconds, this one included.",
}

#: Counters of a backplane: attribute of :class:`wsrelay.stats.BackplaneStats` → help text.
_BACKPLANE_COUNTERS: Final = {
    "incarnations": "Times that the broker was another one: restarted, or a replica took over.",
    "published_entries": "Entries that the broker has acknowledged.",
    "read_entries": "Entries read, own ones included.",
    "duplicates": "Entries that had been read before, and were skipped.",
    "gaps": "Times that entries of a node were missing: messages were lost.",
    "resent": "Entries sent again, because a broker might not have them.",
}

#: The same with a label.
_BACKPLANE_LABELLED: Final = {
    "reconnects": ("Connections to the broker that ended or failed.", "reason"),
    "read_messages": ("Messages of other nodes read; whether their room has members here.", "here"),
}

#: The newer of the two formats.
_OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0"

_HISTOGRAMS: Final = {
    "flush_deliveries": "Deliveries of the flushes of one turn of the reactor.",
    "flush_seconds": "Time that the flushes of one turn of the reactor took.",
    "reactor_lag_seconds": "Delay of the sweep over deadlines: how long the reactor was blocked.",
}


class Metrics(Collector):
    """The collector of all metrics of a relay.

    Args:
        relay: the relay.
    """

    def __init__(self, relay: RelayFactory) -> None:
        self._relay = relay
        self._registry = CollectorRegistry()
        self._registry.register(self)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return the current metrics, and their content type.

        Args:
            accept: the ``Accept`` field of the request.
        """
        # Not the whole field: prometheus-client raises for a malformed version (TRAPS 86).
        encode, content_type = choose_encoder(_OPENMETRICS if "application/openmetrics-text" in accept else "")
        return encode(self._registry), content_type

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registration then does not collect."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Read all counters and gauges of the relay."""
        stats = self._relay.stats
        for name, (text, value) in self._gauges().items():
            yield GaugeMetricFamily(f"wsrelay_{name}", text, value)
        build = GaugeMetricFamily("wsrelay_build_info", "The version that runs.", labels=["version", "compiled"])
        build.add_metric([__version__, str(IS_COMPILED).lower()], 1)
        yield build
        yield self._handshakes()
        for name, (text, attribute) in _COUNTERS.items():
            yield CounterMetricFamily(f"wsrelay_{name}", text, getattr(stats, attribute))
        for name, (text, attribute, labels) in _LABELLED.items():
            yield _labelled(f"wsrelay_{name}", text, labels, getattr(stats, attribute))
        for name, text in _HISTOGRAMS.items():
            yield _histogram(f"wsrelay_{name}", text, getattr(stats, name))
        if self._relay.settings.backplane:
            yield from self._backplane()

    def _gauges(self) -> Mapping[str, tuple[str, float]]:
        relay = self._relay
        hub = relay.hub
        return {
            "connections": ("TCP connections, unfinished handshakes included.", relay.admission.connections),
            "handshakes_in_progress": ("Unfinished handshakes.", relay.admission.handshakes),
            "max_connections": ("The highest number of connections.", relay.max_connections),
            "rooms": ("Open rooms.", len(hub) - (hub.member_count(PROBE_ROOM) > 0)),
            "log_bytes": ("Bytes in the logs of all rooms, kept for slow subscribers.", hub.log_bytes),
            "memory_used_bytes": ("Bytes kept for all clients, as of the last sweep.", relay.memory.used_bytes),
            "memory_budget_bytes": (
                "The highest number of bytes kept for all clients; 0 is no limit.",
                relay.settings.memory_budget,
            ),
            "slow_subscribers": ("Subscribers that are behind.", hub.slow_subscribers),
            "lag_messages": ("Messages that the slowest subscriber is behind.", hub.lag_messages),
            "lag_bytes": ("Bytes of the largest room log kept for a slow subscriber.", hub.lag_bytes),
            "replaying": ("Subscribers that still receive old messages.", hub.replaying),
            "history_rooms": ("Rooms without members, kept for their history.", relay.stats.history_rooms),
            "history_bytes": ("Bytes in the logs of these rooms.", relay.stats.history_bytes),
            "draining": ("Whether the relay is closing its connections.", relay.draining),
        }

    def _backplane(self) -> Iterator[Metric]:
        """Yield the metrics of a backplane with a broker."""
        status, stats = self._relay.backplane.status(), self._relay.stats.backplane
        state = GaugeMetricFamily("wsrelay_backplane_state", "1 for the present state.", labels=["state"])
        for name in _STATES:
            state.add_metric([name], name == status.state)
        yield state
        for name, text in _BACKPLANE_GAUGES.items():
            yield GaugeMetricFamily(f"wsrelay_backplane_{name}", text, getattr(status, name))
        for name, text in _BACKPLANE_COUNTERS.items():
            yield CounterMetricFamily(f"wsrelay_backplane_{name}", text, getattr(stats, name))
        for name, (text, label) in _BACKPLANE_LABELLED.items():
            yield _labelled(f"wsrelay_backplane_{name}", text, (label,), getattr(stats, name))
        text = "Time from sending an entry to reading it back."
        yield _histogram("wsrelay_backplane_round_trip_seconds", text, stats.round_trip_seconds)

    def _handshakes(self) -> Metric:
        stats = self._relay.stats
        text = "Handshakes by outcome; the reason is the limit or the validator that refused."
        metric = CounterMetricFamily("wsrelay_handshakes", text, labels=["outcome", "status", "reason"])
        metric.add_metric(["accepted", "101", ""], stats.connections_opened)
        for (status, cause), count in stats.handshakes_denied.items():
            metric.add_metric(["denied", str(status), cause], count)
        return metric


def _labelled(name: str, text: str, labels: tuple[str, ...], counts: _Counts) -> Metric:
    metric = CounterMetricFamily(name, text, labels=labels)
    for key, count in counts.items():
        metric.add_metric([str(value) for value in (key if isinstance(key, tuple) else (key,))], count)
    return metric


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    buckets, below = [], 0
    for bound, count in zip((*histogram.bounds, math.inf), histogram.counts, strict=True):
        below += count
        buckets.append((floatToGoString(bound), below))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=histogram.total)
