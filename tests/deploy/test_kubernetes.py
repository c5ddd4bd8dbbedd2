"""deploy/kubernetes: the manifest is valid, and its numbers fit the relay's settings."""

from pathlib import Path
from typing import Any

import pytest

from tests.deploy.files import DEPLOY, documents, local, options, tool
from tests.harness.clients import WebsocketsClient, text
from tests.harness.live import LOOPBACK, relay, run
from wsrelay.settings import Settings

pytestmark = pytest.mark.deploy

FILE = DEPLOY / "kubernetes" / "wsrelay.yaml"


def manifest() -> dict[str, dict[str, Any]]:
    """Return the resources by kind."""
    return {resource["kind"]: resource for resource in documents(FILE)}


def pod() -> dict[str, Any]:
    """Return the specification of the pods."""
    return manifest()["Deployment"]["spec"]["template"]["spec"]


def said() -> str:
    """Return the options file of the ConfigMap."""
    return manifest()["ConfigMap"]["data"]["relay.toml"]


def setting(name: str) -> Any:
    """Return the value of an option in the pod."""
    return options(said()).get(name, getattr(Settings(), name.replace("-", "_"), None))


def test_manifest_schema() -> None:
    """All fields and values are valid by the schemas of Kubernetes."""
    ended = run(tool("kubernetes-validate"), "--strict", "--no-warn", str(FILE))
    assert ended.returncode == 0, ended.stdout
    assert set(manifest()) == {"ConfigMap", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}


def test_config_map(tmp_path: Path) -> None:
    """A relay with the options of the ConfigMap starts and relays."""
    file = tmp_path / "relay.toml"
    file.write_text(local(said()).replace("tcp:8080", LOOPBACK))
    with (
        relay(listen=[], environ={"WSRELAY_CONFIG": str(file)}) as server,
        WebsocketsClient(server.url("/room")) as one,
        WebsocketsClient(server.url("/room")) as other,
    ):
        one.say(text("hello"))
        assert other.hear() == "hello"


def test_grace_period() -> None:
    """The grace period covers preStop, drain and close; the readiness timeout is above the probe's own."""
    (container,) = pod()["containers"]
    *_, waiting = container["lifecycle"]["preStop"]["exec"]["command"]
    pause = float(waiting.partition("time.sleep(")[2].rstrip(")"))
    assert pause > 0
    assert pod()["terminationGracePeriodSeconds"] >= pause + setting("drain-seconds") + setting("close-seconds") + 5
    assert container["readinessProbe"]["timeoutSeconds"] > getattr(Settings(), "canary_seconds", 1)


def test_probes() -> None:
    """Startup and liveness probes ask /healthz, readiness /readyz, on an admin port that is reachable from outside."""
    (container,) = pod()["containers"]
    probes = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {name: (probe["path"], probe["port"]) for name, probe in probes.items()} == {
        "startupProbe": ("/healthz", "admin"),
        "livenessProbe": ("/healthz", "admin"),
        "readinessProbe": ("/readyz", "admin"),
    }
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert f"tcp:{ports['admin']}:interface=0.0.0.0" == options(said())["admin"]
    assert f"tcp:{ports['relay']}" in options(said())["listen"]
    annotations = manifest()["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports["admin"])


def test_memory_limit() -> None:
    """The memory limit is twice the budget: Python is not in the budget."""
    (container,) = pod()["containers"]
    limit = int(container["resources"]["limits"]["memory"].removesuffix("Gi")) << 30
    assert limit >= 2 * setting("memory-budget")


def test_network_policy() -> None:
    """The Service has only the clients' port; the policy opens the admin port to one namespace."""
    assert [port["targetPort"] for port in manifest()["Service"]["spec"]["ports"]] == ["relay"]
    rules = {rule["ports"][0]["port"]: rule.get("from") for rule in manifest()["NetworkPolicy"]["spec"]["ingress"]}
    assert set(rules) == {"relay", "admin"}
    assert rules["relay"] is None
    assert rules["admin"]


def test_labels() -> None:
    """All selectors match the labels of the pods."""
    found = manifest()
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert found["Deployment"]["spec"]["replicas"] == 1


def test_security_context() -> None:
    """The pod runs as the image's user, read-only, without capabilities or privilege escalation."""
    (container,) = pod()["containers"]
    user = pod()["securityContext"]
    assert f"USER {user['runAsUser']}:{user['runAsGroup']}\n" in (DEPLOY / "docker" / "Dockerfile").read_text("utf-8")
    assert user["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
