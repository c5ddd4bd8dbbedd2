"""Tests of wsrelay.autobahn_options."""

from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.protocol import WebSocketServerFactory as FactoryBase

from tests.harness.support import RelayTestCase
from wsrelay.autobahn_options import autobahn_options
from wsrelay.protocol import RelayProtocol
from wsrelay.settings import Settings


class OptionsTests(RelayTestCase):
    """Settings applied to Autobahn."""

    def test_every_option_is_set(self) -> None:
        """No option of Autobahn is left to its default: most of those are traps (TRAPS 14-19, 21, 22)."""
        parameters = FactoryBase.setProtocolOptions.__code__.co_varnames[
            1 : FactoryBase.setProtocolOptions.__code__.co_argcount
        ]

        self.assertEqual(set(autobahn_options(Settings())), set(parameters))

    def test_options_are_the_connections(self) -> None:
        """What is set on the factory holds for its connections, without being copied to each (TRAPS 7)."""
        relay = self.relay(max_message_bytes=4321, no_compress=True)
        relay.wire()
        [connection] = relay.factory.connections

        self.assertEqual((connection.maxMessagePayloadSize, connection.tcpNoDelay), (4321, True))
        self.assertEqual(set(vars(connection)) & set(WebSocketServerProtocol.CONFIG_ATTRS), set())
        self.assertIsInstance(connection, RelayProtocol)

    def test_factories_do_not_share_options(self) -> None:
        """Two relays in one process have their own settings."""
        one, other = (self.relay(max_message_bytes=size, no_compress=True) for size in (1, 2))
        one.wire()
        other.wire()

        self.assertEqual([next(iter(r.factory.connections)).maxMessagePayloadSize for r in (one, other)], [1, 2])

    def test_nagle_is_off(self) -> None:
        """TCP_NODELAY is asked for; Autobahn alone would not (TRAPS 1). A real socket: test_interop."""
        relay = self.relay()
        wire = relay.wire()
        asked: list[bool] = []
        wire.transport.setTcpNoDelay = asked.append  # type: ignore[method-assign]
        next(iter(relay.factory.connections)).makeConnection(wire.transport)

        self.assertEqual(asked, [True])
