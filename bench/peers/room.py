"""What the peers on asyncio share: their command line, their socket, and who is in which room."""

import argparse
import asyncio
import socket
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

#: Room → its members.
Rooms = defaultdict[str, set[Any]]

#: As many connections may wait to be accepted as with the relay.
BACKLOG = 1024


def run(serve: Callable[[socket.socket, bool], Coroutine[Any, Any, None]]) -> None:
    """Run a relay on uvloop, which the authors of all of these libraries recommend, until it is stopped.

    Args:
        serve: gets a bound socket and whether to compress; returns when it listens.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--deflate", action="store_true")
    options = parser.parse_args()
    uvloop.run(_run(serve, options.deflate))


async def _run(serve: Callable[[socket.socket, bool], Coroutine[Any, Any, None]], deflate: bool) -> None:
    """Listen on a port of the kernel's choice, say so, and serve for ever."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    await serve(listener, deflate)
    print("listening on", listener.getsockname()[1], flush=True)
    await asyncio.Event().wait()
