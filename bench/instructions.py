"""Do the guard's work, and count the instructions of the relay: run by `guard.py` under callgrind.

Usage: ``instructions.py [--library FILE] [ROW…]``. The library is the compiled `callgrind.c`. Prints a line of JSON
each time that a row is done: how many messages, or handshakes, were counted, in how many turns. The instructions are in
callgrind's files, which have the names of the rows. Without the library, or without valgrind, all of it is done and
checked, and nothing counted.

What makes the figures repeatable, beside the lockstep: each row is done by a process of its own, forked from this one
when all is imported, so that no row changes the figures of another one. It is warmed up first, since the interpreter
specialises what it has run several times. Garbage collection stays on, because what a message leaves for it is part of
its cost; but it starts from the same state, just collected. The seed of hashes has to be fixed by the caller.
"""

import argparse
import ctypes
import gc
import json
import os
import sys
import traceback
from typing import Any, Final

import lockstep
import work
from work import Row

#: Rounds before those that are counted.
WARM_UP_ROUNDS: Final = 40

#: At least so many rounds are counted, and so many messages, or handshakes.
MIN_ROUNDS: Final = 6
MIN_MESSAGES: Final = 100

#: Each row is done so often, each time with so many types made before. Python's cache of attributes of types is indexed
#: by the number of the type and the address of the name: where two that are often looked up share an entry, a message
#: takes up to 1 % more, by chance. Other numbers, other chances; such an accident only adds, so that the least is it.
TYPES_BEFORE: Final = (0, 500, 1500)


class Nothing:
    """Stands for the library where nothing is counted."""

    def begin(self) -> None:
        """Do nothing."""

    def toggle(self) -> None:
        """Do nothing."""

    def dump(self, name: bytes) -> None:
        """Do nothing."""


def do(row: Row, callgrind: Any, types_before: int) -> dict[str, object]:
    """Do one row, and give what was done while it was counted."""
    for _ in range(types_before):
        hasattr(type("Numbered", (), {}), "name")  # a type gets its number when it is first asked for something
    lockstep.begin_log()
    relay = lockstep.Relay(row.history)
    crowd = lockstep.Arrivals(relay, row) if row.idle else lockstep.Crowd(relay, row)
    for _ in range(WARM_UP_ROUNDS):
        crowd.round()
    rounds = max(MIN_ROUNDS, -(-MIN_MESSAGES // crowd.round_messages))
    gc.collect()
    callgrind.begin()
    relay.count, relay.turns = callgrind.toggle, 0
    for _ in range(rounds):
        crowd.round()
    callgrind.dump(row.name.encode())
    return {"row": row.name, "messages": rounds * crowd.round_messages, "turns": relay.turns}


def do_in_child(row: Row, callgrind: Any, types_before: int) -> bool:
    """Do one row in a process of its own, print what was done, and give whether all went well."""
    child = os.fork()
    if not child:
        code = 1
        try:
            print(json.dumps(do(row, callgrind, types_before)), flush=True)
            code = 0
        except BaseException:  # noqa: BLE001 - told here, because the process ends here
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def main(arguments: list[str]) -> int:
    """Do the rows that are named, or all of them."""
    parser = argparse.ArgumentParser(prog="instructions.py")
    parser.add_argument("--library", metavar="FILE", help="the compiled callgrind.c; counts nothing without it")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="default all")
    options = parser.parse_args(arguments)
    # PyDLL: CDLL would let go of the interpreter's lock for each call, which is counted.
    callgrind = ctypes.PyDLL(options.library) if options.library else Nothing()
    rows = [work.GUARDED[name] for name in options.rows or work.GUARDED]
    done = [do_in_child(row, callgrind, types_before) for row in rows for types_before in TYPES_BEFORE]
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
