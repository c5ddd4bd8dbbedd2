"""A relay on picows, as in its example of a broadcast; on uvloop and aiofastnet, as its author recommends."""

import socket

from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server
from room import BACKLOG, Rooms, run

rooms = Rooms(set)


class Member(WSListener):
    """A connection, which knows its room."""

    def __init__(self, room: set[WSTransport]) -> None:
        self._room = room

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Join."""
        self._room.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Leave."""
        self._room.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Send what the connection says to everyone else in its room."""
        kind = frame.msg_type
        if kind is WSMsgType.TEXT or kind is WSMsgType.BINARY:
            payload = frame.get_payload_as_bytes()
            for other in self._room:
                if other is not transport:
                    other.send(kind, payload)
        elif kind is WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()


def member(request: WSUpgradeRequest) -> Member:
    """Make the one who speaks for a new connection."""
    return Member(rooms[request.path])


async def start(listener: socket.socket, _deflate: bool) -> None:
    """Listen. There is no compression in picows."""
    await ws_create_server(member, sock=listener, backlog=BACKLOG)


run(start)
