"""A relay on aiohttp, as in its example of a chat: one `send_str` or `send_bytes` per member, awaited in turn."""

import socket

from aiohttp import WSMsgType, web
from room import BACKLOG, Rooms, run

DEFLATE = web.AppKey("deflate", bool)

rooms = Rooms(set)


async def relay(request: web.Request) -> web.WebSocketResponse:
    """Send what a connection says to everyone else in its room."""
    connection = web.WebSocketResponse(compress=request.app[DEFLATE])
    await connection.prepare(request)
    room = rooms[request.path]
    room.add(connection)
    try:
        async for message in connection:
            # A copy: members come and go while we wait.
            for other in tuple(room):
                if other is connection or other.closed:
                    continue
                if message.type is WSMsgType.TEXT:
                    await other.send_str(message.data)
                elif message.type is WSMsgType.BINARY:
                    await other.send_bytes(message.data)
    finally:
        room.discard(connection)
    return connection


async def start(listener: socket.socket, deflate: bool) -> None:
    """Listen, without a log of every request."""
    application = web.Application()
    application[DEFLATE] = deflate
    application.router.add_get("/{room:.*}", relay)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener, backlog=BACKLOG).start()


run(start)
