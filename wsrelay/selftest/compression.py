"""Cases: permessage-deflate (RFC 7692).

Must not live here: a server that declines it has a pass or a skip, but never a failure.
"""

import zlib
from typing import Final

from wsrelay.selftest.case import Case
from wsrelay.selftest.frames import BINARY, FIN, RSV1, TEXT, masked
from wsrelay.selftest.lab import Lab
from wsrelay.selftest.member import Member
from wsrelay.selftest.outcome import Differs, Fails, Skipped
from wsrelay.selftest.reaction import reaction
from wsrelay.selftest.sizes import refused_for_size

__all__ = ["CASES"]

_FIELD: Final = "sec-websocket-extensions"
_TEXT: Final = ("wsrelay selftest, grüße, 世界 👋; " * 200).encode()

#: The bomb inflates to so many times the limit, and to no more than this.
_BOMB_TIMES: Final = 64
_BOMB_BYTES: Final = 64 * 2**20
_STEP_BYTES: Final = 2**16


async def _deflate(lab: Lab) -> str:
    publisher, answer = await lab.join("publisher", is_compressed=True)
    agreed = answer.fields.get(_FIELD)
    if agreed is None:
        raise Differs("declined")
    compressed, _ = await lab.join("compressing listener", is_compressed=True)
    plain, _ = await lab.join("plain listener")
    await lab.settle([publisher, compressed, plain])
    payload = _TEXT[: lab.bounds.max_message_bytes].decode(errors="ignore").encode()
    publisher.send(masked(FIN | RSV1 | TEXT, _deflated(payload)))
    for listener in (compressed, plain):
        heard = await listener.hear()
        if (heard.payload, heard.is_text) != (payload, True):
            raise Fails(f"the {listener.who} got another message")
    return f"{agreed}; arrived at a listener with compression and at one without"


async def _bomb(lab: Lab) -> str:
    culprit, bystander, speaker = await _with_compression(lab)
    size = max(min(_BOMB_TIMES * lab.bounds.max_message_bytes, _BOMB_BYTES), 2 * lab.bounds.max_message_bytes)
    frame = masked(FIN | RSV1 | BINARY, _deflated_zeros(size))
    culprit.send(frame)
    return await refused_for_size(culprit, bystander, speaker, f"{len(frame)} bytes that inflate to {size}")


async def _damaged(lab: Lab) -> str:
    culprit, bystander, speaker = await _with_compression(lab)
    culprit.send(masked(FIN | RSV1 | BINARY, b"\xff\xfe\xfd"))
    seen = await reaction(culprit, bystander, speaker)
    if seen.relayed:
        raise Fails("it was relayed")
    if seen.is_open:
        raise Fails(seen.text)
    if seen.code is None:
        raise Differs(seen.text, "the client cannot tell it from a network failure")
    return seen.text


async def _with_compression(lab: Lab) -> tuple[Member, Member, Member]:
    culprit, answer = await lab.join("culprit", is_compressed=True)
    if _FIELD not in answer.fields:
        raise Skipped("permessage-deflate was declined")
    bystander, speaker = (await lab.join("bystander"))[0], (await lab.join("speaker"))[0]
    await lab.settle([culprit, bystander, speaker])
    return culprit, bystander, speaker


def _deflated(payload: bytes) -> bytes:
    """Return the payload of a compressed message (RFC 7692 section 7.2.1)."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def _deflated_zeros(size: int) -> bytes:
    """Return the same of zeros, without having them all in memory."""
    compressor = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    zeros = bytes(_STEP_BYTES)
    parts = [compressor.compress(zeros) for _ in range(0, size, _STEP_BYTES)]
    return b"".join([*parts, compressor.flush(zlib.Z_SYNC_FLUSH)])[:-4]


CASES: Final = (
    Case(
        "deflate",
        "Compression",
        "permessage-deflate is agreed; members with and without it get the same",
        "docs/clients.md, RFC 7692",
        "messages take more bandwidth",
        _deflate,
    ),
    Case(
        "deflate-bomb",
        "Compression",
        "a small message that inflates far beyond the limit is closed with 1009, and only its sender",
        "promise 7",
        "few bytes of one client cost every member many: the limit is higher or there is none",
        _bomb,
    ),
    Case(
        "deflate-damaged",
        "Compression",
        "data that does not inflate ends its sender, and only that",
        "RFC 7692 section 7.2.2, promise 6",
        "members get wrong messages",
        _damaged,
    ),
)
