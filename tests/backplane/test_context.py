"""Tests of wsrelay.backplane.context."""

import inspect

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.backplane.context import Relay
from wsrelay.factory import RelayFactory
from wsrelay.settings import Settings


class RelayTests(SynchronousTestCase):
    """The type."""

    def test_factory(self) -> None:
        """The factory has all of it, methods with the same arguments."""
        factory = RelayFactory(Settings(), ())
        for name in Relay.__annotations__:
            self.assertTrue(hasattr(factory, name), name)
        for name, method in inspect.getmembers(Relay, inspect.isfunction):
            if not name.startswith("_"):
                ours = inspect.signature(getattr(RelayFactory, name))
                self.assertEqual(list(ours.parameters), list(inspect.signature(method).parameters), name)
