"""Survey: what the stream of a broker has of what this node knows, asked before a pair of connections is used.

A broker may have been restarted, replaced or emptied, with or without a new run id, and its clock may be behind: only
the entries themselves tell. Must not live here: what follows (:mod:`wsrelay.backplane.shard`).
"""

from collections.abc import Callable
from typing import Final, NamedTuple, cast

from wsrelay.backplane.entry import Id
from wsrelay.backplane.redis_errors import RedisError
from wsrelay.backplane.redis_protocol import Argument, RedisProtocol, Reply

__all__ = ["START", "Survey", "take_survey"]

#: Before the first entry.
START: Final = Id(0, 0)
_ZERO: Final = b"0-0"


class Survey(NamedTuple):
    """What was found. An id alone proves nothing: a broker that lost an entry may give its id to another one.

    Attributes:
        newest: the fields of the entry at the id of our newest acknowledged one; empty: there is none.
        cursor: the fields of the entry at our cursor; empty: there is none.
        last: the last id of the stream.
        first: its first id.
    """

    newest: list[bytes]
    cursor: list[bytes]
    last: Id
    first: Id = START


def take_survey(
    connection: RedisProtocol,
    key: str,
    newest: Id,
    cursor: Id,
    done: Callable[[Survey], None],
    failed: Callable[[RedisError], None],
) -> None:
    """Ask for the entries at two ids, and for the last one.

    Args:
        connection: one that reads nothing else.
        key: of the stream.
        newest: the id of our newest acknowledged entry.
        cursor: the id of the last entry that was read.
        done: gets the answer.
        failed: gets an error reply instead; it is to abort the connection.
    """
    commands: list[tuple[Argument, ...]] = [
        # Trims nothing, but shows that trimming is allowed; else the state would change with each trim.
        ("XTRIM", key, "MINID", "~", str(START)),
        ("XRANGE", key, str(newest), str(newest)),
        ("XRANGE", key, str(cursor), str(cursor)),
        ("XREVRANGE", key, "+", "-", "COUNT", 1),
        ("XRANGE", key, "-", "+", "COUNT", 1),
    ]
    replies: list[Reply] = []

    def took(reply: Reply) -> None:
        if isinstance(reply, RedisError):
            failed(reply)
            return
        replies.append(reply)
        if len(replies) == len(commands):
            newest, there, (last, _), (first, _) = map(_entry, replies[1:])
            done(Survey(newest[1], there[1], Id.parse(last or _ZERO), Id.parse(first or _ZERO)))

    for command in commands:
        connection.command(took, *command)


def _entry(reply: Reply) -> tuple[bytes, list[bytes]]:
    found = cast("list[tuple[bytes, list[bytes]]]", reply)
    return found[0] if found else (b"", [])
