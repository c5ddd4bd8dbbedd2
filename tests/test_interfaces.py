"""Tests of wsrelay.interfaces: the real classes and the fakes have the seams' signatures."""

import inspect
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import RecordingSubscriber
from wsrelay.backplane.local import LocalBackplane
from wsrelay.connection.member import Member
from wsrelay.interfaces import Backplane, IHandshakeValidator, IHandshakeValidatorFactory, Subscriber
from wsrelay.rooms.hub import Hub


def required(method: Callable[..., object]) -> list[str]:
    """Return the arguments of a method that have no default."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    return [parameter.name for parameter in parameters if parameter.default is parameter.empty]


class SeamTests(SynchronousTestCase):
    """Implementations of each seam."""

    def assert_implements(self, seam: type, *classes: type) -> None:
        """Each public method of the seam is there, with the same arguments."""
        for name, method in inspect.getmembers(seam, inspect.isfunction):
            if name.startswith("_"):
                continue
            for cls in classes:
                self.assertEqual(required(method), required(getattr(cls, name)), f"{cls.__name__}.{name}")

    def test_subscribers(self) -> None:
        """The connection, and the tests' stand-in for it, are subscribers."""
        self.assert_implements(Subscriber, Member, RecordingSubscriber)

    def test_backplanes(self) -> None:
        """The local backplane is one; its ``publish`` is the hub's."""

        class Whole(LocalBackplane):
            publish = Hub.publish  # type: ignore[assignment]

        self.assert_implements(Backplane, Whole)

    def test_validator_interfaces(self) -> None:
        """The plugin interfaces are those of the handshake hook guide; a change breaks other people's code."""
        self.assertEqual(IHandshakeValidator["validate"].getSignatureString(), "(request, grant)")
        self.assertEqual(set(IHandshakeValidatorFactory), {"name", "usage", "description", "validator"})
        self.assertEqual(IHandshakeValidatorFactory["validator"].getSignatureString(), "(arguments)")
