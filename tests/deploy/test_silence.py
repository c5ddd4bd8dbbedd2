"""Keepalive pings keep idle connections open behind nginx, HAProxy and Caddy, with short idle timeouts.

For the timeouts of deploy/, see :mod:`tests.deploy.test_proxies`.
"""

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.deploy.proxies import PROXIES
from tests.deploy.stacks import exchange, silent_pairs

pytestmark = pytest.mark.deploy

#: A short idle timeout.
SHORT, SHORT_SECONDS = "2s", 2

#: Proxies with an idle timeout.
LIMITED = ["haproxy", "nginx"]


def test_keepalive_pings(certificate: Path, tmp_path: Path) -> None:
    """With four pings per idle timeout, connections survive three times the timeout."""
    with ExitStack() as entered:
        pairs = silent_pairs(entered, list(PROXIES), tmp_path, certificate, "--ping-seconds", "0.5", idle=SHORT)
        with pytest.raises(TimeoutError):
            pairs[0][0].ws.recv(3 * SHORT_SECONDS)
        for pair in pairs:
            exchange(*pair)


def test_idle_timeout_without_pings(certificate: Path, tmp_path: Path) -> None:
    """Without pings, the proxies close idle connections."""
    begun = time.monotonic()
    with ExitStack() as entered:
        for pair in silent_pairs(entered, LIMITED, tmp_path, certificate, "--ping-seconds", "0", idle=SHORT):
            assert [client.closed() for client in pair] == [(None, "")] * 2
    assert time.monotonic() - begun >= SHORT_SECONDS
