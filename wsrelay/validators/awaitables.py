"""Awaitables: answers of validators that come later, of Twisted and of asyncio, also mixed in one coroutine.

Where asyncio's loop runs, which is where Twisted's asyncio reactor does, an awaitable is run by a Task of that loop, so
that all of asyncio works in it. Elsewhere Twisted's Deferreds work, and what needs the loop is told from other failures
(:func:`explained`). Must not live here: the order of validators, and what the peer is told
(:mod:`wsrelay.validators.chain`).
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from functools import partial
from pathlib import Path
from types import coroutine
from typing import Any, Final, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

import twisted
import wsrelay
from wsrelay.errors import OperatorError

__all__ = ["deferred_of", "explained"]

_T = TypeVar("_T")

#: What a coroutine waits for. Any: only Deferreds and futures are told apart.
_Steps = Generator[Any, Any, Any]

#: What asyncio (3.11 to 3.14), sniffio and anyio say without a loop.
_NO_LOOP: Final = re.compile(
    "no (running|current) event loop|unknown async library|not currently running on any asynchronous event loop",
    re.IGNORECASE,
)

_ADVICE: Final = (
    'needs asyncio, and Twisted runs another reactor: start the relay with "twistd --reactor=asyncio wsrelay",'
    " which takes more CPU per message than the relay's own reactor, or await Deferreds"
)

#: The folders of ours and of Twisted, whose frames are not the operator's.
_INFRASTRUCTURE: Final = tuple(Path(package.__path__[0]) for package in (wsrelay, twisted))


def deferred_of(answer: Awaitable[_T]) -> "Deferred[_T]":
    """Return a Deferred with the result of an awaitable.

    Args:
        answer: a Deferred, which is returned; else a coroutine, an asyncio Future or Task, or anything that can be
            awaited.

    Returns:
        It fails as the awaitable does. When it is cancelled, so is what is awaited: a coroutine gets asyncio's
        ``CancelledError`` from a Task, else that of Twisted. The Deferred fails with that of Twisted, in a later
        turn where there is a Task, and a coroutine can swallow both (TRAPS 54).
    """
    if isinstance(answer, Deferred):
        return answer
    loop = _running_loop()
    if loop is None:
        return Deferred.fromCoroutine(_driven(answer, _without_loop))
    task = loop.create_task(_driven(answer, partial(_in_task, loop)))
    return Deferred.fromFuture(task).addErrback(_cancelled_for_twisted)


def explained(failure: Failure) -> Failure:
    """Return what the operator can do about a failure for want of asyncio's loop; any other one as it is."""
    if _running_loop() is not None or not any(_wants_loop(error) for error in _causes(failure.value)):
        return failure
    return Failure(OperatorError(f"{_where(failure)} {_ADVICE}"))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def _driven(answer: Awaitable[_T], wait_for: Callable[[Any], _Steps]) -> _T:
    """Await an answer; ``wait_for`` says how to wait for each thing that it waits for."""
    found: _T = await _steps_of(_awaiting(answer), wait_for)
    return found


async def _awaiting(answer: Awaitable[_T]) -> _T:
    return await answer


@coroutine
def _steps_of(steps: Coroutine[Any, Any, _T], wait_for: Callable[[Any], _Steps]) -> Generator[Any, Any, _T]:
    """Run a coroutine from one wait to the next."""
    go_on: Callable[[Any], Any] = steps.send
    outcome: object = None
    while True:
        try:
            waited = go_on(outcome)
        except StopIteration as end:
            result: _T = end.value
            return result
        except (SystemExit, KeyboardInterrupt) as error:
            # From a Task these would end the process.
            raise RuntimeError(f"a validator raised {type(error).__name__}") from error
        try:
            outcome = yield from wait_for(waited)
            go_on = steps.send
        except BaseException as error:  # noqa: BLE001 - a cancellation, too, is for the coroutine
            go_on, outcome = steps.throw, error


def _in_task(loop: asyncio.AbstractEventLoop, waited: object) -> _Steps:
    """Wait in a Task: for Deferreds as for futures of the loop.

    Not by ``Deferred.asFuture``: it takes the result out of the Deferred, where the coroutine looks for it (TRAPS 161).
    """
    if not isinstance(waited, Deferred):
        return (yield waited)
    fired = loop.create_future()

    def passed_on(result: object) -> object:
        if not fired.done():
            fired.set_result(None)
        return result

    waited.addBoth(passed_on)
    try:
        yield from fired
    except BaseException:  # the Task is cancelled
        waited.addErrback(lambda _: None)
        waited.cancel()
        raise


def _without_loop(waited: object) -> _Steps:
    """Wait as ``Deferred.fromCoroutine`` does, for Deferreds alone.

    It would never go on behind a future of asyncio; and at once behind the bare yield of ``asyncio.sleep(0)``, so that
    a loop with one would never let the reactor go on.
    """
    if not isinstance(waited, Deferred):
        raise RuntimeError("no running event loop: asyncio is awaited")
    return (yield waited)


def _cancelled_for_twisted(failure: Failure) -> Failure:
    return Failure(CancelledError()) if failure.check(asyncio.CancelledError) else failure


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, and what it says was its cause: one that was handled before it tells nothing."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def _wants_loop(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and _NO_LOOP.search(str(error)) is not None


def _where(failure: Failure) -> str:
    """Return the line of the callable itself: the outermost frame that is neither ours nor Twisted's."""
    for name, file, line, *_ in failure.frames:
        if not any(Path(file).is_relative_to(folder) for folder in _INFRASTRUCTURE):
            return f"{file}:{line}, {name},"
    return "a validator"
