"""``python -m wsrelay`` is ``wsrelay``, also in that no module is looked for in the current folder first.

Must not live here: the commands (:mod:`wsrelay.commands.main`).
"""

import os
import sys


def _is_current(folder: str) -> bool:
    return not folder or (os.path.isdir(folder) and os.path.samefile(folder, os.curdir))


if __name__ == "__main__":
    # Python's -m puts that folder first: its token.py would hide Python's own. It stays if this package is in it.
    if (
        not sys.flags.safe_path
        and _is_current(sys.path[0])
        and sys.path[0] != os.path.dirname(os.path.dirname(__file__))
    ):
        del sys.path[0]

    from wsrelay.commands.main import main

    sys.exit(main())
