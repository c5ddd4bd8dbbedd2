"""An asyncio loop in a thread, for the servers and clients of tests that block otherwise.

Must not live here: what runs on it (:mod:`tests.harness.forwarder`, :mod:`tests.faults.talkers`).
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.harness.live import SECONDS

Result = TypeVar("Result")


class Background:
    """The loop. A context manager: leaving stops it, after what runs on it was closed by its owners.

    Attributes:
        loop: the loop; only its ``call_soon_threadsafe`` may be called from other threads.
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self.loop.shutdown_asyncgens())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(SECONDS)
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine on the loop, and return its result.

        Raises:
            TimeoutError: it took too long, and was cancelled.
        """
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result(SECONDS)
        except TimeoutError:
            future.cancel()
            raise

    def call(self, function: Callable[[], Result]) -> Result:
        """Call a function on the loop, and return its result."""

        async def called() -> Result:
            return function()

        return self.run(called())
