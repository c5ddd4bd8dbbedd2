"""deploy/kubernetes: the manifest is valid, and its numbers fit the relay's settings."""

from pathlib import Path
from typing import Any

import pytest

from tests.deploy.files import DEPLOY, documents, local, options, tool
from tests.deploy.redis import check_redis_start
from tests.harness.clients import WebsocketsClient, text
from tests.harness.live import LOOPBACK, command_line, relay, run
from wsrelay.settings import Settings

pytestmark = pytest.mark.deploy

FILE = DEPLOY / "kubernetes" / "wsrelay.yaml"

#: Two replicas that share a Redis.
NODES = DEPLOY / "kubernetes" / "nodes.yaml"


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


def nodes() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the resources of the manifest for several nodes by kind and name."""
    return {(resource["kind"], resource["metadata"]["name"]): resource for resource in documents(NODES)}


def differences(one: Any, other: Any, path: str = "") -> set[str]:
    """Return the paths at which two documents differ; list items count by their place."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {
            found
            for key in one.keys() | other.keys()
            for found in differences(one.get(key), other.get(key), f"{path}/{key}")
        }
    return set() if one == other else {path}


def test_nodes_schema() -> None:
    """All fields and values of the manifest for several nodes are valid by the schemas of Kubernetes."""
    ended = run(tool("kubernetes-validate"), "--strict", "--no-warn", str(NODES))
    assert ended.returncode == 0, ended.stdout


def test_nodes_differ_where_they_must() -> None:
    """The manifest for several nodes is that for one, but for replicas, rollout, broker and the node's name."""
    found = nodes()
    for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
        assert found[kind, "wsrelay"] == manifest()[kind]
    one, several = manifest()["Deployment"], found["Deployment", "wsrelay"]
    (relay_one,), (relay_several,) = (each["spec"]["template"]["spec"].pop("containers") for each in (one, several))
    assert differences(one, several) == {
        "/spec/replicas",
        "/spec/strategy/type",
        "/spec/strategy/rollingUpdate",
        "/spec/template/spec/topologySpreadConstraints",
        "/spec/template/spec/securityContext/fsGroup",
        "/spec/template/spec/volumes",
    }
    assert differences(relay_one, relay_several) == {"/env", "/volumeMounts"}
    assert several["spec"]["replicas"] == 2


def test_nodes_options(tmp_path: Path) -> None:
    """The options differ from those of one node by the broker; ``--check-config`` accepts them."""
    toml = nodes()["ConfigMap", "wsrelay"]["data"]["relay.toml"]
    mine, one = options(toml), options(said())
    (secret,) = [
        mount["mountPath"]
        for mount in nodes()["Deployment", "wsrelay"]["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
        if mount["name"] == "backplane"
    ]
    assert mine.pop("backplane-password-file") == f"{secret}/password"
    (port,) = nodes()["Service", "wsrelay-redis"]["spec"]["ports"]
    assert mine.pop("backplane") == f"redis://wsrelay@wsrelay-redis:{port['port']}/0"
    assert mine == one
    (tmp_path / "password").write_text("secret")
    file = tmp_path / "relay.toml"
    file.write_text(toml.replace(f"{secret}/password", str(tmp_path / "password")))
    ended = run(*command_line("twistd", "--check-config", "--config", str(file)))
    assert ended.returncode == 0, ended.stdout


def test_nodes_redis() -> None:
    """Redis has the configuration and the users of deploy/redis, and is reached by the relays only."""
    data = nodes()["ConfigMap", "wsrelay-redis"]["data"]
    assert data["users.acl"] == (DEPLOY / "redis" / "users.acl").read_text("utf-8")
    here, there = (
        {line.partition(" ")[0]: line for line in text.splitlines() if line and not line.startswith("#")}
        for text in (data["redis.conf"], (DEPLOY / "redis" / "redis.conf").read_text("utf-8"))
    )
    assert {name for name in here.keys() | there.keys() if here.get(name) != there.get(name)} == {
        "bind",
        "aclfile",
        "dir",
    }
    (rule,) = nodes()["NetworkPolicy", "wsrelay-redis"]["spec"]["ingress"]
    relays = nodes()["Deployment", "wsrelay"]["spec"]["template"]["metadata"]["labels"]
    assert rule["from"] == [{"podSelector": {"matchLabels": relays}}]
    labels = nodes()["StatefulSet", "wsrelay-redis"]["spec"]["template"]["metadata"]["labels"]
    assert nodes()["Service", "wsrelay-redis"]["spec"]["selector"] == labels
    assert nodes()["NetworkPolicy", "wsrelay-redis"]["spec"]["podSelector"]["matchLabels"] == labels


def test_nodes_redis_start(tmp_path: Path) -> None:
    """Redis' command writes the file of users from the password, and ends without one."""
    (container,) = nodes()["StatefulSet", "wsrelay-redis"]["spec"]["template"]["spec"]["containers"]
    check_redis_start(container["command"], "/run/secrets/wsrelay/password", tmp_path)
