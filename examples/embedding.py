"""A relay in a Twisted program of your own, beside its web site.

    twistd --nodaemon --python embedding.py
    curl --data 'the sun is out' http://127.0.0.1:8000/news        # everybody in ws://127.0.0.1:8080/news hears it

The program publishes to the room ``news``, where clients may only listen; in other rooms they talk as ever. SIGTERM
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
from wsrelay.message import Message
from wsrelay.request import HandshakeRequest
from wsrelay.service import RelayService
from wsrelay.settings import Settings
from wsrelay.validators.plugins import load

#: Where both listen, as Twisted endpoints.
RELAY = os.environ.get("RELAY", "tcp:8080:interface=127.0.0.1")
SITE = os.environ.get("SITE", "tcp:8000:interface=127.0.0.1")

#: The room that is the program's own.
NEWS = "news"


@implementer(IHandshakeValidator)
class NewsIsReadOnly:
    """Lets everybody listen to the news, and nobody make them."""

    def validate(self, request: HandshakeRequest, grant: Grant) -> Grant:  # noqa: ARG002 - the interface's
        """Take away what the room does not allow. A program with users would look at the request, too."""
        return grant.narrowed(can_publish=grant.room != NEWS)


class News(Resource):
    """``POST /news``: the body is published to the room.

    Whoever reaches the site may do so, so it listens on loopback; one for others would ask first who they are.

    Args:
        factory: the relay.
    """

    isLeaf = True  # noqa: N815 - twisted.web's name

    def __init__(self, factory: RelayFactory) -> None:
        super().__init__()
        self._factory = factory

    def render_POST(self, request: Request) -> bytes:  # noqa: N802 - twisted.web's name
        """Publish. What comes from clients is checked by the relay, but this is from us, so it is checked here."""
        body = request.content.read() if request.content else b""
        if len(body) > self._factory.settings.max_message_bytes:
            request.setResponseCode(413)
            return b"too long\n"
        try:
            body.decode("utf-8")
        except UnicodeDecodeError:
            request.setResponseCode(400)
            return b"not UTF-8\n"
        # The backplane is the way to a room, whoever publishes. It returns at once: what is slow to read is the room's
        # business, and nobody's if nobody is there.
        self._factory.backplane.publish(NEWS, [Message.text(body)])
        request.setResponseCode(202)
        return b"published\n"


# load() makes validators of what --validate takes, and puts the default for origins first: the same host, any port.
factory = RelayFactory(Settings(listen=(RELAY,)), [*load([]), NewsIsReadOnly()])

root = Resource()
root.putChild(b"", File(str(Path(__file__).with_name("browser.html"))))
root.putChild(b"news", News(factory))

application = Application("news")  # the name that twistd looks for
RelayService(factory).setServiceParent(application)
strports.service(SITE, Site(root)).setServiceParent(application)
