"""Routes: from a request to the view of its path, and back. No view is here.

A view takes an :class:`Asked` and the groups of its path, and returns an :class:`Answer`, at once or by a Deferred. Its
exceptions become answers, too.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from wsrelay.errors import Denied
from wsrelay.http.exchange import Exchange
from wsrelay.http.responses import PRIVATE_FIELDS, content_policy
from wsrelay.logs.failures import log_failure
from wsrelay.request import HandshakeRequest

__all__ = ["Answer", "Asked", "Route", "Routes", "as_json"]

#: The Content-Security-Policy of answers that are no page.
NOTHING: Final = content_policy()


@dataclass(frozen=True, slots=True)
class Asked:
    """The part of a request that views see.

    Attributes:
        query: parameter → its values; parsed, and refused if malformed, when it is first read.
        accept: the ``Accept`` field, or "".
    """

    query: Mapping[str, Sequence[str]]
    accept: str

    def parameters(self) -> Mapping[str, str]:
        """Return the one value of each parameter.

        Raises:
            Denied: 400, a parameter comes more than once, or the query is malformed.
        """
        if any(len(values) > 1 for values in self.query.values()):
            raise Denied(400, "a parameter comes more than once")
        return {name: values[0] for name, values in self.query.items()}


@dataclass(frozen=True, slots=True)
class Answer:
    """A response to be.

    Attributes:
        body: the body.
        content_type: its media type.
        status: the HTTP status.
        headers: more fields.
        policy: the Content-Security-Policy.
    """

    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    policy: str = NOTHING


def as_json(value: object, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> Answer:
    """Return an answer in JSON."""
    return Answer(msgspec.json.encode(value) + b"\n", "application/json", status, headers)


#: Path, as a regular expression → method → view.
Route = tuple[str, Mapping[str, Callable[..., "Answer | Deferred[Answer]"]]]


class Routes:
    """The table of paths and views.

    Args:
        routes: the first match wins. HEAD is GET.
        log: logs an unexpected exception, and returns its incident id.
    """

    def __init__(self, routes: Sequence[Route], log: Callable[[str, Failure], str] = log_failure) -> None:
        self._log_failure = log
        self._routes = [(re.compile(path, re.ASCII), views) for path, views in routes]

    def answer(self, exchange: Exchange) -> None:
        """Answer a request. See :class:`wsrelay.http.exchange.Exchange`."""
        answering: Deferred[Answer] = succeed(exchange.request).addCallback(self._view)
        answering.addErrback(self._answer_to_failure)
        answering.addCallback(_respond, exchange)
        answering.addErrback(exchange.connection.fail)

    def _view(self, request: HandshakeRequest) -> "Answer | Deferred[Answer]":
        """Call the view of a request."""
        for pattern, views in self._routes:
            if match := pattern.fullmatch(request.path):
                method = "GET" if request.method == "HEAD" else request.method
                if method not in views:
                    raise Denied(405, f"the method must be {' or '.join(views)}", [("Allow", _allow(views))])
                asked = Asked(request.query, request.headers.get("accept", ""))
                return views[method](asked, *match.groups())
        raise Denied(404, "there is nothing here; what there is: / /healthz /readyz /metrics /rooms /connections")

    def _answer_to_failure(self, failure: Failure) -> Answer:
        denied = failure.value
        if isinstance(denied, Denied):
            return as_json({"error": denied.reason}, denied.status, denied.headers)
        incident = self._log_failure("the admin endpoint failed", failure)
        return as_json({"error": f"internal error: {incident}"}, 500)


def _allow(views: Mapping[str, object]) -> str:
    return ", ".join([*views, "HEAD"] if "GET" in views else views)


def _respond(answer: Answer, exchange: Exchange) -> None:
    fields = (
        *PRIVATE_FIELDS,
        ("Server", "wsrelay"),
        ("Content-Security-Policy", answer.policy),
        ("Content-Type", answer.content_type),
        *answer.headers,
    )
    exchange.respond(answer.status, fields, answer.body)
