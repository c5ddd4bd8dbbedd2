"""Tests of wsrelay.interfaces: the real classes and the fakes have the seams' signatures."""

import inspect

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import RecordingSubscriber
from wsrelay.backplane.local import LocalBackplane
from wsrelay.connection.member import Member
from wsrelay.interfaces import Backplane, IHandshakeValidator, IHandshakeValidatorFactory, Subscriber
from wsrelay.rooms.hub import Hub
from wsrelay.settings import Settings
from wsrelay.stats import Stats


class SeamTests(SynchronousTestCase):
    """Implementations of each seam."""

    def assert_implements(self, seam: type, *classes: type) -> None:
        """Each public method of the seam is there, with the same arguments."""
        for name, method in inspect.getmembers(seam, inspect.isfunction):
            if name.startswith("_"):
                continue
            for cls in classes:
                self.assertEqual(
                    list(inspect.signature(method).parameters)[1:],
                    [
                        parameter.name
                        for parameter in list(inspect.signature(getattr(cls, name)).parameters.values())[1:]
                        if parameter.default is parameter.empty
                    ],
                    f"{cls.__name__}.{name}",
                )

    def test_subscribers(self) -> None:
        """The connection, and the tests' stand-in for it, are subscribers."""
        self.assert_implements(Subscriber, Member, RecordingSubscriber)

    def test_backplanes(self) -> None:
        """The local backplane is one."""
        publish = LocalBackplane(Hub(Settings(), Stats(), lambda call: None)).publish

        expected = list(inspect.signature(Backplane.publish).parameters)[1:]
        self.assertEqual(list(inspect.signature(publish).parameters), expected)

    def test_validator_interfaces(self) -> None:
        """The plugin interfaces are those of the handshake hook guide; a change breaks other people's code."""
        self.assertEqual(IHandshakeValidator["validate"].getSignatureString(), "(request, grant)")
        self.assertEqual(set(IHandshakeValidatorFactory), {"name", "usage", "description", "validator"})
        self.assertEqual(IHandshakeValidatorFactory["validator"].getSignatureString(), "(arguments)")
