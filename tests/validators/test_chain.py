"""Tests of wsrelay.validators.chain: the validator chain and the response to a refused handshake."""

from collections.abc import Awaitable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import LogLevel

from tests.harness.support import Answer, RelayTestCase, request_bytes
from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.http.head import parse_request
from wsrelay.validators.chain import ValidatorChain


class ChainTests(RelayTestCase):
    """Asking validators."""

    def setUp(self) -> None:
        super().setUp()
        self.request = parse_request(request_bytes("/chat/42", {"Sec-WebSocket-Protocol": "a, b"})[:-4], None)

    def grant(self, *answers: Any) -> Deferred[Grant]:
        self.validators = [Answer(answer) for answer in answers]
        return maybeDeferred(ValidatorChain(self.validators).grant, self.request)

    def denied(self, granting: Deferred[Grant]) -> Denied:
        denied = self.failureResultOf(granting, Denied).value
        assert isinstance(denied, Denied)
        return denied

    def assert_fails_closed(self, answer: Any, text: str = "the handshake could not be validated") -> None:
        denied = self.denied(self.grant(answer))
        [line] = self.logged(LogLevel.critical)
        incident = line[-9:-1]
        self.assertEqual((denied.status, denied.reason), (500, f"{text}: {incident}"))
        self.events.clear()
        self.flushLoggedErrors()

    def test_no_validators(self) -> None:
        """Nobody asked, nobody refuses: the room that the path names."""
        self.assertEqual(self.successResultOf(self.grant()), Grant("chat/42"))

    def test_at_once(self) -> None:
        """Where no validator has to be waited for, the answer is no Deferred, and a refusal is raised."""
        self.assertEqual(ValidatorChain([Answer(lambda _, grant: grant)]).grant(self.request), Grant("chat/42"))
        self.assertRaises(Denied, ValidatorChain([Answer(Denied(403, "no"))]).grant, self.request)

    def test_in_order(self) -> None:
        """Each validator gets the request and what those before it granted; the last word holds."""
        granting = self.grant(
            lambda request, grant: grant.narrowed(identity=request.room),
            lambda request, grant: grant.narrowed(identity=grant.identity + "!", subprotocol="b"),
        )

        self.assertEqual(self.successResultOf(granting), Grant("chat/42", "chat/42!", "b"))
        self.assertEqual([validator.requests for validator in self.validators], [[self.request], [self.request]])

    def test_denied(self) -> None:
        """A refusal goes through as it is, and nobody behind it is asked."""
        refusal = Denied(418, "teapot", [("X-A", "b")])
        granting = self.grant(refusal, Grant("x"))

        self.assertIs(self.denied(granting), refusal)
        self.assertEqual(self.validators[1].requests, [])

    def test_later(self) -> None:
        """Deferreds and coroutines are waited for."""
        answer: Deferred[Grant] = Deferred()

        async def validate(request: Any, grant: Grant) -> Grant:
            granted = await answer
            return granted.narrowed(identity="me")

        granting = self.grant(validate, lambda request, grant: Deferred.fromCoroutine(validate(request, grant)))
        self.assertNoResult(granting)
        answer.callback(Grant("late"))

        self.assertEqual(self.successResultOf(granting), Grant("late", "me"))

    def test_denied_later(self) -> None:
        """A refusal may come late, too."""
        answer: Deferred[Grant] = Deferred()
        granting = self.grant(answer)
        answer.errback(Denied(403, "no"))

        self.assertEqual(self.denied(granting).status, 403)

    def test_causes(self) -> None:
        """A refusal is counted under the name of the validator, at once or later, unless it says a cause of its own."""
        for answer in (Denied(403, "no"), Deferred()):
            granting = self.grant(answer)
            if isinstance(answer, Deferred):
                answer.errback(Denied(403, "no"))
            self.assertEqual(self.denied(granting).cause, "answer")
        self.assertEqual(self.denied(self.grant(Denied(403, "no", cause="banned"))).cause, "banned")

    def test_fails_closed(self) -> None:
        """An exception, and any answer that is no grant, refuses with 500 and a text that says nothing."""
        for answer in (RuntimeError("secret\r\nX: y"), None, True, "chat/42", {"room": "x"}):
            self.assert_fails_closed(answer)

    def test_fails_closed_later(self) -> None:
        """The same for answers that come later."""
        for result in (RuntimeError("secret"), None, 3):
            answer: Deferred[Any] = Deferred()
            (answer.errback if isinstance(result, Exception) else answer.callback)(result)
            self.assert_fails_closed(answer)

    def test_grants_that_cannot_hold(self) -> None:
        """A subprotocol that was not offered (TRAPS 13) and a room that is none refuse with 500."""
        for grant in (Grant("x", subprotocol="c"), Grant(""), Grant("a/../b"), Grant("a\x00")):
            self.assert_fails_closed(grant)

    def test_grants_of_nonsense(self) -> None:
        """A grant whose fields have the wrong type, or whose expiry is no time, refuses with 500."""
        for fields in (
            {"expires_at": "soon"},
            {"expires_at": float("nan")},
            {"expires_at": float("inf")},
            {"identity": {"name": "me"}},
            {"can_publish": "no"},
            {"can_subscribe": None},
            {"room": None},
            {"subprotocol": 1},
        ):
            self.assert_fails_closed(Grant(**{"room": "x", **fields}))

    def test_cancelling(self) -> None:
        """Cancelling the chain cancels the validator it waits for, without a word in the log."""
        cancelled: list[Deferred[Grant]] = []
        granting = self.grant(Deferred(cancelled.append))
        granting.cancel()

        self.assertEqual(len(cancelled), 1)
        self.assertEqual(self.denied(granting).status, 503)
        self.assertEqual(self.logged(LogLevel.critical), [])

    def test_awaitables_of_any_kind(self) -> None:
        """Anything that can be awaited will do."""

        class Later:
            def __await__(self) -> Any:
                yield from ()
                return Grant("x")

        later: Awaitable[Grant] = Later()
        self.assertEqual(self.successResultOf(self.grant(later)), Grant("x"))
