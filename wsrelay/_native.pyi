from collections.abc import Callable
from typing import TypeVar

_Member = TypeVar("_Member")

#: Whether send(2) is called for plain sockets: their layout in memory is the known one. False: every send is called.
KNOWS_SOCKETS: int

def parse(data: bytes, max_payload_bytes: int, kinds: int, most_bytes: int, /) -> tuple[bytes, int, int]: ...
def send_all(
    members: dict[_Member, Callable[[bytes], int]], but: object, data: bytes, /
) -> dict[_Member, tuple[bytes, int] | Exception]: ...
