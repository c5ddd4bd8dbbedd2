"""Tests of wsrelay.wire.native: the selection, and that the compiled module and pure Python agree on all bytes."""

import importlib.util
import os
import subprocess
import sys
from types import ModuleType
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.harness.framing import streams, wire_frame
from tests.harness.native import compiled
from wsrelay.wire import native, pure


def selected(extension: ModuleType | None) -> ModuleType:
    """Return a fresh selection where the extension is this one, or cannot be imported."""
    spec = importlib.util.find_spec("wsrelay.wire.native")
    assert spec is not None
    assert spec.loader is not None
    fresh = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, {"wsrelay._native": extension}):
        spec.loader.exec_module(fresh)
    return fresh


def test_selection_pure() -> None:
    """Without the extension module, the functions are those in Python."""
    fresh = selected(None)

    assert (fresh.IS_COMPILED, fresh.parse, fresh.send_all) == (False, pure.parse, pure.send_all)


def test_selection_compiled() -> None:
    """With the extension module, the functions are its own."""
    extension = compiled()
    fresh = selected(extension)

    assert (fresh.IS_COMPILED, fresh.parse, fresh.send_all) == (True, extension.parse, extension.send_all)


@pytest.mark.parametrize(("value", "expected"), [("1", "False"), ("", "True")])
def test_selection_environment(value: str, expected: str) -> None:
    """WSRELAY_PURE=1 selects pure Python; set to nothing, it is as if unset."""
    compiled()
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "WSRELAY_PURE": value}
    code = "from wsrelay.wire import native; print(native.IS_COMPILED)"

    assert subprocess.check_output([sys.executable, "-c", code], env=environ, text=True).strip() == expected


def test_sockets_are_known() -> None:
    """On each supported Python, send(2) is called for plain sockets."""
    assert compiled().KNOWS_SOCKETS == 1


def test_wrong_arguments() -> None:
    """Other types and numbers of arguments are a TypeError, integers beyond ssize_t an OverflowError."""
    extension = compiled()
    for arguments in (
        (),
        (b"",),
        (b"", 1, 2),
        (b"", 1, 2, 3, 4),
        ("", 1, 2, 3),
        (bytearray(), 1, 2, 3),
        (b"", 1, None, 3),
    ):
        with pytest.raises(TypeError):
            extension.parse(*arguments)
    for arguments in ((), ({},), ({}, None), ({}, 0, "x"), ([], 0, b"x"), ({}, 0, bytearray(1)), ({}, 0, b"x", 1)):
        with pytest.raises(TypeError):
            extension.send_all(*arguments)
    for arguments in ((b"", 2**64, 3, 1), (b"", 1, 2**64, 1), (b"", 1, 3, 2**64)):
        with pytest.raises(OverflowError):
            extension.parse(*arguments)


#: Replaces bytes, so that some headers, lengths, keys and characters are wrong.
mutations = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=3)
limits = st.sampled_from([0, 20, 125, 126, 1000, 65535, 2**40])


@given(streams | st.binary(max_size=40), mutations, st.integers(0, 6000), limits, st.integers(0, 3), limits)
@example(wire_frame(0x82, bytes(65536)) + wire_frame(0x81, b"\xff" * 20), [], 6000, 2**40, 3, 2**40)
@hypothesis_settings(max_examples=int(os.environ.get("WSRELAY_FUZZ_EXAMPLES", "500")))
def test_parse_equivalence(
    stream: bytes, changes: list[tuple[int, int]], cut: int, max_payload: int, kinds: int, most: int
) -> None:
    """Both parsers give the same result for valid, damaged and arbitrary bytes, cut anywhere."""
    damaged = bytearray(stream)
    for place, octet in changes:
        if place < len(damaged):
            damaged[place] = octet
    # An object of its own: a read beyond its end is found where memory is checked.
    data = bytes(damaged[:cut])

    assert compiled().parse(data, max_payload, kinds, most) == pure.parse(data, max_payload, kinds, most)


@given(st.binary(max_size=80) | st.text(max_size=30).map(str.encode), st.binary(min_size=4, max_size=4), mutations)
def test_utf8_equivalence(payload: bytes, key: bytes, changes: list[tuple[int, int]]) -> None:
    """Both accept the same text."""
    damaged = bytearray(payload)
    for place, octet in changes:
        if place < len(damaged):
            damaged[place] = octet
    data = wire_frame(0x81, bytes(damaged), key)

    assert compiled().parse(data, 1000, 3, 1000) == pure.parse(data, 1000, 3, 1000)


def test_selected_module_is_used() -> None:
    """The selection of this process is one of the two."""
    assert native.parse in (pure.parse, getattr(sys.modules.get("wsrelay._native"), "parse", None))
