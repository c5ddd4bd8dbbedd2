"""A relay on websockets: its `broadcast`, which its author calls the most efficient way to send to many."""

import socket
import ssl

from room import BACKLOG, Rooms, run
from websockets.asyncio.server import ServerConnection, broadcast, serve

rooms = Rooms(set)


async def relay(connection: ServerConnection) -> None:
    """Send what a connection says to everyone else in its room."""
    assert connection.request is not None
    room = rooms[connection.request.path]
    room.add(connection)
    try:
        async for message in connection:
            broadcast((other for other in room if other is not connection), message)
    finally:
        room.discard(connection)


async def start(listener: socket.socket, deflate: bool, tls: ssl.SSLContext | None = None) -> None:
    """Listen. Compression, where it is on, has the library's settings, which its author has chosen for servers."""
    await serve(relay, sock=listener, backlog=BACKLOG, ssl=tls, compression="deflate" if deflate else None)


run(start)
