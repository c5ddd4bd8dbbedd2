"""What the peers on asyncio share: their command line, their socket, and who is in which room."""

import argparse
import asyncio
import socket
import ssl
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

#: Room → its members.
Rooms = defaultdict[str, set[Any]]

#: As many connections may wait to be accepted as with the relay.
BACKLOG = 1024


def context(files: list[str] | None) -> ssl.SSLContext | None:
    """Make the TLS context of a server from its certificate and key; None without them."""
    if files is None:
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*files)
    return made


def run(serve: Callable[..., Coroutine[Any, Any, None]]) -> None:
    """Run a relay on uvloop, which the authors of all of these libraries recommend, until it is stopped.

    Args:
        serve: gets a bound socket, whether to compress, and with ``--tls`` a context; returns when it listens.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--deflate", action="store_true")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
    options = parser.parse_args()
    tls = context(options.tls)
    uvloop.run(_run(serve, options.deflate, *([tls] if tls else [])))


async def _run(serve: Callable[..., Coroutine[Any, Any, None]], *arguments: object) -> None:
    """Listen on a port of the kernel's choice, say so, and serve for ever."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    await serve(listener, *arguments)
    print("listening on", listener.getsockname()[1], flush=True)
    await asyncio.Event().wait()
