"""Routes: from a request of twisted.web to the view that answers it, and back. No view is here.

A view takes what is :class:`Asked` and what its path has in it, and returns an :class:`Answer`, at once or by a
Deferred; what it raises becomes one, too.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from wsrelay.admin.gate import SAFE_FIELDS
from wsrelay.errors import Denied
from wsrelay.logs.failures import log_failure

__all__ = ["Answer", "Asked", "Route", "Routes", "as_json"]

#: What a page may load unless it says otherwise: nothing.
NOTHING: Final = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a view may look at.

    Attributes:
        query: parameter → value.
        accept: the ``Accept`` field.
    """

    query: Mapping[str, str]
    accept: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered.

    Attributes:
        body: the body.
        content_type: what it is.
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


class Routes(Resource):
    """Everything that is served.

    Args:
        routes: in the order in which they are looked at. HEAD is GET.
    """

    isLeaf = True

    def __init__(self, routes: Sequence[Route]) -> None:
        super().__init__()
        self._routes = [(re.compile(path), views) for path, views in routes]

    def render(self, request: Any) -> int:
        """Answer a request. See :meth:`twisted.web.resource.Resource.render`."""
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)
        answering: Deferred[Any] = maybeDeferred(self._answer, request)
        answering.addErrback(_answer_to_failure)
        answering.addCallback(_send, request, gone)
        return NOT_DONE_YET

    def _answer(self, request: Any) -> "Answer | Deferred[Answer]":
        path = request.path.decode("ascii")
        for pattern, views in self._routes:
            if match := pattern.fullmatch(path):
                method = "GET" if request.method == b"HEAD" else request.method.decode("ascii")
                if method not in views:
                    raise Denied(405, f"the method must be {' or '.join(views)}", [("Allow", _allow(views))])
                asked = Asked(_query(request.args), request.getHeader("Accept") or "")
                return views[method](asked, *match.groups())
        raise Denied(404, "there is nothing here; what there is: / /healthz /readyz /metrics /rooms /connections")


def _allow(views: Mapping[str, object]) -> str:
    return ", ".join([*views, "HEAD"] if "GET" in views else views)


def _query(arguments: Mapping[bytes, list[bytes]]) -> Mapping[str, str]:
    query = {}
    for name, values in arguments.items():  # the gate has seen to it that they are UTF-8
        if len(values) > 1:
            raise Denied(400, "a parameter comes more than once")
        query[name.decode()] = values[0].decode()
    return query


def _answer_to_failure(failure: Failure) -> Answer:
    if failure.check(Denied):
        denied: Any = failure.value
        return as_json({"error": denied.reason}, denied.status, denied.headers)
    return as_json({"error": f"internal error: {log_failure('the admin endpoint failed', failure)}"}, 500)


def _send(answer: Answer, request: Any, gone: Sequence[Failure]) -> None:
    if gone:  # the client, meanwhile
        return
    request.setResponseCode(answer.status)
    fields = {
        **dict(SAFE_FIELDS),
        "Server": "wsrelay",
        "Content-Security-Policy": answer.policy,
        "Content-Type": answer.content_type,
        **dict(answer.headers),
    }
    if answer.status != 204:  # RFC 9110 section 8.6
        fields["Content-Length"] = str(len(answer.body))
    for name, value in fields.items():
        request.setHeader(name, value)
    request.write(answer.body)
    request.finish()
