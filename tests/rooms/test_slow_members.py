"""Members that do not read, on real sockets: what they cost, and what becomes of them under each policy."""

import socket
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness.clients import WebsocketsClient, binary, mute, read_to_end
from tests.harness.live import SECONDS, Relay, relay

pytestmark = pytest.mark.interop

MIB = 2**20

#: A message, and the frame around it.
PAYLOAD_BYTES = 60_000
FRAME_BYTES = PAYLOAD_BYTES + 4

#: How many never read while so many messages pass through their room, in steps that a reader hears before the next.
#: ``bench/slow.py`` does the same with more of both, and measures.
MEMBERS = 300
MESSAGES = 800
STEP = 16

#: A publisher is not to wait for anything else.
NO_RATE = ("--max-bytes-per-second", "0")

#: The log's default, and what each transport may hold.
BOUND_BYTES = 4 * MIB + MEMBERS * 64 * 1024


def payload(number: int) -> bytes:
    """Return a message that says which one it is."""
    return number.to_bytes(4) + bytes(PAYLOAD_BYTES - 4)


def read_frame(connection: socket.socket) -> bytes:
    """Return the next frame, or what came of it before the end."""
    data = b""
    while len(data) < FRAME_BYTES and (more := connection.recv(FRAME_BYTES - len(data))):
        data += more
    return data


def number_of(frame: bytes) -> int:
    """Return which message a whole frame is."""
    assert (frame[:4], len(frame)) == (b"\x82\x7e" + PAYLOAD_BYTES.to_bytes(2), FRAME_BYTES), frame[:20]
    return int.from_bytes(frame[4:8])


def pass_by(server: Relay) -> None:
    """Send the messages from one member to another that reads all of them."""
    with WebsocketsClient(server.url("/room")) as publisher, WebsocketsClient(server.url("/room")) as reader:
        for first in range(0, MESSAGES, STEP):
            numbers = range(first, first + STEP)
            for number in numbers:
                publisher.say(binary(payload(number)))
            assert [int.from_bytes(reader.hear()[:4]) for _ in numbers] == [*numbers]  # type: ignore[arg-type]
        reader.hears_nothing()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory of a process is read from /proc")
@pytest.mark.parametrize("policy", ["disconnect", "drop-oldest", "latest", "pause-publishers"])
def test_many_stalled_subscribers(policy: str) -> None:
    """They cost the log and the bytes in transports, and no other member a message; the policy applies to them."""
    options = [*NO_RATE, "--slow-policy", f"**={policy}", "--slow-seconds", "2", "--close-seconds", "1"]
    with relay(*options) as server, ExitStack() as stack:
        stalled = [stack.enter_context(mute(server, "/room", receive_bytes=4096)) for _ in range(MEMBERS)]
        before = server.memory_bytes("VmRSS")
        pass_by(server)
        growth = server.memory_bytes("VmHWM") - before
        assert growth < BOUND_BYTES, f"grew by {growth / MIB:.1f} MiB"

        if policy in ("disconnect", "pause-publishers"):
            server.output.wait_for(r"left 'room' .* relay closed with 1013", MEMBERS)
            assert len(read_to_end(stalled[0])) < MESSAGES * FRAME_BYTES / 2
            return
        numbers = [number_of(read_frame(stalled[0]))]
        while numbers[-1] != MESSAGES - 1:
            numbers.append(number_of(read_frame(stalled[0])))
        assert numbers == sorted(set(numbers))
        assert len(numbers) < MESSAGES / 2
        assert "1013" not in server.output.text


def test_pause_publishers() -> None:
    """With pause-publishers, a late reader gets many times what the log holds; the publisher is held."""
    count = 800
    options = [
        *NO_RATE,
        "--max-message-bytes",
        "65536",
        "--room-log-bytes",
        str(MIB),
        "--slow-policy",
        "pause-publishers",
    ]
    with (
        relay(*options) as server,
        mute(server, "/room", receive_bytes=4096) as late,
        mute(server, "/room") as publisher,
    ):
        halfway = threading.Event()

        def publish() -> None:
            for number in range(count):
                publisher.sendall(b"\x82\xfe" + PAYLOAD_BYTES.to_bytes(2) + bytes(4) + payload(number))
                if number == count // 2:
                    halfway.set()

        thread = threading.Thread(target=publish)
        thread.start()
        # Half of it is more than fits into all the buffers of the kernel's on the way.
        assert not halfway.wait(1), "the publisher was not held"
        assert [number_of(read_frame(late)) for _ in range(count)] == [*range(count)]
        thread.join(SECONDS)
        assert not thread.is_alive()
