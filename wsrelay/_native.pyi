from collections.abc import Callable

#: Whether send(2) is called for plain sockets: their layout in memory is the known one. False: every send is called.
KNOWS_SOCKETS: int

def parse(data: bytes, max_payload_bytes: int, kinds: int, most_bytes: int, /) -> tuple[bytes, int, int]: ...
def send_all(
    sends: list[Callable[[bytes], int]], data: bytes, /
) -> dict[Callable[[bytes], int], tuple[bytes, int] | Exception]: ...
