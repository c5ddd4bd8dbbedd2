"""Silent connections behind nginx, HAProxy and Caddy: pings carry them past the limits that proxies have.

Here these are short; those that are checked in are waited for in :mod:`tests.deploy.test_proxies`.
"""

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.deploy.proxies import PROXIES
from tests.deploy.stacks import exchange, silent_pairs

pytestmark = pytest.mark.deploy

#: A proxy's limit that a test can see the end of.
SHORT, SHORT_SECONDS = "2s", 2

#: Caddy has none.
LIMITED = ["haproxy", "nginx"]


def test_pings(certificate: Path, tmp_path: Path) -> None:
    """Silence of three times a proxy's limit passes: there are pings, four in each limit, as with the real times."""
    with ExitStack() as entered:
        pairs = silent_pairs(entered, list(PROXIES), tmp_path, certificate, "--ping-seconds", "0.5", idle=SHORT)
        with pytest.raises(TimeoutError):
            pairs[0][0].ws.recv(3 * SHORT_SECONDS)
        for pair in pairs:
            exchange(*pair)


def test_no_pings(certificate: Path, tmp_path: Path) -> None:
    """Without pings the proxies end what is silent: it is the pings that help."""
    begun = time.monotonic()
    with ExitStack() as entered:
        for pair in silent_pairs(entered, LIMITED, tmp_path, certificate, "--ping-seconds", "0", idle=SHORT):
            assert [client.closed() for client in pair] == [(None, "")] * 2
    assert time.monotonic() - begun >= SHORT_SECONDS
