"""Coroutines that run beside each other.

Must not live here: what they do.
"""

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

__all__ = ["beside"]

_T = TypeVar("_T")


async def beside(work: Coroutine[Any, Any, _T], *others: Coroutine[Any, Any, object]) -> _T:
    """Run others until the work is done; what they return or raise is forgotten."""
    running = [Deferred.fromCoroutine(other) for other in others]
    for each in running:
        each.addErrback(lambda _failure: None)
    try:
        return await Deferred.fromCoroutine(work)
    finally:
        for each in running:
            each.cancel()
