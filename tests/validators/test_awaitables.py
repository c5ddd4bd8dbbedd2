"""Tests of wsrelay.validators.awaitables."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.errors import Denied, OperatorError
from wsrelay.validators.awaitables import deferred_of, explained

from .support import turns

_user: contextvars.ContextVar[str] = contextvars.ContextVar("_user")


class Later:
    """An awaitable that is neither a coroutine nor a future."""

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return "later"


class AwaitablesTestCase(SynchronousTestCase):
    """Helpers."""

    def outcome(self, answer: Awaitable[Any], act: Callable[[], object] = lambda: None) -> Any:
        """Return the result of an answer on asyncio's loop, or its Failure.

        Args:
            answer: is awaited while the loop runs, as the reactor of asyncio does.
            act: called once all have gone as far as they can.
        """
        found: list[Any] = []

        async def scenario() -> None:
            deferred_of(answer).addBoth(found.append)
            await turns()
            act()
            await turns()

        asyncio.run(scenario())
        [only] = found
        return only

    def reason(self, answer: Awaitable[Any], act: Callable[[], object] = lambda: None) -> BaseException:
        """Return the exception of an answer on asyncio's loop."""
        failure = self.outcome(answer, act)
        self.assertIsInstance(failure, Failure)
        value: BaseException = failure.value
        return value


class LoopTests(AwaitablesTestCase):
    """Where asyncio's loop runs."""

    def test_mixed(self) -> None:
        """A coroutine awaits asyncio's awaitables and Deferreds in turn."""
        first: Deferred[str] = Deferred()

        async def answer() -> list[object]:
            future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(future.set_result, "future")
            return [await asyncio.sleep(0, "asleep"), await first, await future, await succeed("fired"), await Later()]

        self.assertEqual(
            self.outcome(answer(), lambda: first.callback("Deferred")),
            ["asleep", "Deferred", "future", "fired", "later"],
        )

    def test_task(self) -> None:
        """A coroutine runs in a Task, as asyncio's own functions demand."""

        async def answer() -> bool:
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                inner = group.create_task(asyncio.sleep(0, "inner"))
                await inner
            return asyncio.current_task() is not None

        self.assertIs(self.outcome(answer()), True)

    def test_kinds(self) -> None:
        """Futures, tasks, Deferreds and other awaitables are answers, too."""

        async def answer() -> list[object]:
            future = asyncio.get_running_loop().create_future()
            future.set_result("future")
            task = asyncio.create_task(asyncio.sleep(0, "task"))
            return [await deferred_of(each) for each in (future, task, succeed("fired"), Later())]

        self.assertEqual(self.outcome(answer()), ["future", "task", "fired", "later"])

    def test_deferred(self) -> None:
        """A Deferred is itself."""
        answer = succeed(1)
        self.assertIs(deferred_of(answer), answer)

    def test_exceptions(self) -> None:
        """Exceptions are those that were raised, by the coroutine or by what it awaits."""
        refusal, error = Denied(403, "no"), KeyError("x")

        async def answer(awaited: Awaitable[None]) -> None:
            await awaited

        async def raising(what: Exception) -> None:
            await asyncio.sleep(0)
            raise what

        failing: Deferred[None] = Deferred()
        self.assertIs(self.reason(answer(raising(refusal))), refusal)
        self.assertIs(self.reason(answer(raising(error))), error)
        self.assertIs(self.reason(answer(failing), lambda: failing.errback(refusal)), refusal)
        self.assertIs(self.reason(answer(failed := Deferred()), lambda: failed.errback(error)), error)

    def test_exception_caught(self) -> None:
        """A coroutine can catch what it awaits, and go on."""
        failing: Deferred[None] = Deferred()

        async def answer() -> str:
            try:
                await failing
            except KeyError:
                return await asyncio.sleep(0, "caught")
            return "nothing was raised"

        self.assertEqual(self.outcome(answer(), lambda: failing.errback(KeyError())), "caught")

    def test_shared_deferred(self) -> None:
        """A Deferred keeps its result while coroutines wait for it."""
        shared: Deferred[str] = Deferred()

        async def answer() -> str:
            return await shared

        async def both() -> list[str]:
            return await asyncio.gather(*(asyncio.ensure_future(_future_of(answer())) for _ in range(2)))

        self.assertEqual(self.outcome(both(), lambda: shared.callback("once")), ["once", "once"])

    def test_cancelled(self) -> None:
        """A cancelled answer cancels what its coroutine awaits; it fails with Twisted's error."""
        seen: list[object] = []
        waiting: Deferred[None] = Deferred(seen.append)

        async def watched(awaited: Awaitable[None]) -> None:
            try:
                await awaited
            except BaseException as error:
                seen.append(type(error))
                raise

        async def scenario() -> None:
            future = asyncio.get_running_loop().create_future()
            for awaited in (future, waiting, watched(asyncio.sleep(60))):
                granting = deferred_of(watched(awaited))
                await turns()
                granting.cancel()
                await turns()
                self.failureResultOf(granting, CancelledError)
            self.assertTrue(future.cancelled())

        asyncio.run(scenario())
        cancelled = asyncio.CancelledError
        self.assertEqual(seen, [cancelled, waiting, cancelled, cancelled, cancelled])

    def test_timeout(self) -> None:
        """asyncio's timeout ends the wait for a Deferred, and cancels it."""
        seen: list[object] = []
        waiting: Deferred[None] = Deferred(seen.append)

        async def answer() -> str:
            try:
                async with asyncio.timeout(0):
                    await waiting
            except TimeoutError:
                return "late"
            return "in time"

        self.assertEqual(self.outcome(answer()), "late")
        self.assertEqual(seen, [waiting])

    def test_swallowed(self) -> None:
        """A coroutine that swallows its cancellation answers, if late."""

        async def answer() -> str:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return "swallowed"
            return "slept"

        async def scenario() -> None:
            granting = deferred_of(answer())
            await turns()
            granting.cancel()
            await turns()
            self.assertEqual(self.successResultOf(granting), "swallowed")

        asyncio.run(scenario())

    def test_context(self) -> None:
        """Context variables are those of the caller, and those that it sets itself."""

        async def answer() -> list[str]:
            before = _user.get()
            _user.set("me")
            await Later()
            return [before, _user.get()]

        async def scenario() -> None:
            _user.set("caller")
            granting = deferred_of(answer())
            await turns()
            self.assertEqual((self.successResultOf(granting), _user.get()), (["caller", "me"], "caller"))

        asyncio.run(scenario())

    def test_exit(self) -> None:
        """A coroutine that exits fails; asyncio's loop, and with it the relay, goes on."""

        async def answer(kind: type[BaseException]) -> None:
            raise kind

        for kind in (SystemExit, KeyboardInterrupt):
            error = self.reason(answer(kind))
            self.assertEqual((type(error), str(error)), (RuntimeError, f"a validator raised {kind.__name__}"))

    def test_abandoned(self) -> None:
        """A coroutine that nobody awaits any more ends what it waits for."""
        seen: list[object] = []

        async def answer() -> None:
            await Deferred(seen.append)

        async def scenario() -> None:
            deferred_of(answer()).addErrback(lambda failure: failure.trap(CancelledError))
            await turns()

        asyncio.run(scenario())  # cancels all tasks
        self.assertEqual(len(seen), 1)


async def _future_of(answer: Coroutine[Any, Any, str]) -> str:
    return await deferred_of(answer).asFuture(asyncio.get_running_loop())


class NoLoopTests(SynchronousTestCase):
    """Where another reactor runs."""

    def test_deferreds(self) -> None:
        """A coroutine awaits Deferreds; their results and errors are its own."""
        waiting: Deferred[str] = Deferred()
        failing: Deferred[str] = Deferred()

        async def answer(awaited: Awaitable[str]) -> str:
            return await awaited

        granting, other = deferred_of(answer(waiting)), deferred_of(answer(failing))
        self.assertNoResult(granting)
        waiting.callback("fired")
        failing.errback(Denied(403, "no"))
        self.assertEqual(self.successResultOf(granting), "fired")
        self.assertEqual(self.failureResultOf(other, Denied).value.status, 403)

    def test_cancelled(self) -> None:
        """A cancelled answer cancels what its coroutine awaits."""
        seen: list[object] = []
        waiting: Deferred[None] = Deferred(seen.append)

        async def answer() -> None:
            await waiting

        granting = deferred_of(answer())
        granting.cancel()
        self.failureResultOf(granting, CancelledError)
        self.assertEqual(seen, [waiting])

    def explained(self, answer: Awaitable[Any]) -> Failure:
        """Return the explanation of the failure of an answer."""
        return explained(self.failureResultOf(deferred_of(answer)))

    def test_explained(self) -> None:
        """What needs the loop is named with its file and line, and what to do about it."""
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)

        async def sleeping() -> None:
            await asyncio.sleep(1)

        async def polling() -> None:
            while True:  # noqa: ASYNC110 - what a callable may do
                await asyncio.sleep(0)

        async def future() -> None:
            await loop.create_future()

        async def wrapped() -> None:
            try:
                await asyncio.sleep(1)
            except RuntimeError as error:
                raise RuntimeError("the library has failed") from error

        async def other_library() -> None:
            raise RuntimeError("unknown async library, or not in async context")

        for answer in (sleeping, polling, future, wrapped, other_library):
            failure = self.explained(answer())
            self.assertTrue(failure.check(OperatorError), answer)
            self.assertRegex(
                str(failure.value),
                rf'^{__file__}:\d+, {answer.__name__}, needs asyncio, .* "twistd --reactor=asyncio wsr',
            )

    def test_explained_without_frames(self) -> None:
        """A failure that was raised nowhere is explained, too."""
        failure = explained(Failure(RuntimeError("There is no current event loop in thread 'MainThread'.")))
        self.assertTrue(str(failure.value).startswith("a validator needs asyncio, "))

    def test_not_explained(self) -> None:
        """Other failures stay as they are, also with causes in a circle; and all where the loop runs."""
        first, second = RuntimeError("one"), ValueError("no running event loop")
        first.__context__, second.__context__ = second, first
        failure = Failure(first)
        self.assertIs(explained(failure), failure)

        async def scenario() -> None:
            failure = Failure(RuntimeError("no running event loop"))
            self.assertIs(explained(failure), failure)

        asyncio.run(scenario())
