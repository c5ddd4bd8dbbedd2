"""Autobahn's client, driven by lines of JSON on stdin; what it sees are lines of JSON on stdout.

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
    """Prints all that happens to it."""

    def onOpen(self):
        """Begin to take commands."""
        self.factory.pipe.client = self
        self.saw("open", extensions=", ".join(map(str, self.websocket_extensions_in_use)))

    def onMessage(self, payload, isBinary):
        """Print a message."""
        self.saw("message", text=not isBinary, payload=base64.b64encode(payload).decode())

    def onPong(self, payload):
        """Print that there was a pong."""
        self.saw("pong")

    def failHandshake(self, reason):
        """Print that there will be no connection."""
        self.saw("refused", status=int(self.http_status_line.split()[1]))
        super().failHandshake(reason)

    def onClose(self, wasClean, code, reason):
        """Print the end, and end."""
        self.saw("close", code=self.remoteCloseCode, reason=self.remoteCloseReason or "")
        self.factory.pipe.transport.loseConnection()

    def saw(self, what, **details):
        """Print what has happened."""
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
    """Does what stdin says; stdout is written to through it. The program ends with it."""

    delimiter = b"\n"
    MAX_LENGTH = 2**24

    def lineReceived(self, line):
        """Do one thing."""
        command = json.loads(line)
        if command["do"] == "say":
            self.client.say(command["fragments"], command["text"])
        elif command["do"] == "ping":
            self.client.sendPing(b"")
        elif command["do"] == "close":
            self.client.sendClose(1000)

    def connectionLost(self, reason):
        """End the program: all is written, or nobody reads it."""
        reactor.stop()


def main():
    """Connect, and run until the connection has ended."""
    factory = WebSocketClientFactory(sys.argv[1])
    factory.protocol = Client
    factory.pipe = Pipe()
    StandardIO(factory.pipe)
    connectWS(factory)
    reactor.run()


main()
