"""Reactions to what one client does."""

from collections.abc import Callable
from typing import Any

from tests.harness.selftest import SelftestCase, finish, same
from wsrelay.selftest.reaction import Reaction, reaction


class ReactionTests(SelftestCase):
    """How it ends."""

    def react(self, act: Callable[[Any, Any], object], up: Any = same, down: Any = same) -> Reaction:
        """Return the reaction to what is done with the culprit; with the relay as second argument."""
        relay = self.relay()
        members = finish(relay, self.lab(relay, up=up, down=down).joined("culprit", "bystander", "speaker"))
        act(members[0], relay)
        found: Reaction = finish(relay, reaction(*members))
        return found

    def test_closed(self) -> None:
        """A close frame."""
        found = self.react(lambda culprit, _relay: culprit.send(b"\xff\xff"))
        self.assertEqual((found.is_open, found.code, found.text[:16]), (False, 1002, "closed with 1002"))

    def test_open(self) -> None:
        """A message of the culprit that is relayed afterwards."""
        found = self.react(
            lambda culprit, _relay: culprit.say("mine"),
            down=lambda data: b"\x89\0" + data if data[:1] == b"\x8a" else data,
        )
        self.assertEqual((found.is_open, found.code, found.text), (True, None, "not closed"))
        self.assertEqual([heard.payload for heard in found.relayed], [b"mine"])

    def test_cut(self) -> None:
        """An end without a close frame."""
        found = self.react(
            lambda _culprit, relay: list(relay.factory.connections)[0].transport.abortConnection()  # noqa: RUF015
        )
        self.assertEqual((found.is_open, found.close, found.text), (False, None, "cut without a close frame"))

    def test_neither(self) -> None:
        """Silence."""
        found = self.react(lambda culprit, _relay: culprit.send(b"\x82\xff" + (2**16).to_bytes(8, "big") + bytes(4)))
        self.assertEqual((found.is_open, found.text), (True, "neither closed nor answered"))

    def test_closed_behind_the_pong(self) -> None:
        """A server that answers pings before it looks at what came earlier."""
        sent: list[bytes] = []

        def late(data: bytes) -> bytes:
            """Keep the wrong frame until the culprit goes on."""
            if data == b"\xff\xff":
                sent.append(data)
                return b""
            return sent.pop() + data if sent and data[:2] == b"\x81\x85" else data

        found = self.react(lambda culprit, _relay: culprit.send(b"\xff\xff"), up=late)
        self.assertEqual((found.is_open, found.code, found.relayed), (False, 1002, []))

    def test_no_longer_relayed(self) -> None:
        """A server that answers, but does not relay any longer."""
        found = self.react(lambda _culprit, _relay: None, down=_drop_first_after())
        self.assertEqual((found.is_open, found.text), (True, "not closed, but no longer relayed"))


def _drop_first_after() -> Callable[[bytes], bytes]:
    dropped: list[bytes] = []

    def change(data: bytes) -> bytes:
        if b"\x81\5after" in data and not dropped:  # the bystander's
            dropped.append(data)
            return b""
        return data

    return change
