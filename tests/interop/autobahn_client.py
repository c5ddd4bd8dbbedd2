"""Autobahn's client: commands are lines of JSON on stdin, events are lines of JSON on stdout.

The lines are described in tests/harness/clients.py. Usage: ``python autobahn_client.py URL``.
"""

import base64
import json
import sys

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol, connectWS
from twisted.internet import reactor
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineOnlyReceiver


class Client(WebSocketClientProtocol):
    """Prints its events."""

    def onOpen(self):
        """Start to read commands."""
        self.factory.pipe.client = self
        self.saw("open", extensions=", ".join(map(str, self.websocket_extensions_in_use)))

    def onMessage(self, payload, isBinary):
        """Print a message."""
        self.saw("message", text=not isBinary, payload=base64.b64encode(payload).decode())

    def onPong(self, payload):
        """Print a pong."""
        self.saw("pong")

    def failHandshake(self, reason):
        """Print a refused handshake."""
        self.saw("refused", status=int(self.http_status_line.split()[1]))
        super().failHandshake(reason)

    def onClose(self, wasClean, code, reason):
        """Print the close and end the program."""
        self.saw("close", code=self.remoteCloseCode, reason=self.remoteCloseReason or "")
        self.factory.pipe.transport.loseConnection()

    def saw(self, what, **details):
        """Print an event."""
        self.factory.pipe.sendLine(json.dumps({"saw": what, **details}).encode())

    def say(self, fragments, is_text):
        """Send a message."""
        first, *rest = (base64.b64decode(fragment) for fragment in fragments)
        if not rest:
            self.sendMessage(first, isBinary=not is_text)
            return
        self.beginMessage(isBinary=not is_text)
        for fragment in (first, *rest):
            self.sendMessageFrame(fragment)
        self.endMessage()


class Pipe(LineOnlyReceiver):
    """Reads commands from stdin, writes events to stdout, and ends the program on end of input."""

    delimiter = b"\n"
    MAX_LENGTH = 2**24

    def lineReceived(self, line):
        """Run a command."""
        command = json.loads(line)
        if command["do"] == "say":
            self.client.say(command["fragments"], command["text"])
        elif command["do"] == "ping":
            self.client.sendPing(b"")
        elif command["do"] == "close":
            self.client.sendClose(1000)

    def connectionLost(self, reason):
        """End the program: output is written, or has no reader."""
        reactor.stop()


def main():
    """Connect and run until the connection is closed."""
    factory = WebSocketClientFactory(sys.argv[1])
    factory.protocol = Client
    factory.pipe = Pipe()
    StandardIO(factory.pipe)
    connectWS(factory)
    reactor.run()


main()
