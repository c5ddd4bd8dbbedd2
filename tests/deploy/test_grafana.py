"""deploy/grafana: the dashboard is valid by Grafana's schema, and Prometheus answers each query.

Grafana itself does not run: neither Debian nor PyPI has it. The dashboard is compared with the classes that Grafana
generates from its schema; they must know each field.
"""

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.files import DEPLOY, documents, package, rendered
from tests.deploy.ports import listening_port
from tests.deploy.stacks import admin_port
from tests.deploy.test_prometheus import rules
from tests.harness.broker import Broker
from tests.harness.clients import WebsocketsClient, text
from tests.harness.live import SECONDS, Process, Relay, relay, require, run

pytestmark = pytest.mark.deploy

FOLDER = DEPLOY / "grafana"

#: Values of Grafana's variables; its $__rate_interval is at least four scrapes.
VARIABLES = {"$__rate_interval": "30s", "$instance": ".*", "$datasource": "prometheus"}

#: Panels with data after some messages and one refused handshake.
BUSY = {
    *("Version", "Up for", "Draining", "Connections now", "Rooms now", "Failures", "Connections", "Messages", "Bytes"),
    *("Handshakes", "Handshakes in progress", "Reactor lag", "Flush duration", "Deliveries per flush"),
    *("Slow subscribers", "Lag in messages", "Lag in bytes", "Messages missed", "Kept waiting", "Denied by reason"),
    *("Closes by code", "Connections dropped", "Failures per second"),
    *("Memory budget", "Resident memory", "CPU", "Open files"),
}


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    return json.loads((FOLDER / "wsrelay.json").read_text("utf-8"))


def panels() -> list[dict[str, Any]]:
    """Return the panels without the row headings."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def query(target: dict[str, Any]) -> str:
    """Return the PromQL query of a target, with variables replaced."""
    expression = target["expr"]
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


def unknown(given: Any, taken: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of values that are missing or different after a round trip."""
    if isinstance(given, dict) and isinstance(taken, dict):
        for key, value in given.items():
            yield from unknown(value, taken[key], f"{path}/{key}") if key in taken else [f"{path}/{key}"]
    elif isinstance(given, list) and isinstance(taken, list) and len(given) == len(taken):
        for index, (one, other) in enumerate(zip(given, taken, strict=True)):
            yield from unknown(one, other, f"{path}/{index}")
    elif given != taken:
        yield f"{path}: {given!r} → {taken!r}"


def test_dashboard_schema() -> None:
    """Grafana's classes know each field of the dashboard, its panels and their queries."""
    package("grafana_foundation_sdk.cog.plugins").register_default_plugins()
    read = package("grafana_foundation_sdk.models.dashboard").Dashboard.from_json(dashboard())
    taken = json.loads(package("grafana_foundation_sdk.cog.encoder").JSONEncoder().encode(read))
    assert list(unknown(dashboard(), taken)) == []


def test_dashboard_layout() -> None:
    """Panel ids are unique, panels do not overlap, and the rows are in order."""
    every = dashboard()["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    rows = [panel["title"] for panel in every if panel["type"] == "row"]
    assert rows == ["Traffic", "Latency", "Slow readers", "Refusals and ends", "Process", "Backplane", "History"]
    cells = [
        {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        for place in (panel["gridPos"] for panel in every)
    ]
    assert all(one.isdisjoint(other) for one, other in combinations(cells, 2))
    assert all(x < 24 for cell in cells for x, _ in cell)


def test_panel_data_source() -> None:
    """Each panel uses the selected data source, and has legends and a description."""
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels():
        assert panel["datasource"] == chosen
        assert all(target["datasource"] == chosen and target["legendFormat"] for target in panel["targets"])
        assert panel["description"].endswith(".")


def test_promtool_parses_queries(tmp_path: Path) -> None:
    """Promtool parses each query."""
    records = [
        {"record": f"panel:{panel['id']}_{target['refId']}", "expr": query(target)}
        for panel in panels()
        for target in panel["targets"]
    ]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": records}]}))  # JSON is YAML
    ended = run(require("promtool"), "check", "rules", str(file))
    assert (ended.returncode, f"{len(records)} rules found" in ended.stdout) == (0, True), ended.stdout


def test_provisioning() -> None:
    """Paths and URLs of the provisioning files match the compose file."""
    (said,) = documents(DEPLOY / "docker" / "compose.yaml")
    mounts = [mount.split(":") for mount in said["services"]["grafana"]["volumes"]]
    (path,) = [target for source, target, *_ in mounts if source.endswith("wsrelay.json")]
    (dashboards,) = documents(FOLDER / "provisioning" / "dashboards" / "wsrelay.yaml")
    assert Path(path).parent == Path(dashboards["providers"][0]["options"]["path"])
    (sources,) = documents(FOLDER / "provisioning" / "datasources" / "prometheus.yaml")
    assert sources["datasources"][0]["url"] == "http://prometheus:9090"
    assert {"prometheus", "relay", "blackbox"} <= set(said["services"])


class Prometheus:
    """A running Prometheus.

    Args:
        port: its port on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/"

    def get(self, what: str, **parameters: str) -> Any:
        """Return the data of a response; raises on an error."""
        url = f"{self._url}{what}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            body = json.load(answer)
        assert body["status"] == "success"
        return body["data"]

    def series(self, expression: str) -> list[Any]:
        """Return the present value of an expression."""
        return self.get("query", query=expression)["result"]


@contextmanager
def exporter(folder: Path) -> Iterator[int]:
    """Run the blackbox exporter with its default configuration, as installed by Debian."""
    file = Path("/etc/prometheus/blackbox.yml")
    command = [require("prometheus-blackbox-exporter"), f"--config.file={file}", "--web.listen-address=127.0.0.1:0"]
    with Process(command, str(folder)) as process:
        process.output.wait_for("Listening on")
        yield listening_port(process.pid)


@contextmanager
def prometheus(folder: Path, admin: int, blackbox: int) -> Iterator[Prometheus]:
    """Run Prometheus with the configuration of deploy/, but scrape once a second."""
    places = {"relay:8081": f"127.0.0.1:{admin}", "blackbox:9115": f"127.0.0.1:{blackbox}", ": 15s": ": 1s"}
    (folder / "prometheus.yml").write_text(rendered("prometheus/prometheus.yml", places))
    (folder / "alerts.yml").write_text(rendered("prometheus/alerts.yml", {}))
    options = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"]
    with Process([require("prometheus"), *options], str(folder)) as process:
        process.output.wait_for("Server is ready to receive web requests")
        yield Prometheus(listening_port(process.pid))


def converse(server: Relay, until: Any) -> None:
    """Let clients send, leave and be refused until a condition is met."""
    with ExitStack() as stack:
        one, other = (stack.enter_context(WebsocketsClient(server.url("/room"))) for _ in range(2))
        count = 0
        while not until():
            count += 1
            assert count < 100_000
            one.say(text(f"message {count}"))
            assert other.hear() == f"message {count}"
            if count % 20 == 0:  # below the rate limit of connections
                with WebsocketsClient(server.url("/room")):
                    pass
                with server.connect() as refused:
                    refused.sendall(b"GET /room HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                    assert refused.recv(12) == b"HTTP/1.1 426"


def test_dashboard_on_prometheus(tmp_path: Path) -> None:
    """Prometheus scrapes a relay and answers each query, busy panels have data, and no alert fires."""
    with (
        relay("--admin", "tcp:0") as server,
        exporter(tmp_path) as blackbox,
        prometheus(tmp_path, admin_port(server), blackbox) as database,
    ):
        enough = 'min_over_time(up{job="wsrelay"}[1m]) == 1 and count_over_time(up{job="wsrelay"}[1m]) >= 4'
        converse(server, lambda: database.series(enough))
        # Runs all queries; an error raises.
        answers = {
            panel["title"]: [database.series(query(target)) for target in panel["targets"]] for panel in panels()
        }
        shown = {title for title, series in answers.items() if all(series)}
        assert shown >= BUSY, BUSY - shown

        ready = database.series('probe_success{job="wsrelay-ready"}')
        assert [sample["value"][1] for sample in ready] == ["1"]
        found = [rule for group in database.get("rules")["groups"] for rule in group["rules"]]
        assert {rule["name"]: rule["health"] for rule in found} == {rule["alert"]: "ok" for rule in rules()}
        # Half of the handshakes are refused, so this alert is pending; no alert fires before its "for" time.
        assert {rule["name"] for rule in found if rule["state"] != "inactive"} <= {"WsrelayRefusals"}


def test_queried_metrics_exist() -> None:
    """The relay exports each metric that queries and alerts use, some of them with a broker only."""
    with (
        Broker() as broker,
        relay("--admin", "tcp:0", "--backplane", broker.url) as server,
        urllib.request.urlopen(f"http://127.0.0.1:{admin_port(server)}/metrics", timeout=SECONDS) as answer,
    ):
        told = set(re.findall(r"^# TYPE (\S+)", answer.read().decode(), re.MULTILINE))
    asked = [query(target) for panel in panels() for target in panel["targets"]] + [rule["expr"] for rule in rules()]
    names = {
        name.removesuffix("_bucket") for words in asked for name in re.findall(r"\b(?:wsrelay|process)_\w+", words)
    }
    assert names <= told
