"""Faults of the back end that the ``http`` validator asks: slow, down, closing, cut short."""

import signal
from contextlib import ExitStack

import pytest
from twisted.logger import LogLevel

from tests.faults.back_ends import ANSWERS, BackEnd
from tests.faults.crowds import Crowd
from tests.faults.support import FaultTestCase, Hook, attacked, connect, port, remarks
from tests.harness.clients import handshake, read_to_end
from tests.harness.live import relay
from tests.harness.support import request_bytes
from wsrelay.logs.limiter import LINES_PER_TICK, TICK_SECONDS

interop = pytest.mark.interop


def answers(server_port: int, room: str, count: int, hosts: int = 10) -> dict[int, int]:
    """Return status → number of answers to handshakes from some addresses, all at once."""
    with Crowd(server_port, [f"127.0.1.{1 + number % hosts}" for number in range(count)], [f"/{room}"]) as crowd:
        crowd.come()
        crowd.await_answers(count)
        return dict(crowd.statuses)


@interop
def test_backend_slow() -> None:
    """A back end that never answers takes its share of descriptors, and no more; beyond the queue, 503 at once."""
    with (
        BackEnd() as back_end,
        relay("--validate", f"http:{back_end.url},timeout=1,connections=8", max_files=600) as server,
        attacked(server) as attack,
    ):
        assert answers(port(server), "hooked/slow", 300) == {503: 300}
        assert back_end.most_connections <= 8 + 1  # the relay may see an end before the back end does
        attack.bystanders.exchange()
        said = "\n".join(remarks(server))
        for problem in (
            "no answer within 1 s",
            "no free connection within 0.5 s",
            "128 questions wait, the maximum",
        ):
            assert problem in said
        assert "(http_busy)" in said
        assert "EMFILE" not in said
        assert "Too many open files" not in said
        attack.bystanders.welcome()
        attack.settle()


@interop
def test_backend_slow_for_one_address() -> None:
    """An address whose questions are never answered has three quarters of them; newcomers are admitted meanwhile."""
    with (
        BackEnd() as back_end,
        relay("--validate", f"http:{back_end.url},timeout=4,connections=4") as server,
        attacked(server) as attack,
        ExitStack() as stack,
    ):
        for _ in range(40):
            client = stack.enter_context(connect(server, host="127.0.1.1"))
            client.sendall(handshake("/hooked/slow"))
        while back_end.unanswered < 3:
            attack.bystanders.exchange()
        for _ in range(5):
            attack.bystanders.welcome()
        assert back_end.unanswered == 3
        stack.close()
        attack.settle()


@interop
def test_backend_ends_kept_connections() -> None:
    """A back end that ends each connection at its second question, unanswered: all are admitted."""
    with (
        BackEnd(1) as back_end,
        relay("--validate", f"http:{back_end.url},connections=4") as server,
        attacked(server) as attack,
    ):
        for _ in range(5):
            assert answers(port(server), "lobby", 20) == {101: 20}
        attack.bystanders.welcome()
        assert "asking" not in server.output.text


@interop
def test_backend_reload() -> None:
    """After a reload new handshakes have new connections; pending ones are still answered, and idle ones end."""
    with (
        BackEnd() as back_end,
        relay("--validate", f"http:{back_end.url},timeout=2,connections=4") as server,
        attacked(server) as attack,
        connect(server) as pending,
    ):
        pending.sendall(handshake("/hooked/slow"))
        while not back_end.unanswered:
            attack.bystanders.exchange()
        kept = back_end.connections
        server.signal(signal.SIGHUP)
        server.output.wait_for("SIGHUP: reloaded")
        attack.bystanders.welcome()
        assert back_end.connections > kept
        assert b" 503 " in read_to_end(pending)
        while back_end.connections:
            attack.bystanders.exchange()
        attack.bystanders.welcome()


@interop
def test_backend_down() -> None:
    """A back end that is down causes 503 and a few lines, without one of Twisted's client."""
    with (
        BackEnd() as back_end,
        relay("--validate", f"http:{back_end.url}") as server,
        attacked(server) as attack,
    ):
        before = len(remarks(server))
        back_end.stop()
        assert answers(port(server), "hooked", 200) == {503: 200}
        attack.bystanders.exchange()
        server.output.wait_for(r"more times: .*ConnectionRefusedError")
        said = remarks(server)[before:]
        assert len(said) < 150
        assert not any("factory" in line or "Traceback" in line for line in said)


@interop
def test_backend_half_answers() -> None:
    """A missing, incomplete or foreign answer causes 503 and leaves nothing behind."""
    with (
        BackEnd() as back_end,
        relay("--validate", f"http:{back_end.url},timeout=1,connections=4") as server,
        attacked(server) as attack,
    ):
        for room in ANSWERS:
            assert answers(port(server), room, 10) == {503: 10}
            attack.bystanders.welcome()
        assert "secret" not in server.output.text
        attack.settle()


class ValidatorFloodTests(FaultTestCase):
    """Validators that raise, for a crowd."""

    def test_validator_raises_flood(self) -> None:
        """The first exceptions per half second have tracebacks, the rest is counted; each client gets an id."""
        with self.attacked([Hook(KeyError("broken"))], tracebacks=2 * LINES_PER_TICK) as relay:
            for _ in range(2):
                for _ in range(200):
                    wire = relay.wire()
                    wire.send(request_bytes("/hooked"))
                    incident = wire.received.split()[-1].decode()
                    self.assertIn(f"[{incident}]", "\n".join(self.logged(LogLevel.critical)))
                    wire.hang_up()
                relay.wait(2 * TICK_SECONDS)
            count = 200 - LINES_PER_TICK
            for what in ("denied", "a handshake validator failed"):
                self.assertEqual(self.logged().count(f"... and {count} more lines: {what}, all addresses"), 2)
