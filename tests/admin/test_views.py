"""Tests of wsrelay.admin.views: health, readiness, metrics, rooms, connections, drain, and the status page."""

from dataclasses import fields
from typing import Any

from twisted.internet.defer import Deferred

from tests.harness.admin import Connection, Response, head, server
from tests.harness.backplane import BrokerTestCase
from tests.harness.support import Relay, RelayTestCase, request_bytes
from wsrelay import __version__, closecodes
from wsrelay.admin.probe import Outcome
from wsrelay.admin.routes import Routes
from wsrelay.admin.views import Views
from wsrelay.stats import NodeStatus
from wsrelay.validators import probe


class Probe:
    """A readiness probe whose outcomes the test decides."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Outcome]] = []

    def ask(self) -> "Deferred[Outcome]":
        self.asked.append(Deferred())
        return self.asked[-1]


class ViewsTestCase(RelayTestCase):
    """A relay with an admin endpoint."""

    def start(self, *, has_probe: bool = True, can_drain: bool = True, **settings: Any) -> Relay:
        relay = self.relay(**settings)
        relay.factory.numPorts = 1
        self.probe, self.drains = Probe(), []
        views = Views(
            relay.factory,
            self.probe if has_probe else None,  # type: ignore[arg-type]
            (lambda: self.drains.append(True)) if can_drain else None,
        )
        self.server, _ = server(Routes(views.routes).answer)
        return relay

    def ask(self, target: str, method: str = "GET", **fields: str) -> Response:
        self.connection = Connection(self.server)
        return self.connection.send(head(target, method, **fields))


class HealthTests(ViewsTestCase):
    """Probes."""

    def test_alive(self) -> None:
        """Liveness is 200."""
        self.start()
        self.assertEqual((self.ask("/healthz").status, self.ask("/healthz").text), (200, "ok"))

    def test_ready(self) -> None:
        """With a successful probe, the relay is ready."""
        self.start()
        self.assertEqual(self.ask("/readyz").status, 0)
        self.probe.asked.pop().callback(Outcome("", 0.0123456789))

        self.assertEqual(self.connection.response.status, 200)
        self.assertEqual(
            self.connection.response.json,
            {
                "ready": True,
                "checks": dict.fromkeys(("listening", "draining", "capacity", "rooms", "backplane", "canary"), "ok"),
                "canary_seconds": 0.012346,
            },
        )

    def test_wedged(self) -> None:
        """With a failed probe, it is not ready, and says why."""
        self.start()
        self.ask("/readyz")
        self.probe.asked.pop().callback(Outcome("what was published was not delivered within 1 s", 1.0))
        shown = self.connection.response.json

        self.assertEqual((self.connection.response.status, shown["ready"]), (503, False))
        self.assertEqual(shown["checks"]["canary"], "what was published was not delivered within 1 s")

    def test_full(self) -> None:
        """A full relay is not ready, and a check names the limits; without new rooms only, it is, and says so."""
        relay = self.start(max_connections=2, max_rooms=1)
        relay.client("/a")
        for status, full in (
            (200, "ok"),
            (503, "full: max_connections"),
            (503, "full: max_connections, memory_budget"),
        ):
            self.ask("/readyz")
            self.probe.asked.pop().callback(Outcome("", 0.01))
            self.assertEqual(self.connection.response.status, status)
            checks = dict.fromkeys(("listening", "draining", "backplane", "canary"), "ok")
            checks |= {"capacity": full, "rooms": "full: max_rooms"}
            self.assertEqual(self.connection.response.json["checks"], checks)
            relay.factory.admission.overloaded = relay.factory.admission.connections == 2
            relay.client("/a")

    def test_without_probe(self) -> None:
        """Without a probe, the other checks decide."""
        self.start(has_probe=False)
        self.assertEqual((self.ask("/readyz").status, self.ask("/readyz").json["checks"]["canary"]), (200, "not asked"))

    def test_not_listening(self) -> None:
        """A relay that does not listen is not ready, and not probed."""
        self.start().factory.numPorts = 0
        response = self.ask("/readyz")

        self.assertEqual((response.status, self.probe.asked), (503, []))
        self.assertEqual(response.json["checks"]["listening"], "the relay does not listen")

    def test_draining(self) -> None:
        """A draining relay is not ready."""
        relay = self.start()
        relay.client()
        relay.factory.close_all(closecodes.RESTARTING, 5, 4)
        response = self.ask("/readyz")

        self.assertEqual(response.status, 503)
        self.assertEqual(response.json["checks"]["draining"], "the relay is closing its connections")


class MetricsTests(ViewsTestCase):
    """/metrics."""

    def test_formats(self) -> None:
        """Accept chooses the format."""
        self.start()
        for accept, kind in (
            ("*/*", "text/plain; version=0.0.4"),
            ("application/openmetrics-text", "application/open"),
        ):
            response = self.ask("/metrics", Accept=accept)
            self.assertTrue(response.fields["content-type"].startswith(kind), response.fields)
            self.assertIn(b"\nwsrelay_draining 0.0\n", response.body)


class RoomsTests(ViewsTestCase):
    """/rooms."""

    def test_rooms(self) -> None:
        """Each room shows its members and messages, by name; the room of the probe is hidden."""
        relay = self.start()
        relay.client("/b").say("hello")
        relay.client("/b")
        relay.client("/a")
        relay.client(headers=dict(probe.FIELDS))
        shown = self.ask("/rooms").json

        self.assertEqual([item["name"] for item in shown["items"]], ["a", "b"])
        self.assertEqual((shown["next"], shown["total"]), (None, 2))
        room = shown["items"][1]
        self.assertEqual((room["members"], room["publishers"], room["messages"], room["held"]), (2, 2, 1, False))

    def test_pages(self) -> None:
        """A page of the list names the next one; names may have any characters."""
        relay = self.start()
        for name in ("a", "b&c", "caf%C3%A9", "d"):
            relay.client(f"/{name}")
        first = self.ask("/rooms?limit=2").json
        second = self.ask("/rooms?limit=1&after=b%26c").json
        third = self.ask("/rooms?after=caf%C3%A9").json

        self.assertEqual([[item["name"] for item in page["items"]] for page in (first, second, third)], NAMES)
        self.assertEqual([page["next"] for page in (first, second, third)], ["b&c", "café", None])
        self.assertEqual({page["total"] for page in (first, second, third)}, {4})

    def test_wrong_parameters(self) -> None:
        """A wrong parameter is a 400 that names the right values."""
        self.start()
        for wrong in ("limit=0", "limit=1001", "limit=-1", "limit=x", "limit=", "limit=1.5", "limit=%C2%B2"):
            response = self.ask(f"/rooms?{wrong}")
            self.assertEqual((response.status, response.json["error"]), (400, LIMIT), wrong)
        response = self.ask("/rooms?page=2")
        self.assertEqual((response.status, response.json["error"]), (400, UNKNOWN))
        for ambiguous in ("limit=1&limit=1", "after=%E9"):
            self.assertEqual(self.ask(f"/rooms?{ambiguous}").status, 400)
        self.assertEqual(self.ask("/rooms?limit=1000").status, 200)


NAMES = [["a", "b&c"], ["café"], ["d"]]
LIMIT = "limit: must be a whole number from 1 to 1000"
UNKNOWN = "page: there is no such parameter; there are limit and after"


class ConnectionsTests(ViewsTestCase):
    """/connections."""

    def test_connections(self) -> None:
        """Connections are listed by number, unfinished handshakes included."""
        relay = self.start()
        relay.client("/room").say("hello")
        relay.wire()
        relay.client(headers=dict(probe.FIELDS))
        shown = self.ask("/connections").json

        self.assertEqual((shown["next"], shown["total"]), (None, 2))
        self.assertEqual(
            [(item["state"], item["room"]) for item in shown["items"]], [("open", "room"), ("handshake", "")]
        )
        self.assertEqual((shown["items"][0]["messages_in"], shown["items"][0]["identity"]), (1, None))
        self.assertEqual(self.ask("/connections/1").json, shown["items"][0])

    def test_pages(self) -> None:
        """The list is paged by number."""
        relay = self.start()
        for _ in range(3):
            relay.client()
        page = self.ask("/connections?limit=1&after=1").json

        self.assertEqual(([item["number"] for item in page["items"]], page["next"], page["total"]), ([2], 2, 3))
        self.assertIsNone(self.ask("/connections?after=2").json["next"])
        for wrong in ("x", "", "-1", "%C2%B2", "9" * 21):
            response = self.ask(f"/connections?after={wrong}")
            self.assertEqual(
                (response.status, response.json["error"]), (400, "after: must be the number of a connection")
            )

    def test_close(self) -> None:
        """DELETE closes with 4403; a second DELETE does no harm."""
        relay = self.start()
        client, other = relay.client(), relay.client()
        self.assertEqual([self.ask("/connections/1", "DELETE").status for _ in range(2)], [204, 204])
        relay.settle()

        self.assertEqual((client.closed, other.open), ((4403, "closed by the operator"), True))
        self.assertEqual(self.ask("/connections/1", "DELETE").status, 404)

    def test_close_a_handshake(self) -> None:
        """DELETE refuses an unfinished handshake with 503."""
        relay = self.start()
        wire = relay.wire()
        wire.send(b"GET /")
        self.assertEqual(self.ask("/connections/1", "DELETE").status, 204)
        wire.send(b"")

        self.assertEqual(wire.status, 503)

    def test_unknown(self) -> None:
        """An unknown number is a 404; so are the connections of the probe."""
        relay = self.start()
        relay.client(headers=dict(probe.FIELDS))
        for number in ("1", "2", "99999999999999999999"):
            for method in ("GET", "DELETE"):
                self.assertEqual(self.ask(f"/connections/{number}", method).status, 404)


class DrainTests(ViewsTestCase):
    """POST /drain."""

    def test_drain(self) -> None:
        """A drain is accepted with 202."""
        relay = self.start()
        relay.client()
        response = self.ask("/drain", "POST")

        self.assertEqual((response.status, response.json), (202, {"draining": True, "connections": 1}))
        self.assertEqual(self.drains, [True])

    def test_not_ours(self) -> None:
        """Inside another program, a drain is a 501."""
        self.start(can_drain=False)
        self.assertEqual(self.ask("/drain", "POST").status, 501)

    def test_only_post(self) -> None:
        """A GET does not drain."""
        self.start()
        self.assertEqual((self.ask("/drain").status, self.drains), (405, []))


class PageTests(ViewsTestCase):
    """The status page."""

    def test_status(self) -> None:
        """Its numbers are counters, the largest rooms, and refusals by reason."""
        relay = self.start()
        for path in ("/small", "/large", "/large"):
            relay.client(path).say("hello")
        relay.client(headers=dict(probe.FIELDS))
        relay.wire().send(request_bytes(fields={"Host": None}))
        shown = self.ask("/status.json").json

        self.assertEqual((shown["version"], shown["rooms"], shown["counters"]["messages_in"]), (__version__, 2, 3))
        self.assertEqual([room["name"] for room in shown["largest_rooms"]], ["large", "small"])
        self.assertEqual(
            (shown["denied"], shown["refusals"]), (1, [{"status": 400, "reason": "malformed", "count": 1}])
        )
        self.assertFalse(shown["draining"])

    def test_page(self) -> None:
        """The page runs its own script and style, by their hashes, and loads nothing else."""
        self.start()
        response = self.ask("/")
        page = response.text

        self.assertEqual(response.fields["content-type"], "text/html; charset=utf-8")
        policy = response.fields["content-security-policy"]
        self.assertRegex(policy, r"default-src 'none'; script-src 'sha256-[^']{44}'; style-src 'sha256-[^']{44}';")
        self.assertNotIn("unsafe", policy)
        for inline in (" style=", " onclick=", "http://", "https://", "innerHTML", "<script src"):
            self.assertNotIn(inline, page)
        self.assertEqual((page.count("<script>"), page.count("<style>")), (1, 1))
        self.assertIn('<meta name="viewport"', page)


class NodesTests(BrokerTestCase):
    """Several nodes."""

    def ask(self, relay: Relay, target: str) -> Connection:
        """Ask the admin endpoint of a relay."""
        connection = Connection(server(Routes(Views(relay.factory, None, None).routes).answer)[0])
        connection.send(head(target))
        relay.settle()
        return connection

    def test_local(self) -> None:
        """Without a broker the list has this process."""
        relay = self.relay(node_name="me")
        relay.client()
        shown = self.ask(relay, "/nodes").response.json
        [item] = shown["items"]
        self.assertEqual((shown["state"], shown["node"]), ("local", item["id"]))
        self.assertEqual((item["name"], item["connections"], item["rooms"]), ("me", 1, 1))
        self.assertEqual(set(item), {field.name for field in fields(NodeStatus)})

    def test_nodes(self) -> None:
        """With a broker it has all, by name, and the state of the one that answers."""
        two, one = self.node(node_name="b"), self.node(node_name="a")
        one.wait(3)
        shown = self.ask(two, "/nodes").response.json
        self.assertEqual([item["name"] for item in shown["items"]], ["a", "b"])
        self.assertEqual((shown["state"], shown["node"]), ("up", two.factory.node_id))
        self.assertEqual([item["id"] for item in shown["items"]], [one.factory.node_id, two.factory.node_id])

    def test_readiness(self) -> None:
        """While the backplane does not deliver, the relay is not ready, and says why."""
        node = self.node(backplane_grace_seconds=2.0)
        node.factory.numPorts = 1
        self.assertEqual(self.ask(node, "/readyz").response.status, 200)
        self.broker.is_down = True
        self.broker.cut()
        node.settle()
        response = self.ask(node, "/readyz").response
        self.assertEqual((response.status, response.json["ready"]), (503, False))
        self.assertRegex(response.json["checks"]["backplane"], "broker:6379: it closed the connection")
        node.wait(4)
        self.assertRegex(self.ask(node, "/readyz").response.json["checks"]["backplane"], "nothing listens there")
        self.broker.is_down = False
        node.wait(3)
        self.assertEqual(self.ask(node, "/readyz").response.json["checks"]["backplane"], "ok")

    def test_status(self) -> None:
        """The status page has the backplane's state."""
        shown = self.ask(self.node(), "/status.json").response.json["backplane"]
        self.assertEqual((shown["state"], shown["problem"], shown["nodes"]), ("up", "", 1))
