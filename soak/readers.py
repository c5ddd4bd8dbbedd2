"""Members of a room that read on where they were after they were cut off, and check each message.

Event streams are told ids, and return with ``Last-Event-ID``. Plain WebSockets are not, and return with ``?since=``:
the id of a message is in the answer to its POST. Must not live here: when they come, and who publishes.
"""

import time

import client
import exchanges

#: The end of each event: the end of a block, and of its chunk.
EVENT_END = b"\n\n\r\n"
HEAD_END = b"\r\n\r\n"

#: Digits of the number with which each message begins.
DIGITS = 8

#: Faults that are told of one reader.
MAX_FAULTS = 10


class Room:
    """A room, and all that was published there.

    Args:
        name: the path.
        size: bytes of a message.

    Attributes:
        payloads: in their order.
        frames: the same, as the relay sends them to WebSockets.
        frame_bytes: of one of them.
        ids: number → id, as answered.
        answered: how many publishes were answered.
    """

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.payloads: list[bytes] = []
        self.frames = bytearray()
        self._header = bytes((0x80 | client.TEXT, 126)) + size.to_bytes(2, "big")
        self._filling = b" " + name.encode() + b"." * size
        self._size = size
        self.frame_bytes = len(self._header) + size
        self.ids: dict[int, str] = {}
        self.answered = 0

    def add(self) -> bytes:
        """Make the next message."""
        payload = (b"%0*d" % (DIGITS, len(self.payloads)) + self._filling)[: self._size]
        self.payloads.append(payload)
        self.frames += self._header + payload
        return payload


class Client:
    """A member of a room that reads on after it was cut off. Base of the two kinds.

    Args:
        room: its room.

    Attributes:
        room: the same.
        next: number of the message that it waits for.
        live_at: when it first had all that was answered, since it connected; 0 before.
        is_over: whether the relay ended its connection.
        faults: in words.
    """

    #: The status that opens it.
    opening = b""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.next = 0
        self.live_at = 0.0
        self.is_over = False
        self.faults: list[str] = []
        self._rest = b""
        self._is_open = False
        self._connection: exchanges.Connection | None = None

    def connect(self, loop: exchanges.Loop, port: int) -> None:
        """Connect, from the last known message on if there is one."""
        self._rest, self._is_open, self.is_over, self.live_at = b"", False, False, 0.0
        self._connection = exchanges.Connection(loop, port, self.request(), self.receive)

    def cut(self) -> None:
        """End the connection by RST."""
        if self._connection is not None:
            self._connection.close(reset=True)
            self._connection = None

    def request(self) -> bytes:
        """Return the request."""
        raise NotImplementedError

    def take(self, data: bytes) -> bytes:
        """Check whole messages, and return the rest."""
        raise NotImplementedError

    def receive(self, data: bytes) -> None:
        """Take what has come."""
        if not data:
            self.is_over = True
            self.fault("the relay ended the connection")
            return
        self._rest += data
        if self._is_open or self._opened():
            self._rest = self.take(self._rest)
            if not self.live_at and self.next >= self.room.answered:
                self.live_at = time.monotonic()

    def fault(self, text: str) -> None:
        """Note a fault."""
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(f"{type(self).__name__} in {self.room.name}: {text}")

    def is_exact(self) -> bool:
        """Whether it has got each message of its room since it first came, once, in order, unchanged."""
        return not self.faults and self.next == len(self.room.payloads)

    def _opened(self) -> bool:
        head, end, rest = self._rest.partition(HEAD_END)
        if not end:
            return False
        self._rest, self._is_open = rest, True
        if not head.startswith(b"HTTP/1.1 " + self.opening):
            self.fault(f"refused: {head[:60]!r}")
        return True

    def _begin_at(self, number: int) -> None:
        """Begin with the first message that came."""
        if not self.next:
            self.next = number


class WebSocket(Client):
    """A plain WebSocket."""

    opening = b"101"

    def request(self) -> bytes:
        """Return the handshake, with the id of the last message if there was one."""
        known = self.room.ids.get(self.next - 1)
        return client.request(f"{self.room.name}?since={known}" if known else self.room.name, deflate=False)

    def take(self, data: bytes) -> bytes:
        """Compare whole frames with those that were published."""
        size = self.room.frame_bytes
        if data[:1] == bytes((0x80 | client.CLOSE,)):
            self.fault(f"closed with {int.from_bytes(data[2:4], 'big')}: {data[4:].decode(errors='replace')}")
            return b""
        whole = len(data) // size * size
        if whole:
            self._begin_at(self._number(data))
            begin = self.next * size
            if data[:whole] != self.room.frames[begin : begin + whole]:
                self.fault(f"message {self._number(data)} and others came where {self.next} should have")
            self.next = self._number(data[whole - size :]) + 1
        return data[whole:]

    def _number(self, data: bytes) -> int:
        digits = data[4 : 4 + DIGITS]
        return int(digits) if digits.isdigit() else -1


class EventStream(Client):
    """A stream of events, as EventSource reads it."""

    opening = b"200"

    def __init__(self, room: Room) -> None:
        super().__init__(room)
        self._last_id = ""

    def request(self) -> bytes:
        """Return the request, with the last id if there was one."""
        fields = [f"Last-Event-ID: {self._last_id}"] if self._last_id else []
        return exchanges.get(self.room.name, "text/event-stream", *fields)

    def take(self, data: bytes) -> bytes:
        """Check whole events."""
        *blocks, rest = data.split(EVENT_END)
        for block in blocks:
            _, _, text = block.partition(b"\r\n")  # behind the size of the chunk
            fields = dict(line.partition(b": ")[::2] for line in text.split(b"\n"))
            self._last_id = fields.get(b"id", self._last_id.encode()).decode()
            if b"event" in fields:
                self.fault(f"event {fields[b'event'].decode()}: {fields.get(b'data', b'').decode()}")
            elif b"data" in fields:
                self._hear(fields[b"data"])
        return rest

    def _hear(self, payload: bytes) -> None:
        number = int(payload[:DIGITS])
        self._begin_at(number)
        if payload != b"".join(self.room.payloads[self.next : self.next + 1]):
            self.fault(f"message {number} came where {self.next} should have, or was changed")
        if self.room.ids.get(number, self._last_id) != self._last_id:
            self.fault(f"message {number} has the id {self._last_id}; its POST was answered {self.room.ids[number]}")
        self.next = number + 1
