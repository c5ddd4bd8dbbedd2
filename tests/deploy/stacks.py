"""A relay behind a proxy, both started as deploy/ describes."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.health import Health, health
from tests.deploy.proxies import IDLE, LISTEN, PROXIES, Place, Proxy
from tests.harness.clients import Client, WebsocketsClient, binary, text
from tests.harness.live import Relay, relay

#: Options of the relay that belong to the configurations.
OPTIONS = ["--trusted-proxies", "127.0.0.1", "--validate", "origin:same-host"]

#: What a client sees when the relay is stopped.
RESTARTING = (1012, "the relay is restarting: reconnect with back-off")


def admin_port(server: Relay) -> int:
    """Return the port of a relay's admin endpoint."""
    (port,) = server.output.wait_for(r"admin endpoint on http://127\.0\.0\.1:(\d+)/")
    return int(port)


@dataclass
class Stack:
    """A relay behind a proxy; `health` answers the proxy's probes unless the relay has an admin endpoint."""

    relay: Relay
    proxy: Proxy
    health: Health


@contextmanager
def started(name: str, certificate: Path, folder: Path, *options: str, idle: str = IDLE) -> Iterator[Stack]:
    """Run a relay behind a proxy, which probes the relay's admin endpoint if there is one, else a fake one."""
    with relay(*OPTIONS, *options, listen=LISTEN) as server, health() as admin:
        asked = admin_port(server) if "--admin" in options else admin.port
        place = Place(server, asked, certificate, folder, idle)
        with PROXIES[name](place) as proxy:
            try:
                yield Stack(server, proxy, admin)
            except Exception as error:
                error.add_note(f"{name} said:\n{proxy.process.output.text}")
                raise


def exchange(one: Client, other: Client) -> None:
    """Send messages in both directions and check that they arrive."""
    for speaker, listener in ((one, other), (other, one)):
        for said in (text("grüße"), binary(bytes(range(256)) * 400)):
            speaker.say(said)
            assert listener.hear() == said.heard


def silent_pairs(
    entered: ExitStack, names: list[str], folder: Path, certificate: Path, *options: str, idle: str = IDLE
) -> list[list[WebsocketsClient]]:
    """Return two clients behind each of these proxies, which have an idle timeout."""
    pairs = []
    for name in names:
        (folder / name).mkdir()
        stack = entered.enter_context(started(name, certificate, folder / name, *options, idle=idle))
        pairs.append([entered.enter_context(stack.proxy.client()) for _ in range(2)])
    return pairs
