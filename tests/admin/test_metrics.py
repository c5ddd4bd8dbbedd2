"""Tests of wsrelay.admin.metrics: what Prometheus reads."""

import re
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import live
from tests.harness.backplane import BrokerTestCase
from tests.harness.support import Relay, RelayTestCase, request_bytes
from wsrelay import __version__
from wsrelay.admin.metrics import Metrics
from wsrelay.rooms import room as room_module
from wsrelay.validators import probe
from wsrelay.wire.native import IS_COMPILED

#: What docs, dashboards and alerts build on: a metric that goes or changes its labels breaks this on purpose.
NAMES = {
    "wsrelay_build_info": {"version", "compiled"},
    "wsrelay_connections": set(),
    "wsrelay_connections_closed_total": {"by", "code"},
    "wsrelay_connections_dropped_total": set(),
    "wsrelay_deliveries_total": set(),
    "wsrelay_draining": set(),
    "wsrelay_evictions_total": {"policy"},
    "wsrelay_failures_total": set(),
    "wsrelay_flush_deliveries_bucket": {"le"},
    "wsrelay_flush_seconds_bucket": {"le"},
    "wsrelay_handshakes_in_progress": set(),
    "wsrelay_handshakes_total": {"outcome", "status", "reason"},
    "wsrelay_http_requests_total": {"method", "status"},
    "wsrelay_history_bytes": set(),
    "wsrelay_history_rooms": set(),
    "wsrelay_lag_bytes": set(),
    "wsrelay_lag_messages": set(),
    "wsrelay_log_bytes": set(),
    "wsrelay_max_connections": set(),
    "wsrelay_memory_budget_bytes": set(),
    "wsrelay_memory_used_bytes": set(),
    "wsrelay_messages_dropped_total": set(),
    "wsrelay_messages_missed_total": set(),
    "wsrelay_messages_received_total": set(),
    "wsrelay_publisher_pauses_total": set(),
    "wsrelay_reactor_lag_seconds_bucket": {"le"},
    "wsrelay_received_bytes_total": set(),
    "wsrelay_replayed_messages_total": set(),
    "wsrelay_replaying": set(),
    "wsrelay_resumes_total": {"outcome"},
    "wsrelay_rooms": set(),
    "wsrelay_sent_bytes_total": set(),
    "wsrelay_slow_subscribers": set(),
    "wsrelay_slowdowns_total": set(),
}


class MetricsTestCase(RelayTestCase):
    """A relay at which something has happened."""

    def setUp(self) -> None:
        self.patch(room_module, "MANY", 0)  # messages wait for the flush
        super().setUp()
        self.harness = self.relay(max_message_bytes=100, room_log_bytes=10_000)
        clients = [self.harness.client() for _ in range(3)]
        clients[0].say("hello")
        self.harness.settle()
        clients[1].say("x" * 101)
        self.harness.settle()
        clients[2].sendClose(3456)
        self.harness.settle()
        self.harness.wire().send(request_bytes(fields={"Host": None}))
        self.harness.stats.evictions["disconnect"] += 1
        self.harness.stats.http_requests["POST", 202] += 1
        self.harness.stats.resumes["gone"] += 2
        self.metrics = Metrics(self.harness.factory)

    def samples(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        """Return name → labels and value."""
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(self.metrics.text("")[0].decode()):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
        return found


class CollectTests(MetricsTestCase):
    """What there is."""

    def test_names(self) -> None:
        """Every metric is there, with its labels; no room and no client is a label."""
        ours = {name: set(samples[0][0]) for name, samples in self.samples().items() if name.startswith("wsrelay_")}

        self.assertEqual({name: ours.get(name) for name in NAMES}, NAMES)
        self.assertEqual({re.sub("_(sum|count)$", "_bucket", name) for name in ours}, set(NAMES))

    def test_values(self) -> None:
        """They say what has happened."""
        samples = self.samples()

        compiled = "true" if IS_COMPILED else "false"
        self.assertEqual(samples["wsrelay_build_info"], [({"version": __version__, "compiled": compiled}, 1)])
        self.assertEqual(samples["wsrelay_connections"], [({}, 2)])  # who was refused has not gone yet
        self.assertEqual(
            samples["wsrelay_handshakes_total"],
            [
                ({"outcome": "accepted", "status": "101", "reason": ""}, 3),
                ({"outcome": "denied", "status": "400", "reason": "malformed"}, 1),
            ],
        )
        self.assertCountEqual(
            samples["wsrelay_connections_closed_total"],
            [({"by": "relay", "code": "1009"}, 1), ({"by": "client", "code": "3xxx"}, 1)],
        )
        self.assertEqual(samples["wsrelay_messages_received_total"], [({}, 1)])
        self.assertEqual(samples["wsrelay_deliveries_total"], [({}, 2)])
        self.assertEqual(samples["wsrelay_evictions_total"], [({"policy": "disconnect"}, 1)])
        self.assertEqual(samples["wsrelay_resumes_total"], [({"outcome": "gone"}, 2)])
        self.assertEqual(samples["wsrelay_http_requests_total"], [({"method": "POST", "status": "202"}, 1)])

    def test_histograms(self) -> None:
        """Buckets add up, as Prometheus has them: each holds those below."""
        samples = self.samples()
        buckets = samples["wsrelay_flush_deliveries_bucket"]

        self.assertEqual(buckets[0], ({"le": "1.0"}, 0))
        self.assertEqual((buckets[1], buckets[-1]), (({"le": "10.0"}, 1), ({"le": "+Inf"}, 1)))
        self.assertEqual(samples["wsrelay_flush_deliveries_sum"], [({}, 2)])
        self.assertEqual(samples["wsrelay_flush_deliveries_count"], [({}, 1)])

    def test_rooms(self) -> None:
        """The room of the readiness probe is not counted."""
        self.assertEqual(self.samples()["wsrelay_rooms"], [({}, 1)])
        self.harness.client(headers=dict(probe.FIELDS))
        self.assertEqual(self.samples()["wsrelay_rooms"], [({}, 1)])

    def test_process(self) -> None:
        """The process and its Python are there, too, in a registry of this relay's own."""
        samples = self.samples()
        for name in ("process_resident_memory_bytes", "process_open_fds", "python_info", "python_gc_collections_total"):
            self.assertIn(name, samples)
        Metrics(self.harness.factory)

    def test_formats(self) -> None:
        """Who asks for OpenMetrics gets it; all others get the older text."""
        text, kind = self.metrics.text("application/openmetrics-text; version=1.0.0")
        self.assertTrue(text.endswith(b"# EOF\n"))
        self.assertIn("application/openmetrics-text", kind)
        for accept in ("*/*", "", ";;;", "text/plain; version=x"):
            self.assertIn("text/plain; version=0.0.4", self.metrics.text(accept)[1])
        for accept in ("application/openmetrics-text", "application/openmetrics-text; version=x; escaping="):
            self.assertEqual(self.metrics.text(accept)[1], kind)


@pytest.mark.interop
class PromtoolTests(MetricsTestCase):
    """Prometheus' own opinion."""

    def test_no_complaints(self) -> None:
        """It can read the metrics, and finds no name, unit or help to complain about."""
        text, _ = self.metrics.text("")
        checked = subprocess.run(
            [live.require("promtool"), "check", "metrics"],
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=live.SECONDS,
            check=False,
        )

        self.assertEqual((checked.returncode, checked.stdout.decode()), (0, ""))


class BackplaneTests(BrokerTestCase):
    """Metrics of a backplane with a broker."""

    def samples(self, relay: Relay) -> dict[str, list[tuple[dict[str, str], float]]]:
        """Return name → labels and value, of those of the backplane."""
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(Metrics(relay.factory).text("")[0].decode()):
            for sample in family.samples:
                if sample.name.startswith("wsrelay_backplane_"):
                    found.setdefault(sample.name.removeprefix("wsrelay_backplane_"), []).append(
                        (sample.labels, sample.value)
                    )
        return found

    def test_local(self) -> None:
        """Without a broker there are none."""
        self.assertEqual(self.samples(self.relay()), {})

    def test_values(self) -> None:
        """They say what has happened."""
        node = self.node()
        node.client().say("hi")
        self.publish_elsewhere(1, "1", "2")
        self.publish_elsewhere(1, "1", "2")
        self.publish_elsewhere(2, "3", room="elsewhere")
        self.publish_elsewhere(4, "4")
        node.settle()
        samples = self.samples(node)
        counts = {name: values[0][1] for name, values in samples.items() if values[0][0] == {}}
        expected = {"duplicates_total": 1, "gaps_total": 1, "incarnations_total": 0, "resent_total": 0, "nodes": 2}
        expected |= {"published_entries_total": 2, "read_entries_total": 6, "pending_bytes": 0, "lag_seconds": 0}
        self.assertEqual({name: counts[name] for name in expected}, expected)
        self.assertEqual(samples["read_messages_total"], [({"here": "yes"}, 2), ({"here": "no"}, 2)])
        self.assertEqual(samples["round_trip_seconds_count"], [({}, 2)])
        self.assertNotIn("reconnects_total", samples)

    def test_state(self) -> None:
        """One of the states is 1."""
        node = self.node(backplane_grace_seconds=1.0)
        self.broker.is_down = True
        self.broker.cut()
        states: list[str] = []
        for _ in range(6):
            values = {labels["state"]: value for labels, value in self.samples(node)["state"]}
            self.assertEqual((sum(values.values()), len(values)), (1, 5))
            states += [state for state, value in values.items() if value]
            node.wait(0.5)
        self.assertEqual(list(dict.fromkeys(states)), ["up", "interrupted", "down"])
        [(_, closed), *_] = self.samples(node)["reconnects_total"]
        self.assertEqual(closed, 1)
