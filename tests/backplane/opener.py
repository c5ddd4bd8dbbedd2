"""Opens a pair of connections and prints what came of it, as a line of JSON: ``opener.py URL [PASSWORD_FILE]``.

Other lines are Twisted's log. Fields: ``where``, ``warnings`` and ``clients`` (CLIENT LIST), or ``reason``,
``text`` and ``traceback`` with all variables.
"""

import json
import sys

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import react
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.python.failure import Failure

from wsrelay.backplane.redis_errors import NoBroker
from wsrelay.backplane.redis_link import check, open_pair
from wsrelay.backplane.redis_protocol import Reply
from wsrelay.backplane.url import parse, password


async def outcome(reactor: object, url: str, *password_file: str) -> dict[str, object]:
    """Open and close a pair."""
    address = parse(url)
    check(address)
    secret = password(password_file[0]) if password_file else None
    try:
        pair = await open_pair(reactor, address, secret, "node", 0)
    except NoBroker as problem:
        traceback = Failure(captureVars=True).getTraceback(detail="verbose")
        return {"reason": problem.reason, "text": problem.text, "traceback": traceback}
    listed: Deferred[Reply] = Deferred()
    pair.writer.command(listed.callback, "CLIENT", "LIST")
    clients = await listed
    pair.abort()
    return {"where": pair.where, "warnings": pair.warnings, "clients": str(clients)}


async def main(reactor: object, *arguments: str) -> None:
    """Print the outcome."""
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)
    print(json.dumps(await outcome(reactor, *arguments)), flush=True)  # noqa: T201 - its reader is a test


if __name__ == "__main__":
    react(lambda reactor, *arguments: ensureDeferred(main(reactor, *arguments)), sys.argv[1:])
