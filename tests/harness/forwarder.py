"""A TCP forwarder between a client and a server of the tests: it cuts connections, goes silent, and delays.

Must not live here: the programs at its ends (:mod:`tests.harness.live`, :mod:`tests.harness.broker`).
"""

import asyncio
import itertools
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from tests.harness.background import Background

#: Bytes forwarded at once.
_CHUNK_BYTES: Final = 2**16


class Forwarder:
    """A forwarder on a port of 127.0.0.1, chosen by the kernel. A context manager: leaving ends its connections.

    Args:
        background: its loop.
        targets: the server's port; several take turns, connection by connection. :meth:`move` changes them.

    Attributes:
        port: its own port.
        accepted: how many connections it has accepted.
        delay_seconds: added to each chunk of bytes, in each direction.
    """

    def __init__(self, background: Background, *targets: int) -> None:
        self._background = background
        self._targets = itertools.cycle(targets)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.accepted = 0
        self.delay_seconds = 0.0

    def __enter__(self) -> Self:
        """Listen."""
        self._server = self._background.run(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._background.run(self._close())

    def cut(self) -> None:
        """Reset all connections; new ones are accepted."""
        self._background.run(self._cut())

    def silence(self) -> None:
        """Forward nothing any more, in no direction, and connect to nothing: a netsplit. Connections stay open."""
        self._background.call(self._flowing.clear)

    def resume(self) -> None:
        """Forward again, from where it stopped."""
        self._background.call(self._flowing.set)

    def move(self, *targets: int) -> None:
        """Forward new connections to other ports, and reset the present ones: a failover of an address."""
        self._targets = itertools.cycle(targets)
        self.cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.accepted += 1
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # refused, reset, or cut: what its own end sees is the reset below
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flowing.wait()
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", next(self._targets))
        pumps = [
            asyncio.ensure_future(self._pump(reader, far_writer)),
            asyncio.ensure_future(self._pump(far_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            far_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            await self._flowing.wait()
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            writer.write(data)
            await writer.drain()

    async def _cut(self) -> None:
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _close(self) -> None:
        self._server.close()
        await self._cut()
        with suppress(OSError):
            await self._server.wait_closed()
