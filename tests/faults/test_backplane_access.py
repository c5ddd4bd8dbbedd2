"""Two relays reach their broker by TLS, as a user of an ACL file, with a password; publishers are echoed to.

Also plain HTTP across relays: what is posted on one is delivered by the other, to WebSockets and event streams.
"""

import http.client
import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.faults.accounts import Report
from tests.faults.nodes import Node, counted, ports, started
from tests.faults.talkers import Talk
from tests.harness.background import Background
from tests.harness.broker import Broker
from tests.harness.clients import WebsocketsClient, text
from tests.harness.live import SECONDS, make_certificate, relay

pytestmark = pytest.mark.deploy

PASSWORD = "correct-horse-battery-staple"

#: The rights that a relay needs, and no others. Source: deploy/redis/users.acl.
ACL = (
    "user wsrelay on >{password} resetkeys ~wsrelay:* resetchannels -@all +xadd +xread +xrange +xrevrange +xtrim "
    "+hset +hgetall +hdel +select +ping +info +client|setname +client|no-evict\n"
    "user default on nopass ~* &* +@all\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate, an ACL file and a password file."""
    made = tmp_path_factory.mktemp("access")
    make_certificate(made)
    (made / "users.acl").write_text(ACL.format(password=PASSWORD), "utf-8")
    (made / "password").write_text(PASSWORD + "\n", "utf-8")
    return made


@pytest.fixture(scope="module")
def broker(folder: Path) -> Iterator[Broker]:
    """A broker with TLS and an ACL file."""
    with Broker(tls=folder / "relay.pem", acl=folder / "users.acl") as running:
        yield running


@pytest.fixture(scope="module")
def nodes(folder: Path, broker: Broker) -> Iterator[list[Node]]:
    """Two relays."""
    url = f"rediss://wsrelay@127.0.0.1:{{port}}/?ca={folder / 'relay.pem'}"
    options = ["--backplane-password-file", str(folder / "password"), "--echo"]
    with Background() as background, started(background, broker.port, *options, url=url) as running:
        yield running


def test_tls_and_acl(nodes: list[Node], broker: Broker) -> None:
    """Each message is delivered once, to its publisher as well, before and after a restart of the broker."""
    with Talk(nodes[0].background, ports(nodes), echo=True) as talk, counted(nodes, "incarnations_total"):
        talk.wait()
        broker.kill()
        broker.start()
        talk.wait()
        assert (talk.finish(one_order=False), talk.endings()) == (Report(), {})
    for node in nodes:
        node.await_ready()


def test_password_hidden(nodes: list[Node], broker: Broker) -> None:
    """The password is in no log line, no metric and no command line, even when the broker refuses it."""
    node = nodes[0]
    broker.command("ACL", "SETUSER", "wsrelay", "resetpass")
    try:
        with counted([node], "reconnects_total", reason="auth"):
            node.forwarder.cut()
    finally:
        broker.command("ACL", "SETUSER", "wsrelay", f">{PASSWORD}")
    node.await_ready()
    command_line = Path(f"/proc/{node.relay.pid}/cmdline").read_text("utf-8")
    _, metrics = node.relay.ask("/metrics")
    for place in (node.relay.output.text, command_line, metrics):
        assert PASSWORD not in place


def test_plain_http(nodes: list[Node]) -> None:
    """A posted message is delivered by the other relay to a WebSocket and an event stream, and their own are."""
    with ExitStack() as stack:
        client = stack.enter_context(WebsocketsClient(nodes[1].relay.url("/posts")))
        stream = stack.enter_context(closing(http.client.HTTPConnection("127.0.0.1", nodes[1].port, timeout=SECONDS)))
        stream.request("GET", "/posts", headers={"Accept": "text/event-stream"})
        events = stack.enter_context(closing(stream.getresponse()))
        other = stack.enter_context(WebsocketsClient(nodes[0].relay.url("/posts")))
        status, _, body = nodes[0].request("POST", "/posts", "grüße".encode())
        assert (status, json.loads(body)["room"]) == (202, "posts")
        assert [client.hear(), other.hear()] == ["grüße", "grüße"]
        client.say(text("hello"))
        assert [client.hear(), other.hear()] == ["hello", "hello"]
        data: list[str] = []
        while len(data) < 2:
            line = events.readline().decode()
            assert line, "the event stream has ended"
            data += [line.removeprefix("data: ").rstrip()] * line.startswith("data: ")
        assert data == ["grüße", "hello"]


def test_unix_socket(nodes: list[Node], broker: Broker) -> None:
    """A relay that uses the broker's unix socket is in the same rooms."""
    with (
        relay("--backplane", broker.unix_url) as third,
        WebsocketsClient(third.url("/unix")) as one,
        WebsocketsClient(nodes[0].relay.url("/unix")) as other,
    ):
        one.say(text("hello"))
        assert other.hear() == "hello"
