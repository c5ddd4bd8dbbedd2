"""deploy/docker: the Dockerfile's steps, their result, and the compose file, without a container engine."""

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.dockerfile import Image, build, instructions
from tests.deploy.files import DEPLOY, ROOT, documents, local, options, tool
from tests.deploy.health import health
from tests.deploy.redis import check_redis_start
from tests.deploy.stacks import RESTARTING
from tests.harness.clients import WebsocketsClient, text
from tests.harness.live import LISTENING, LOOPBACK, Process, run
from tests.harness.native import can_compile
from wsrelay import __version__
from wsrelay.settings import Settings
from wsrelay.tap import Options

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(300)]

FOLDER = DEPLOY / "docker"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The result of the Dockerfile, listening on free ports, read-only."""
    built = build(tmp_path_factory.mktemp("image"))
    toml = Path(built.environ["WSRELAY_CONFIG"])
    toml.write_text(local(toml.read_text("utf-8")).replace("tcp:8080", LOOPBACK))
    allow(built.root, "a-w")
    yield built
    allow(built.root, "u+w")


def allow(folder: Path, mode: str) -> None:
    """Change the permissions of a folder and all below it."""
    assert run("chmod", "-R", mode, str(folder)).returncode == 0


def test_dockerfile_hadolint() -> None:
    """Hadolint finds nothing in the Dockerfile, not even of style."""
    ended = run(tool("hadolint"), "--failure-threshold", "style", str(FOLDER / "Dockerfile"))
    assert (ended.returncode, ended.stdout) == (0, "")


def test_dockerignore() -> None:
    """.dockerignore lets exactly those files through that the Dockerfile copies."""
    copied = {
        source
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == copied
    assert "*" in lines
    assert all((ROOT / source).exists() for source in copied)


def test_image_run(image: Image) -> None:
    """The image relays, reloads on SIGHUP and drains on SIGTERM as process 1 and as a user without write permission."""
    command = image.user(*image.command("ENTRYPOINT"))
    with Process(command, str(image.root), image.environ) as process:
        (url, *_) = process.output.wait_for(LISTENING)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii")
        (inside,) = map(int, children.split())
        status = Path(f"/proc/{inside}/status").read_text("ascii")
        assert re.search(r"^NSpid:\s.*\s1$", status, re.MULTILINE)
        with WebsocketsClient(url + "room") as one, WebsocketsClient(url + "room") as other:
            one.say(text("hello"))
            assert other.hear() == "hello"
            os.kill(inside, signal.SIGHUP)
            process.output.wait_for("SIGHUP: reloaded")
            os.kill(inside, getattr(signal, image.said["STOPSIGNAL"]))
            assert [one.closed(), other.closed()] == [RESTARTING] * 2
        assert process.wait() == 0
    assert not re.search("Traceback|cache|denied|rror", process.output.text), process.output.text


def test_plugin_cache(image: Image) -> None:
    """Twisted's plugin cache has the relay and its validators."""
    (cache,) = image.root.glob("opt/wsrelay/lib/python*/site-packages/twisted/plugins/dropin.cache")
    assert {b"wsrelay_plugin", b"wsrelay_validators"} <= set(re.findall(rb"wsrelay_\w+", cache.read_bytes()))


def test_image_from_wheels(image: Image, tmp_path: Path) -> None:
    """With a release as WSRELAY and a folder of wheels, the image is the same, and nothing is compiled or fetched."""
    shutil.copytree(image.root / "wheels", tmp_path / "dist")
    arguments = {"BUILD": "slim-bookworm", "WSRELAY": f"wsrelay[redis]=={__version__}"}
    built = build(tmp_path, **arguments, CC="false", PIP_NO_INDEX="1")
    compiled, taken = (sorted(made.root.glob("opt/wsrelay/**/*.so")) for made in (image, built))
    assert [file.relative_to(image.root) for file in compiled] == [file.relative_to(built.root) for file in taken]
    assert any(file.name.startswith("_native.") for file in taken) == can_compile()


def test_no_pip(image: Image) -> None:
    """The image's environment has no pip."""
    assert not list(image.root.glob("opt/wsrelay/bin/pip*"))


def test_healthcheck(image: Image) -> None:
    """HEALTHCHECK passes on 200, and fails on 503 and without a listener."""
    with health() as admin:
        command = [word.replace(":8081/", f":{admin.port}/") for word in image.command("HEALTHCHECK")]
        assert str(admin.port) in command[-1]
        assert run(*command, env=image.environ).returncode == 0
        assert {path for path, _ in admin.asked} == {"/healthz"}
        admin.ready = False
        assert run(*command, env=image.environ).returncode == 1
    assert run(*command, env=image.environ).returncode == 1


#: The compose files: one relay, and two that share a Redis.
COMPOSE = ["compose.yaml", "nodes.yaml"]


def compose(name: str = "compose.yaml") -> dict[str, Any]:
    """Return the content of a compose file."""
    (said,) = documents(FOLDER / name)
    return said


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_schema(name: str) -> None:
    """The compose files are valid by the schema of the specification."""
    file = str(FOLDER / name)
    ended = run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", file)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_files(name: str) -> None:
    """Mounted files exist, volumes and networks are declared, and each image has a version."""
    said = compose(name)
    mounts = [mount for service in said["services"].values() for mount in service.get("volumes", ())]
    for source in (mount.partition(":")[0] for mount in mounts):
        assert (FOLDER / source).exists() if source.startswith(".") else source in said["volumes"], source
    for service in said["services"].values():
        assert set(service["networks"]) <= set(said["networks"])
        assert set(service.get("secrets", ())) <= set(said.get("secrets", ()))
        assert ":" in service["image"] or "build" in service, service


@pytest.mark.parametrize(("name", "relay"), [("compose.yaml", "relay"), ("nodes.yaml", "one"), ("nodes.yaml", "two")])
def test_compose_relay(name: str, relay: str, tmp_path: Path) -> None:
    """The relay has time to drain and twice its memory budget, and no port of the host."""
    service = compose(name)["services"][relay]
    said, settings = options((FOLDER / "relay.toml").read_text("utf-8")), Settings()
    drain = said.get("drain-seconds", settings.drain_seconds) + said.get("close-seconds", settings.close_seconds)
    assert int(service["stop_grace_period"].removesuffix("s")) >= drain + 5
    assert int(service["mem_limit"].removesuffix("g")) << 30 >= 2 * said["memory-budget"]
    assert "ports" not in service
    (tmp_path / "password").write_text("secret")
    parsed = Options()
    parsed.environ = service["environment"]
    if "secrets" in service:
        parsed.environ["WSRELAY_BACKPLANE_PASSWORD_FILE"] = str(tmp_path / "password")
    parsed.parseOptions([])
    (subnet,) = compose(name)["networks"]["front"]["ipam"]["config"]
    assert parsed.settings.trusted_proxies == (subnet["subnet"],)


def test_compose_nodes() -> None:
    """Two relays that differ in their names use Redis, which no port of the host and no other network reaches."""
    services = compose("nodes.yaml")["services"]
    one, two, redis, caddy = (services[name] for name in ("one", "two", "redis", "caddy"))
    names = [relay["environment"].pop("WSRELAY_NODE_NAME") for relay in (one, two)]
    assert names == ["one", "two"]
    assert one == two
    assert one["environment"]["WSRELAY_BACKPLANE"] == "redis://wsrelay@redis:6379/0"
    assert one["environment"]["WSRELAY_BACKPLANE_PASSWORD_FILE"] == "/run/secrets/backplane"
    assert one["secrets"] == redis["secrets"] == ["backplane"]
    assert redis["networks"] == ["broker"]
    assert "broker" not in caddy["networks"]
    assert "ports" not in redis
    assert caddy["environment"]["WSRELAY_RELAYS"] == " ".join(f"{name}:8080" for name in names)


def test_compose_redis_start(tmp_path: Path) -> None:
    """Redis' command writes the file of users from the secret, and ends without one."""
    command = compose("nodes.yaml")["services"]["redis"]["command"]
    check_redis_start([word.replace("$$", "$") for word in command], "/run/secrets/backplane", tmp_path)
