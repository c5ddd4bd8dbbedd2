"""deploy/prometheus: the rules are valid, each can raise its alert, and a healthy relay raises none."""

import re
from typing import Any

import pytest

from tests.deploy.files import DEPLOY, documents
from tests.harness.live import require, run

pytestmark = pytest.mark.deploy

FOLDER = DEPLOY / "prometheus"


def rules() -> list[dict[str, Any]]:
    """Return the alerting rules."""
    (said,) = documents(FOLDER / "alerts.yml")
    return [rule for group in said["groups"] for rule in group["rules"]]


@pytest.mark.parametrize(
    "command", ["check rules alerts.yml", "check config prometheus.yml", "test rules alerts_test.yml"]
)
def test_promtool(command: str) -> None:
    """Promtool accepts rules and configuration, and the unit tests of the rules pass."""
    ended = run(require("promtool"), *command.split(), cwd=FOLDER)
    assert (ended.returncode, "SUCCESS" in ended.stdout) == (0, True), ended.stdout
    assert not re.search("FAILED|WARN|error", ended.stdout), ended.stdout


def test_annotations() -> None:
    """Each alert has summary, description, action and severity."""
    for rule in rules():
        assert set(rule["annotations"]) == {"summary", "description", "action"}, rule["alert"]
        assert all(text.endswith((".", "?")) for key, text in rule["annotations"].items() if key != "summary")
        assert rule["labels"]["severity"] in {"page", "ticket"}, rule["alert"]


def test_full_relay_is_not_restarted() -> None:
    """Nothing advises to restart a relay because it is full."""
    actions = {rule["alert"]: rule["annotations"]["action"] for rule in rules()}
    for name in ("WsrelayConnectionsNearMax", "WsrelayMemoryNearBudget", "WsrelayRefusals"):
        assert "restart" not in actions[name].lower(), name
    [capacity] = re.findall(r"capacity: (.*?)\. \w+", actions["WsrelayNotReady"])
    assert "restart it" not in capacity


def test_rules_have_tests() -> None:
    """Each alert is raised in alerts_test.yml."""
    (said,) = documents(FOLDER / "alerts_test.yml")
    (raised,) = [test["promql_expr_test"][0] for test in said["tests"] if test["name"] == "everything is wrong"]
    names = {re.findall('"(.*)"', sample["labels"])[0] for sample in raised["exp_samples"]}
    assert names == {rule["alert"] for rule in rules()}
