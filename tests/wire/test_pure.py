"""Tests of wsrelay.wire.pure, and of the compiled module with the same promises: every test runs with both."""

import contextlib
import gc
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.framing import wire_frame
from tests.harness.native import IMPLEMENTATIONS, implementation
from tests.wire.test_frames import parse as parse_as_client

#: A limit that is never reached.
MUCH = 2**40

GOOD = wire_frame(0x81, b"ok")
PLAIN = b"\x81\x02ok"

#: Valid and invalid text by RFC 3629: the ends of all ranges.
VALID = ["", "a", "\x7f", "\x80", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff"]
INVALID = [
    *(b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc2", b"\xc2\x7f", b"\xc2\xc0", b"\xdf\xff"),
    *(b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xe0\xa0", b"\xe1\x80\x7f", b"\xe1\x80\xc0", b"\xef\xbf"),
    *(b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf", b"\xf0\x90\x80", b"\xf1\x80\x80\x7f"),
    *(b"\xf1\x80\xc0\x80", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xfe", b"\xff", b"\xf8\x88\x80\x80\x80"),
]


@pytest.fixture(params=IMPLEMENTATIONS, name="module")
def both(request: pytest.FixtureRequest) -> ModuleType:
    """Each implementation."""
    return implementation(request.param)


@pytest.fixture(name="pair")
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets; the first is non-blocking and has a small send buffer."""
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        yield near, far


# parse


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=300)), max_size=5), st.binary(min_size=4, max_size=4)
)
def test_parse_common_frames(name: str, sent: list[tuple[int, bytes]], key: bytes) -> None:
    """Whole masked messages come out as a client reads them; an incomplete frame is left."""
    sent = [(opcode, payload.hex().encode() if opcode == 1 else payload) for opcode, payload in sent]
    data = b"".join(wire_frame(0x80 | opcode, payload, key) for opcode, payload in sent)

    joined, count, behind = implementation(name).parse(data + GOOD[:5], MUCH, 3, MUCH)

    assert [(frame.opcode, frame.data) for frame in parse_as_client(joined)] == sent
    assert (count, behind) == (len(sent), len(data))


@pytest.mark.parametrize(
    "length", [0, 1, 7, 8, 9, 63, 64, 124, 125, 126, 127, 128, 65534, 65535, 65536, 65537, 200_000]
)
@pytest.mark.parametrize("first", [0x81, 0x82])
def test_parse_lengths(module: ModuleType, length: int, first: int) -> None:
    """Payloads of all lengths are taken, with the length in the shortest form."""
    payload = bytes(range(1, 128)) * (length // 127 + 1)
    data = GOOD + wire_frame(first, payload[:length], b"\x81\x02\xf3\x74")

    joined, count, behind = module.parse(data, MUCH, 3, MUCH)

    assert (joined, count, behind) == (PLAIN + wire_frame(first, payload[:length], None), 2, len(data))


def test_parse_uncommon_frames(module: ModuleType) -> None:
    """An uncommon frame ends the parse; nothing after it is taken."""
    for left in (
        wire_frame(0x81, b"ok", None),  # not masked
        wire_frame(0x01, b"ok"),  # a fragment
        wire_frame(0x80, b"ok"),  # a continuation
        wire_frame(0x89, b"ok"),  # a ping
        wire_frame(0x83, b"ok"),  # a reserved opcode
        wire_frame(0xA1, b"ok"),  # RSV2
        wire_frame(0x91, b"ok"),  # RSV3
        wire_frame(0xC1, b"ok"),  # compressed
        wire_frame(0x81, b"o\xff"),  # not UTF-8
        wire_frame(0x81, b"x" * 125, length_bits=16),  # lengths not in the shortest form
        wire_frame(0x81, b"x" * 125, length_bits=64),
        wire_frame(0x82, b"x" * 65535, length_bits=64),
        wire_frame(0x82, b"", length_bits=16),
        wire_frame(0x82, b"", length_bits=64),
    ):
        assert module.parse(GOOD + left + GOOD, MUCH, 3, MUCH) == (PLAIN, 1, len(GOOD)), left


@pytest.mark.parametrize(
    "length", [2**16, 2**31 - 1, 2**31, 2**32, 2**63 - 15, 2**63 - 1, 2**63, 2**64 - 14, 2**64 - 1]
)
def test_parse_declared_lengths(module: ModuleType, length: int) -> None:
    """A frame that declares more than there is, up to 64 bits, is left."""
    data = b"\x82\xff" + length.to_bytes(8) + bytes(4) + bytes(40)

    assert module.parse(GOOD + data, sys.maxsize, 3, sys.maxsize) == (PLAIN, 1, len(GOOD))


@pytest.mark.parametrize("payload", [b"ok", b"x" * 126, b"x" * 65536])
def test_parse_incomplete(module: ModuleType, payload: bytes) -> None:
    """Of a frame that is not all there, nothing is taken, wherever it breaks off."""
    frame = wire_frame(0x82, payload)
    for length in [*range(20), len(frame) - 1]:
        assert module.parse(GOOD + frame[: min(length, len(frame) - 1)], MUCH, 3, MUCH) == (PLAIN, 1, len(GOOD))


@pytest.mark.parametrize("length", [0, 10, 125, 126, 300, 65536])
def test_parse_max_payload(module: ModuleType, length: int) -> None:
    """A payload of the largest size is taken, a longer one left."""
    data = wire_frame(0x82, bytes(length))

    assert module.parse(data, length, 3, MUCH)[1] == 1
    assert module.parse(data, length - 1, 3, MUCH) == (b"", 0, 0)


@pytest.mark.parametrize(("kinds", "taken"), [(0, ""), (1, "t"), (2, "b"), (3, "tb")])
def test_parse_kinds(module: ModuleType, kinds: int, taken: str) -> None:
    """Only allowed types are taken; the first other one ends the parse."""
    for kind, frame in (("t", wire_frame(0x81, b"ok")), ("b", wire_frame(0x82, b"x" * 200))):
        assert module.parse(frame, MUCH, kinds, MUCH)[1] == (kind in taken)


def test_parse_most_bytes(module: ModuleType) -> None:
    """The parse stops behind the frame with which the result is long enough, and one frame is always taken."""
    assert [module.parse(GOOD * 5, MUCH, 3, most)[1] for most in (0, 1, 4, 5, 8, 9, 20, 21)] == [1, 1, 1, 2, 2, 3, 5, 5]
    data = wire_frame(0x82, bytes(300)) * 3
    assert [module.parse(data, MUCH, 3, most)[1] for most in (304, 305, 608, 609)] == [1, 2, 2, 3]


@pytest.mark.parametrize("before", [0, 1, 7, 8, 9, 120])
@pytest.mark.parametrize("behind", [0, 1, 8, 130])
def test_parse_utf8(module: ModuleType, before: int, behind: int) -> None:
    """Text is UTF-8 by RFC 3629, wherever its characters are; binary is anything."""
    for text in VALID:
        payload = b"x" * before + text.encode() + b"y" * behind
        assert module.parse(wire_frame(0x81, payload), MUCH, 3, MUCH)[0] == wire_frame(0x81, payload, None)
    for octets in INVALID:
        payload = b"x" * before + octets + b"y" * behind
        assert module.parse(GOOD + wire_frame(0x81, payload), MUCH, 3, MUCH) == (PLAIN, 1, len(GOOD)), octets
        assert module.parse(wire_frame(0x82, payload), MUCH, 3, MUCH)[1] == 1


def test_parse_nothing(module: ModuleType) -> None:
    """No bytes are no frames."""
    assert module.parse(b"", MUCH, 3, MUCH) == (b"", 0, 0)


# send_all


def test_send_all_takes_all(module: ModuleType, pair: tuple[socket.socket, socket.socket]) -> None:
    """Sockets that take all are not in the result."""
    near, far = pair

    assert module.send_all({"one": near.send, "other": near.send}, None, b"hello") == {}
    assert far.recv(100) == b"hellohello"


def test_send_all_but_one(module: ModuleType, pair: tuple[socket.socket, socket.socket]) -> None:
    """One member gets nothing, which is known by its identity; any other object is no member."""
    near, far = pair
    publisher, equal = (1, 2, 3), (1, 2, *[3])
    members = {publisher: pytest.fail, "other": near.send}

    assert module.send_all(members, publisher, b"a") == {}
    assert module.send_all({equal: near.send}, publisher, b"b") == {}
    assert module.send_all({"other": near.send}, object(), b"c") == {}
    assert far.recv(100) == b"abc"


def test_send_all_nothing(module: ModuleType) -> None:
    """No data: nothing is called."""
    assert module.send_all({"one": pytest.fail}, None, b"") == {}
    assert module.send_all({}, None, b"x") == {}


def test_send_all_full_buffer(module: ModuleType, pair: tuple[socket.socket, socket.socket]) -> None:
    """A socket that takes a part is in the result with its length, and one that takes nothing with 0."""
    near, far = pair
    data = bytes(10_000_000)

    [(partial, (same, taken))] = module.send_all({"one": near.send}, None, data).items()
    assert partial == "one"
    assert same is data
    assert 0 < taken < len(data)
    with contextlib.suppress(BlockingIOError):
        while True:
            taken += near.send(b"x")
    assert module.send_all({"one": near.send}, None, b"more") == {"one": (b"more", 0)}
    received = 0
    near.close()
    while chunk := far.recv(2**20):
        received += len(chunk)
    assert received == taken


def test_send_all_closed_socket(module: ModuleType, pair: tuple[socket.socket, socket.socket]) -> None:
    """A closed socket takes nothing, and a new socket with its descriptor gets nothing."""
    near, _ = pair
    send, descriptor = near.send, near.fileno()
    near.close()
    assert module.send_all({"one": send}, None, b"x") == {"one": (b"x", 0)}
    other, far = socket.socketpair()
    with other, far:
        far.setblocking(False)
        assert descriptor in (other.fileno(), far.fileno())
        assert module.send_all({"one": send}, None, b"x") == {"one": (b"x", 0)}
        for end in (other, far):
            end.setblocking(False)
            with pytest.raises(BlockingIOError):
                end.recv(1)


def test_send_all_peer_gone(module: ModuleType, pair: tuple[socket.socket, socket.socket]) -> None:
    """A reset is 0 bytes, without SIGPIPE."""
    near, far = pair
    far.close()

    assert module.send_all({"one": near.send}, None, b"x") == {"one": (b"x", 0)}


def test_send_all_blocking_socket(module: ModuleType) -> None:
    """A blocking socket waits until all is taken."""
    near, far = socket.socketpair()
    with near, far:
        reader = subprocess.Popen(
            [sys.executable, "-c", f"import os\nwhile os.read({far.fileno()}, 65536): pass"], pass_fds=[far.fileno()]
        )
        far.close()
        assert module.send_all({"one": near.send}, None, bytes(3_000_000)) == {}
        near.close()
        assert reader.wait() == 0


def test_send_all_timeout(module: ModuleType, pair: tuple[socket.socket, socket.socket]) -> None:
    """A timeout is an OSError: 0 bytes."""
    near, _ = pair
    with contextlib.suppress(BlockingIOError):
        while True:
            near.send(bytes(1000))
    near.settimeout(0.001)

    assert module.send_all({"one": near.send}, None, b"x") == {"one": (b"x", 0)}


def test_send_all_callables(module: ModuleType) -> None:
    """Any callable: fewer bytes and errors are in the result, and all others are called."""
    called: list[str] = []

    def fake(name: str, outcome: int | BaseException) -> Callable[[bytes], int]:
        def send(data: bytes) -> int:
            called.append(name)
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        return send

    error = ValueError("broken")
    less, none, blocked, reset, broken, full = (
        fake("less", 3),
        fake("none", 0),
        fake("blocked", BlockingIOError()),
        fake("reset", ConnectionResetError()),
        fake("broken", error),
        fake("full", 5),
    )
    data = b"hello"
    members = {"less": less, "none": none, "blocked": blocked, "reset": reset, "broken": broken, "full": full}
    unsent = module.send_all(members, None, data)

    assert unsent == {"less": (data, 3), "none": (data, 0), "blocked": (data, 0), "reset": (data, 0), "broken": error}
    assert list(unsent) == ["less", "none", "blocked", "reset", "broken"]
    assert unsent["broken"] is error
    assert error.__traceback__ is not None
    assert called == ["less", "none", "blocked", "reset", "broken", "full"]


def test_send_all_overridden_send(module: ModuleType) -> None:
    """A class with a send of its own has it called."""

    class Counting(socket.socket):
        sent = 0

        def send(self, data: bytes, *_: Any) -> int:  # type: ignore[override]  # of a socket, whose data may be any buffer
            self.sent += len(data)
            return len(data)

    with Counting() as own:
        assert module.send_all({"one": own.send}, None, b"hello") == {}
        assert own.sent == 5


def test_send_all_system_exit(module: ModuleType) -> None:
    """What is no Exception ends it, and no more are called."""

    def leave(data: bytes) -> int:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        module.send_all({"one": leave, "other": pytest.fail}, None, b"x")


def test_send_all_members_change(module: ModuleType, pair: tuple[socket.socket, socket.socket]) -> None:
    """A call may take members away, with the last reference to a send, and add others: those of before get the data."""
    near, far = pair
    members: dict[str, Callable[[bytes], int]] = {}

    def change(data: bytes) -> int:
        members.clear()
        members["late"] = pytest.fail
        return 0

    members |= {"one": change, "other": near.send}
    assert module.send_all(members, None, b"x") == {"one": (b"x", 0)}
    assert far.recv(10) == b"x"
    assert members == {"late": pytest.fail}


def test_send_all_no_leaks(module: ModuleType, pair: tuple[socket.socket, socket.socket]) -> None:
    """Neither data nor sends nor errors are kept."""

    def broken(data: bytes) -> int:
        raise KeyError

    near, _ = pair
    closed = socket.socket()
    closed.setblocking(False)
    closed.close()
    data = os.urandom(100)
    members = {object(): send for send in (broken, closed.send, near.send)}
    kept = [data, *members, *members.values()]
    before = [*map(sys.getrefcount, kept)]
    for _ in range(10):
        module.send_all(members, kept[1], data)
        module.send_all(members, None, data)
    gc.collect()  # in Python, the traceback of an error has the frame that has the result
    assert [*map(sys.getrefcount, kept)] == before
