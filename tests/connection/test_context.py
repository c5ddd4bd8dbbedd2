"""Tests of wsrelay.connection.context."""

import inspect
from typing import get_type_hints

from tests.harness.support import RelayTestCase
from wsrelay.connection.context import Relay
from wsrelay.factory import RelayFactory


class RelayTests(RelayTestCase):
    """The factory as connections see it."""

    def test_factory_provides_relay(self) -> None:
        """The factory has every attribute and every method, with the same arguments."""
        factory = self.relay().factory
        for name in get_type_hints(Relay):
            self.assertTrue(hasattr(factory, name), name)
        for name, method in inspect.getmembers(Relay, inspect.isfunction):
            if not name.startswith("_"):
                theirs = inspect.signature(getattr(RelayFactory, name))
                self.assertEqual(list(theirs.parameters), list(inspect.signature(method).parameters), name)
