"""Silent connections behind nginx, HAProxy and Caddy: pings carry them past the limits that proxies have."""

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.clients import WebsocketsClient
from tests.deploy.proxies import IDLE, PROXIES
from tests.deploy.stacks import exchange, started

pytestmark = pytest.mark.deploy

#: A proxy's limit that a test can see the end of.
SHORT, SHORT_SECONDS = "2s", 2

#: Caddy has none.
LIMITED = ["haproxy", "nginx"]


def silent(
    entered: ExitStack, names: list[str], folder: Path, certificate: Path, *options: str, idle: str
) -> list[list[WebsocketsClient]]:
    """Return two clients behind each of these proxies, all of which wait for so long for who is silent."""
    pairs = []
    for name in names:
        (folder / name).mkdir()
        stack = entered.enter_context(started(name, certificate, folder / name, *options, idle=idle))
        pairs.append([entered.enter_context(stack.proxy.client()) for _ in range(2)])
    return pairs


def test_pings(certificate: Path, tmp_path: Path) -> None:
    """Silence of three times a proxy's limit passes: there are pings, four in each limit, as with the real times."""
    with ExitStack() as entered:
        pairs = silent(entered, list(PROXIES), tmp_path, certificate, "--ping-seconds", "0.5", idle=SHORT)
        with pytest.raises(TimeoutError):
            pairs[0][0].ws.recv(3 * SHORT_SECONDS)
        for pair in pairs:
            exchange(*pair)


def test_no_pings(certificate: Path, tmp_path: Path) -> None:
    """Without pings the proxies end what is silent: it is the pings that help."""
    begun = time.monotonic()
    with ExitStack() as entered:
        for pair in silent(entered, LIMITED, tmp_path, certificate, "--ping-seconds", "0", idle=SHORT):
            assert [client.closed() for client in pair] == [(None, "")] * 2
    assert time.monotonic() - begun >= SHORT_SECONDS


def test_more_than_a_minute(certificate: Path, tmp_path: Path) -> None:
    """With all times as they are checked in, rooms that are silent for more than 60 s pass all three."""
    with ExitStack() as entered:
        pairs = silent(entered, list(PROXIES), tmp_path, certificate, idle=IDLE)
        with pytest.raises(TimeoutError):
            pairs[0][0].ws.recv(61)
        for pair in pairs:
            exchange(*pair)
