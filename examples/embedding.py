"""A relay in your own Twisted program, beside its web site.

    twistd --nodaemon --pidfile= --python embedding.py
    curl --data 'the sun is out' http://127.0.0.1:8000/news        # sent to all clients of ws://127.0.0.1:8080/news

The program publishes to the room ``news``, which is read-only for clients; other rooms are not. SIGTERM
ends both services: the relay closes its clients with 1012, spread over a few seconds.
"""

import os
from pathlib import Path

from twisted.application import strports
from twisted.application.service import Application
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import File
from zope.interface import implementer

from wsrelay.factory import RelayFactory
from wsrelay.grant import Grant
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.message import Run
from wsrelay.request import HandshakeRequest
from wsrelay.service import RelayService
from wsrelay.settings import Settings
from wsrelay.validators.plugins import load

#: Endpoints of relay and site, in Twisted's syntax.
RELAY = os.environ.get("RELAY", "tcp:8080:interface=127.0.0.1")
SITE = os.environ.get("SITE", "tcp:8000:interface=127.0.0.1")

#: The read-only room.
NEWS = "news"


@implementer(IHandshakeValidator)
class NewsIsReadOnly:
    """Makes the room ``news`` read-only."""

    def validate(self, request: HandshakeRequest, grant: Grant) -> Grant:  # noqa: ARG002 - from the interface
        """Narrow the grant by room. A program with users would check the request, too."""
        return grant.narrowed(can_publish=grant.room != NEWS)


class News(Resource):
    """``POST /news``: the body is published to the room.

    Without authentication, so the site listens on loopback only.

    Args:
        factory: the relay.
    """

    isLeaf = True  # noqa: N815 - twisted.web's name

    def __init__(self, factory: RelayFactory) -> None:
        super().__init__()
        self._factory = factory

    def render_POST(self, request: Request) -> bytes:  # noqa: N802 - twisted.web's name
        """Publish the body. The relay validates messages of clients only, so size and UTF-8 are checked here."""
        body = request.content.read() if request.content else b""
        if len(body) > self._factory.settings.max_message_bytes:
            request.setResponseCode(413)
            return b"too long\n"
        try:
            body.decode("utf-8")
        except UnicodeDecodeError:
            request.setResponseCode(400)
            return b"not UTF-8\n"
        # All publishers use the backplane. It returns at once: the room handles slow subscribers.
        self._factory.backplane.publish(NEWS, Run.text(body))
        request.setResponseCode(202)
        return b"published\n"


# load() makes validators of arguments of --validate, after the default one: origins of the same host, any port.
factory = RelayFactory(Settings(listen=(RELAY,)), [*load([]), NewsIsReadOnly()])

root = Resource()
root.putChild(b"", File(str(Path(__file__).with_name("browser.html"))))
root.putChild(b"news", News(factory))

application = Application("news")  # twistd looks for this name
RelayService(factory).setServiceParent(application)
strports.service(SITE, Site(root)).setServiceParent(application)
