"""Tests of wsrelay.status."""

import inspect
from dataclasses import fields

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.status import ConnectionStatus, RoomStatus


class StatusTests(SynchronousTestCase):
    """Plain data."""

    def test_every_field_is_explained(self) -> None:
        """Each field has its line in the docstring."""
        for status in (RoomStatus, ConnectionStatus):
            for field in fields(status):
                self.assertIn(f"\n    {field.name}: ", inspect.getdoc(status) or "")
