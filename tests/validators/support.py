"""Shared by the validators' tests: requests, a grant, assertions about denials."""

import asyncio
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.request import HandshakeRequest

#: The grant so far for the first validator of a chain.
GRANT = Grant(room="chat/42")


def request(**overrides: Any) -> HandshakeRequest:
    """Make a request of a client that is not a browser; keyword arguments replace fields."""
    fields: dict[str, Any] = {
        "path": "/chat/42",
        "room": "chat/42",
        "query": {},
        "headers": {},
        "host": "relay.example",
        "origin": None,
        "subprotocols": (),
        "bearers": (),
        "peer": IPv4Address("TCP", "192.0.2.1", 50000),
    }
    return HandshakeRequest(**{**fields, **overrides})


async def turns() -> None:
    """Let asyncio's tasks go as far as they can: none of a test takes so many turns of the loop."""
    for _ in range(20):
        await asyncio.sleep(0)


class ValidatorTestCase(SynchronousTestCase):
    """A test case with assertions about grants and denials."""

    def assertValidator(self, validator: Any) -> None:
        """Assert that an object provides the interface, with exact signatures."""
        self.assertTrue(verifyObject(IHandshakeValidator, validator))

    def assertDenied(self, status: int, validator: Any, request: HandshakeRequest, grant: Grant = GRANT) -> Denied:
        """Assert that a validator denies with a status, and return the denial."""
        denied: Denied = self.assertRaises(Denied, validator.validate, request, grant)

        self.assertEqual(status, denied.status, denied.reason)
        self.assertRegex(denied.reason, r"\A[\x20-\x7e]+\Z")
        return denied

    def assertWrong(self, make: Any, text: str, problem: str) -> None:
        """Assert that arguments are refused with a text that contains ``problem``."""
        error = self.assertRaises(ValueError, make, text)

        self.assertIn(problem, str(error))
