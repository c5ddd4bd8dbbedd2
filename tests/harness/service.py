"""Relay services in memory, and an endpoint whose address is in use."""

from typing import Any

from twisted.internet.error import CannotListenError

from tests.harness.support import RelayTestCase
from wsrelay.service import RelayService

#: The close frame of a stopping relay.
RESTARTING = (1012, "the relay is restarting: reconnect with back-off")


class ServiceTestCase(RelayTestCase):
    """A relay with a service."""

    def make(self) -> RelayService:
        """Return the service."""
        return RelayService(self.harness.factory)

    def start(self, *listen: str, privileged: bool = False, **settings: Any) -> RelayService:
        self.harness = self.relay(listen=listen or ("tcp:8080:interface=127.0.0.1",), **settings)
        self.reactor = self.harness.clock
        # MemoryReactor calls back only once it runs; a real one that runs already does so at once.
        self.reactor.callWhenRunning = lambda call, *args: call(*args)
        # The harness has begun for a port of its own; here the service's are the only ones.
        self.harness.factory.doStop()
        made = self.make()
        if privileged:
            made.privilegedStartService()
        made.startService()
        return made


class Taken:
    """An endpoint whose address is in use."""

    error = CannotListenError("127.0.0.1", 8080, OSError(98, "Address already in use"))

    def listen_now(self, factory: object) -> Any:
        raise self.error
