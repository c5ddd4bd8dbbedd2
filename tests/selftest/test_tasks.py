"""Coroutines beside each other."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.selftest.tasks import beside


async def _wait(deferred: "Deferred[str]") -> str:
    return await deferred


class TasksTests(SynchronousTestCase):
    """Work and what runs beside it."""

    def test_beside(self) -> None:
        """The others end with the work; their failures do not matter."""
        work, other, failed = Deferred(), Deferred(), Deferred()  # type: ignore[var-annotated]
        running = Deferred.fromCoroutine(beside(_wait(work), _wait(other), _wait(failed)))
        failed.errback(ValueError())
        self.assertNoResult(running)
        work.callback("done")
        self.assertEqual(self.successResultOf(running), "done")
        self.assertTrue(other.called)

    def test_failure(self) -> None:
        """A failure of the work ends the others as well."""
        work, other = Deferred(), Deferred()  # type: ignore[var-annotated]
        running = Deferred.fromCoroutine(beside(_wait(work), _wait(other)))
        work.errback(ValueError())
        self.failureResultOf(running, ValueError)
        self.assertTrue(other.called)
