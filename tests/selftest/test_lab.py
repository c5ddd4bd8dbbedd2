"""Connections of a case."""

from tests.harness.selftest import SelftestCase, finish
from tests.harness.support import Answer
from wsrelay.errors import Denied
from wsrelay.selftest.frames import masked
from wsrelay.selftest.lab import Bounds
from wsrelay.selftest.outcome import Refused


class LabTests(SelftestCase):
    """It opens them and ends them."""

    def test_bounds(self) -> None:
        """One answer may take a third of a case; the largest message that is read has room for the bomb's header."""
        self.assertEqual(Bounds(seconds=30).patience_seconds, 10)
        self.assertEqual((Bounds(max_message_bytes=1).most_bytes, Bounds().most_bytes), (2**18, 2**22))

    def test_no_response(self) -> None:
        """A handshake that ends without a response is refused."""
        relay = self.relay((Answer(Denied(400, "no")),))
        with self.assertRaisesRegex(Refused, "the handshake of the client got no HTTP response"):
            finish(relay, self.lab(relay, down=lambda _data: b"").joined("client"))

    def test_leave(self) -> None:
        """All members leave by the close handshake, all other connections are aborted; nobody was closed."""
        relay = self.relay()
        lab = self.lab(relay)
        finish(relay, lab.joined("one", "two"))
        finish(relay, lab.connect("three"))
        self.assertEqual(finish(relay, lab.leave()), [])
        self.assertEqual((len(relay.factory.connections), dict(relay.stats.closes_sent)), (0, {}))

    def test_closed_unnoticed(self) -> None:
        """Members that the server had closed are named, also behind one that broke a rule."""
        relay = self.relay()
        lab = self.lab(relay, down=lambda data: data.replace(b"\x81\1a", b"\x83\0"))
        one, _, three = finish(relay, lab.joined("one", "two", "three"))
        three.send(masked(0x83))
        relay.settle()
        one.say("a")
        relay.settle()
        self.assertEqual([str(each)[:30] for each in finish(relay, lab.leave())], ["the three was closed with 1002"])
        self.assertEqual([who for who, _ in lab.ends], ["three"])

    def test_a_server_that_does_not_answer(self) -> None:
        """It is waited for 3 s in all."""
        relay = self.relay()
        lab = self.lab(relay, up=lambda data: b"" if data[:1] == b"\x88" else data)
        finish(relay, lab.joined("one", "two"))
        before = relay.clock.seconds()
        finish(relay, lab.leave())
        self.assertAlmostEqual(relay.clock.seconds() - before, 3, delta=0.5)
        self.assertEqual(len(relay.factory.connections), 0)

    def test_anew(self) -> None:
        """Each case has a room of its own; ends are kept for all."""
        relay = self.relay()
        lab = self.lab(relay)
        other = lab.anew()
        self.assertNotEqual(lab.room, other.room)
        self.assertIs(lab.ends, other.ends)
