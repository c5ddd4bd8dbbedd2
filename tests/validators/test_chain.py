"""Tests of wsrelay.validators.chain."""

import asyncio
from collections.abc import Awaitable
from traceback import extract_tb
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import LogLevel

from tests.harness import support
from tests.harness.support import Answer, RelayTestCase, request_bytes
from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.http.head import parse_request
from wsrelay.validators.chain import ValidatorChain
from wsrelay.validators.origin import OriginValidator

from .support import turns


class ChainTests(RelayTestCase):
    """The validator chain."""

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
        """Without validators the grant has the room of the path."""
        self.assertEqual(self.successResultOf(self.grant()), Grant("chat/42"))

    def test_synchronous(self) -> None:
        """Synchronous validators give no Deferred; a refusal is raised."""
        self.assertEqual(ValidatorChain([Answer(lambda _, grant: grant)]).grant(self.request), Grant("chat/42"))
        self.assertRaises(Denied, ValidatorChain([Answer(Denied(403, "no"))]).grant, self.request)

    def test_order(self) -> None:
        """Each validator gets the request and the grant so far; the last grant counts."""
        granting = self.grant(
            lambda request, grant: grant.narrowed(identity=request.room),
            lambda request, grant: grant.narrowed(identity=grant.identity + "!", subprotocol="b"),
        )

        self.assertEqual(self.successResultOf(granting), Grant("chat/42", "chat/42!", "b"))
        self.assertEqual([validator.requests for validator in self.validators], [[self.request], [self.request]])

    def test_denied(self) -> None:
        """A refusal is passed on, and later validators are not asked."""
        refusal = Denied(418, "teapot", [("X-A", "b")])
        granting = self.grant(refusal, Grant("x"))

        self.assertIs(self.denied(granting), refusal)
        self.assertEqual(self.validators[1].requests, [])

    def test_same_refusal(self) -> None:
        """A refusal that is raised again and again does not grow."""
        refusal = Denied(403, "no")

        async def later(*_: object) -> Grant:
            raise refusal

        for answer in (refusal, later):
            chain, frames = ValidatorChain([Answer(answer)]), []
            for _ in range(3):
                self.failureResultOf(maybeDeferred(chain.grant, self.request), Denied)
                frames.append(len(extract_tb(refusal.__traceback__)))
            self.assertEqual(frames, frames[:1] * 3)

    def test_asynchronous(self) -> None:
        """Deferreds and coroutines are awaited."""
        answer: Deferred[Grant] = Deferred()

        async def validate(request: Any, grant: Grant) -> Grant:
            granted = await answer
            return granted.narrowed(identity="me")

        granting = self.grant(validate, lambda request, grant: Deferred.fromCoroutine(validate(request, grant)))
        self.assertNoResult(granting)
        answer.callback(Grant("late"))

        self.assertEqual(self.successResultOf(granting), Grant("late", "me"))

    def test_denied_asynchronously(self) -> None:
        """A refusal may come asynchronously."""
        answer: Deferred[Grant] = Deferred()
        granting = self.grant(answer)
        answer.errback(Denied(403, "no"))

        self.assertEqual(self.denied(granting).status, 403)

    def test_denied_cause(self) -> None:
        """The default cause of a refusal is the validator's name, synchronous or not."""
        for answer in (Denied(403, "no"), Deferred()):
            granting = self.grant(answer)
            if isinstance(answer, Deferred):
                answer.errback(Denied(403, "no"))
            self.assertEqual(self.denied(granting).cause, "answer")
        self.assertEqual(self.denied(self.grant(Denied(403, "no", cause="banned"))).cause, "banned")

    def test_fails_closed(self) -> None:
        """An exception or an invalid answer is refused with 500 and a fixed text."""
        for answer in (RuntimeError("secret\r\nX: y"), None, True, "chat/42", {"room": "x"}):
            self.assert_fails_closed(answer)

    def test_fails_closed_asynchronously(self) -> None:
        """The same for asynchronous answers."""
        for result in (RuntimeError("secret"), None, 3):
            answer: Deferred[Any] = Deferred()
            (answer.errback if isinstance(result, Exception) else answer.callback)(result)
            self.assert_fails_closed(answer)

    def test_invalid_grants(self) -> None:
        """A subprotocol that was not offered (TRAPS 13) and an invalid room are refused with 500."""
        for grant in (Grant("x", subprotocol="c"), Grant(""), Grant("a/../b"), Grant("a\x00")):
            self.assert_fails_closed(grant)

    def test_invalid_identities(self) -> None:
        """An identity that cannot be JSON, or is too long, is refused with 500."""
        for identity in ("\ud800", "x" * 256):
            self.assert_fails_closed(Grant("x", identity))

    def test_grants_of_wrong_types(self) -> None:
        """Fields of a wrong type, and an infinite expiry, are refused with 500."""
        for fields in (
            {"expires_at": "soon"},
            {"expires_at": float("nan")},
            {"expires_at": float("inf")},
            {"identity": {"name": "me"}},
            {"can_publish": "no"},
            {"can_subscribe": None},
            {"room": None},
            {"subprotocol": 1},
            {"history": "some"},
            {"history": None},
        ):
            self.assert_fails_closed(Grant(**{"room": "x", **fields}))

    def test_cancellation(self) -> None:
        """Cancelling the chain cancels the pending validator, without a log line."""
        cancelled: list[Deferred[Grant]] = []
        granting = self.grant(Deferred(cancelled.append))
        granting.cancel()

        self.assertEqual(len(cancelled), 1)
        self.assertEqual(self.denied(granting).status, 503)
        self.assertEqual(self.logged(LogLevel.critical), [])

    def test_asyncio(self) -> None:
        """On asyncio's loop a coroutine awaits asyncio; its refusal and its failure are told as any other."""

        async def allow(request: Any, grant: Grant) -> Grant:
            return await asyncio.sleep(0, grant.narrowed(identity="me"))

        async def deny(request: Any, grant: Grant) -> Grant:
            raise await asyncio.sleep(0, Denied(403, "no"))

        async def fail(request: Any, grant: Grant) -> Any:
            return await asyncio.sleep(0)

        async def scenario() -> None:
            allowed, denied, failed = self.grant(allow, allow), self.grant(deny), self.grant(fail)
            await turns()
            self.assertEqual(self.successResultOf(allowed), Grant("chat/42", "me"))
            self.assertEqual((self.denied(denied).status, self.denied(failed).status), (403, 500))

        asyncio.run(scenario())
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_asyncio_cancelled(self) -> None:
        """A cancelled chain is a client that has gone, without a log line."""

        async def scenario() -> None:
            granting = self.grant(lambda request, grant: asyncio.sleep(60))
            await asyncio.sleep(0)
            granting.cancel()
            await turns()
            self.assertEqual(self.denied(granting).cause, "gone")

        asyncio.run(scenario())
        self.assertEqual(self.logged(LogLevel.critical), [])

    def test_asyncio_needed(self) -> None:
        """Elsewhere the operator is told once what to do, in one line without a traceback; clients get its id."""

        async def validate(request: Any, grant: Grant) -> Grant:
            return await asyncio.sleep(1, grant)

        def start(request: Any, grant: Grant) -> Any:
            return asyncio.get_running_loop().create_future()

        chain = ValidatorChain([Answer(validate)])
        reasons = {self.denied(maybeDeferred(chain.grant, self.request)).reason for _ in range(3)}
        reasons.add(self.denied(maybeDeferred(ValidatorChain([Answer(start)]).grant, self.request)).reason)
        first, second = self.logged(LogLevel.critical)
        for line, file in ((first, __file__), (second, support.__file__)):
            self.assertRegex(
                line, rf"^a handshake validator failed \[[0-9a-f]{{8}}\]: {file}:\d+, validate, needs asyncio, [^\n]*$"
            )
        self.assertEqual(
            reasons, {f"the handshake could not be validated: {line.partition('[')[2][:8]}" for line in (first, second)}
        )

    def test_awaitables(self) -> None:
        """Any awaitable is accepted."""

        class Later:
            def __await__(self) -> Any:
                yield from ()
                return Grant("x")

        later: Awaitable[Grant] = Later()
        self.assertEqual(self.successResultOf(self.grant(later)), Grant("x"))


class OriginTests(RelayTestCase):
    """The origin check without the other validators."""

    def chain(self, *arguments: str) -> ValidatorChain:
        self.other = Answer(Denied(401, "no"))
        return ValidatorChain([self.other, *map(OriginValidator.from_arguments, arguments)])

    def request(self, origin: str | None) -> Any:
        return parse_request(request_bytes(fields={"Origin": origin})[:-4], None)

    def test_check_origin(self) -> None:
        """Only origin validators are asked; a refusal names them as its cause."""
        chain = self.chain("https://app.example")
        chain.check_origin(self.request("https://app.example"))
        denied = self.assertRaises(Denied, chain.check_origin, self.request("https://evil.example"))

        self.assertEqual((denied.status, denied.cause, self.other.requests), (403, "origin", []))

    def test_check_origin_of_programs(self) -> None:
        """A program is not asked for its origin, a browser without one is."""
        chain = self.chain("https://app.example")
        chain.check_origin(self.request(None))
        browser = parse_request(request_bytes(fields={"Sec-Fetch-Site": "cross-site"})[:-4], None)
        self.assertRaises(Denied, chain.check_origin, browser)

    def test_shared_with(self) -> None:
        """A named origin is itself, any origin is "*", another one and a missing one are None."""
        for arguments, origin, shared in (
            (("https://app.example",), "https://app.example", "https://app.example"),
            (("https://app.example",), "https://app.example.evil.example", None),
            (("https://app.example,none",), None, None),
            (("same-host",), "http://relay.example:81", "http://relay.example:81"),
            (("null",), "null", "null"),
            (("*",), "https://app.example", "*"),
            (("*",), "unnamed://origin.invalid", "*"),
            (("*",), None, None),
            (("*", "https://app.example"), "https://app.example", "https://app.example"),
            (("*", "https://app.example"), "https://evil.example", None),
            ((), "https://app.example", "*"),
        ):
            self.assertEqual(self.chain(*arguments).shared_with(self.request(origin)), shared, (arguments, origin))
