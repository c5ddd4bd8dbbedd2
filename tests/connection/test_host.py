"""Tests of wsrelay.connection.host."""

import inspect
from typing import get_type_hints

from tests.harness.support import RelayTestCase, request_bytes
from wsrelay.connection.host import Host


class HostTests(RelayTestCase):
    """The connection as phases see it."""

    def test_connection_provides_host(self) -> None:
        """An open connection has every attribute and every method."""
        relay = self.relay()
        relay.wire().send(request_bytes())
        [connection] = relay.factory.connections
        methods = [name for name, _ in inspect.getmembers(Host, inspect.isfunction) if not name.startswith("_")]
        for name in (*get_type_hints(Host), *methods):
            self.assertTrue(hasattr(connection, name), name)
